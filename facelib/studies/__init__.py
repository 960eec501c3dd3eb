"""One file per chapter of the study, and what chapters share: results, plots, records.

May import audit and all below it; only notebooks, runner and cli import it.
To add a chapter: a notebook and one file here; numbers come from files, never from kernels.
"""
