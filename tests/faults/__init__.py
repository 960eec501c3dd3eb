"""Faults: damaged files and killed processes."""
