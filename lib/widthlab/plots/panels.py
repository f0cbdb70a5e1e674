"""Parts of which figures are made: panels, lines of many runs, one legend below."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from widthlab.claims.estimates import ClaimError
from widthlab.plots.style import LINE_INCHES, WIDTH_INCHES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def panels(
    count: int,
    *,
    columns: int = 2,
    height: float = 2.5,
    title: str | None = None,
    **options: Any,
) -> tuple[Figure, list[Axes]]:
    """Return a figure of equal panels, as wide as the page.

    Args:
        count: How many.
        columns: Panels in a row, 1 or 2: three would not be legible on a phone.
        height: Inches per row.
        title: What the vertical axes show, above all panels.
        **options: Passed on to `matplotlib.pyplot.subplots`.

    Raises:
        ClaimError: `columns` is not 1 or 2.
    """
    import matplotlib.pyplot as plt

    if columns not in (1, 2):
        raise ClaimError(f"columns must be 1 or 2, got {columns}")
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (WIDTH_INCHES, height * rows + 0.3)
    fig, axes = plt.subplots(
        *(rows, columns),
        **{"figsize": size, "squeeze": False, "layout": "constrained", **options},
    )
    for spare in axes.flat[count:]:
        spare.axis("off")
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=12.5)
    return fig, [*axes.flat[:count]]


def each_run(
    ax: Axes, x: Any, curves: Iterable[Any], *, label: str, **style: Any
) -> None:
    """Draw one line for each run, alike, with one entry in the legend.

    Args:
        ax: Where to draw.
        x: What all curves are drawn against.
        curves: One for each run.
        label: What the legend calls them.
        **style: As `Axes.plot` takes it.
    """
    for index, curve in enumerate(curves):
        ax.plot(x, curve, label="_" if index else label, **style)


def legend_below(fig: Figure, title: str | None = None, *, columns: int = 2) -> None:
    """Put one legend of all axes under them; the figure grows, not they shrink.

    Args:
        fig: The figure; a label that several axes have is listed once.
        title: Above the entries, such as the number of seeds.
        columns: Entries in a row.
    """
    handles: dict[str, Any] = {}
    for ax in fig.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    columns = min(columns, len(handles))
    rows = -(-len(handles) // columns) + (title is not None)
    fig.set_figheight(fig.get_figheight() + rows * LINE_INCHES)
    fig.legend(
        *([*handles.values()], [*handles]),
        title=title,
        loc="outside lower center",
        ncols=columns,
        columnspacing=1.2,
    )
