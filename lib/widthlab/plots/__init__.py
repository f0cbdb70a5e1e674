"""Figures: one theme, and the book's recurring ones with theory drawn in."""

from widthlab.plots.figures import (
    against_step,
    against_width,
    limit,
    small_multiples,
)
from widthlab.plots.panels import each_run, legend_below, panels
from widthlab.plots.style import (
    COLOURS,
    DPI,
    LABELS,
    MARKERS,
    PREDICTED,
    WIDTH_INCHES,
    missing_alt,
    show,
    theme,
)

__all__ = [
    "COLOURS",
    "DPI",
    "LABELS",
    "MARKERS",
    "PREDICTED",
    "WIDTH_INCHES",
    "against_step",
    "against_width",
    "each_run",
    "legend_below",
    "limit",
    "missing_alt",
    "panels",
    "show",
    "small_multiples",
    "theme",
]
