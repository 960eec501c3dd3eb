"""Who of a benchmark is in a training set: names, image hashes, embeddings.

May import evaluate and all below it.
To add a signal: a function here, a column in `checks.SIGNALS`.
"""
