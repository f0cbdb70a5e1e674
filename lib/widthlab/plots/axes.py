"""Axes of the recurring figures: widths in octaves, powers of ten, names above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def signed(number: float) -> str:
    """Return two decimals with a minus sign that is as wide as a plus."""
    return f"{number:+.2f}".replace("-", "−")


def width_axis(ax: Axes, widths: Sequence[float]) -> None:
    """Draw a log2 axis with the widths as plain integers."""
    from matplotlib.ticker import (
        FixedLocator,
        FuncFormatter,
        NullFormatter,
        NullLocator,
    )

    ax.set_xscale("log", base=2)
    # Every width has a tick, but no more than five fit in half a figure's width.
    step = -(-len(widths) // 5)
    ax.xaxis.set_major_locator(FixedLocator(widths[::-1][::step][::-1]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:.0f}"))
    ax.xaxis.set_minor_locator(FixedLocator(widths) if step > 1 else NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("width n")


def name_above(ax: Axes, text: str) -> None:
    """Say what the vertical axis shows above it, read without turning the phone."""
    ax.set_title(text, loc="left")


def log_ticks(ax: Axes) -> None:
    """Label enough ticks for the range shown: 1, 2, 5 over less than two decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_ylim()
    decades = math.log10(high / low)
    subs = (1.0, 2.0, 5.0) if decades < 2 else (1.0,)
    if decades < 0.5:
        subs = tuple(range(1, 10))
    ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _power(y)))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _power(number: float) -> str:
    if 1e-3 < number < 1e4:
        return f"{number:g}"
    exponent = math.floor(math.log10(number) + 1e-9)
    lead = round(number / 10.0**exponent)
    factor = "" if lead == 1 else rf"{lead} \times "
    return f"${factor}10^{{{exponent}}}$"


def legend_only(ax: Axes, label: str, linestyle: Any) -> None:
    """Add one neutral entry for a kind of line that each series draws in colour."""
    ax.plot([], [], linestyle=linestyle, color="#333333", label=label)


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes belong to."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure
