"""People's files to ours: alignment, LFW, CFP, lists of pairs, folders of images.

May import formats and all below them.
To add a source: a file that writes with `formats`, and a verb in `cli/prepare.py`.
"""
