"""rendered."""
