"""Arrays in, numbers out: verification, bootstrap, comparison, templates, identification,
clustering, geometry.

May import paths and errors only.
To add one: a pure function; its docstring says formula, shapes, ties and source.
"""
