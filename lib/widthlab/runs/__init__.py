"""Runs: specified, cut into cells, run anywhere, and kept as records."""
