"""The verbs of `python -m facelib`: arguments in, one call of a lower room, text out.

May import everything (inside functions, so that help is fast); nobody imports it.
To add a verb: `add_NAME(verbs)` in a file here, and its name in `cli/main.py`.
"""
