"""Runs: specified, cut into cells, run anywhere, and kept as records."""

from widthlab.runs.grid import grid
from widthlab.runs.tables import by_seed, paired, select

__all__ = ["by_seed", "grid", "paired", "select"]
