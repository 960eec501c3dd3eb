"""Notebooks as programs: parameters, execution, sweeps, the study, the site.

May import studies and all below them.
To add a notebook: notebooks/NN_title.ipynb; it is found by its number.
"""
