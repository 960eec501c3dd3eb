"""A model and a benchmark in, embeddings and scores out, kept beside the run.

May import training and all below it.
To add a benchmark of a new kind: a file here; its figures belong in metrics.
"""
