"""The loop: learner, optimiser, checkpoint, chunks, plan. `python -m facelib.training.train RUN`.

May import data and all below it.
To add a setting: one line in config.py, and its use here; a loss is never named here.
"""
