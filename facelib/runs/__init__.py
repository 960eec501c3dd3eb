"""Run folders, and the subprocess that trains one.

May import config and what stands below it; heavy libraries only inside functions.
To add a file to a run: write it with `paths.atomic_file`, read it with a reader here.
"""
