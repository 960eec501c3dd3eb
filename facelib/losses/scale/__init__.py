"""Losses without their whole matrix: by blocks, and with class centres spread over processes."""
