"""Bytes: RecordIO, InsightFace `.bin` files, benchmarks, decoding of images. No torch here.

May import paths, digests and errors only.
To add a format: one file with the byte layout as a table at its top; errors say file, offset,
found, wanted, next command.
"""
