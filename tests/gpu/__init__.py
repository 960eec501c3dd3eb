"""What a GPU must compute as a CPU does: `make gpu`. Skipped where there is none."""
