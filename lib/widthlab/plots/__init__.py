"""Figures: one theme, and the book's recurring ones with theory drawn in."""

from widthlab.plots.figures import (
    against_step,
    against_width,
    limit,
    small_multiples,
)
from widthlab.plots.panels import each_run, legend_below, panels
from widthlab.plots.style import COLOURS, LABELS, PREDICTED, show, theme

__all__ = [
    "COLOURS",
    "LABELS",
    "PREDICTED",
    "against_step",
    "against_width",
    "each_run",
    "legend_below",
    "limit",
    "panels",
    "show",
    "small_multiples",
    "theme",
]
