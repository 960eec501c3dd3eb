"""Losses: one small, readable class each."""
