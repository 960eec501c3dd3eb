"""Embedding, verification protocols and comparisons."""
