"""One rule each for what can go wrong: files of people and runs, ends of commands, orphans.

May import paths and errors only.
To add a kind of file: a reader in `readers.py`, so that its errors say file, place, found, wanted
and the next command.
"""
