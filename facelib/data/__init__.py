"""Training sets as tensors: records, split, sampler, loader, the feed of each step.

May import rendered.dataset, models and all below them.
To add a source of images: a branch in `locate.py` that returns a folder with train.rec, or a
reader as in `folder.py`.
"""
