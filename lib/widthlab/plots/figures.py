"""The book's recurring figures, with theory drawn in.

Colour and marker tell parametrizations apart; line style is kept for what a line is:
solid for measurement, dashed for a predicted slope, dotted for an infinite-width limit.
How figures look and where alt text goes is in `widthlab.plots.style`, their parts
in `widthlab.plots.panels`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve

from widthlab.claims.estimates import ClaimError, Estimate, geometric_mean, mean
from widthlab.plots.axes import (
    figure_of,
    legend_only,
    log_ticks,
    name_above,
    signed,
    width_axis,
)
from widthlab.plots.panels import legend_below
from widthlab.plots.panels import panels as panel_grid
from widthlab.plots.style import COLOURS, LIMIT, PREDICTED, look
from widthlab.plots.style import label as label_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["against_step", "against_width", "limit", "small_multiples"]


def against_width(
    ax: Axes,
    frame: pd.DataFrame,
    value: str = "value",
    *,
    hue: str = "parametrization",
    slopes: Mapping[Any, Estimate] | None = None,
    predicted: Mapping[Any, float] | None = None,
    title: str | None = None,
    legend: bool = True,
    floor: float | None = None,
) -> int:
    """Draw the geometric mean over seeds against width, both axes logarithmic.

    Bars are the 95% interval of the mean. A predicted slope is a dashed line in its
    series' colour through the geometric middle of that series: theory fixes the slope
    here, not the height.

    Args:
        ax: Where to draw.
        frame: One row per run, with columns `width`, `seed`, `hue` and `value`.
        value: Column to draw, positive.
        hue: Column that tells series apart.
        slopes: Measured slope of each series, written beside its name.
        predicted: Predicted slope of each series.
        title: What the vertical axis shows; the column's name otherwise. It stands
            above the axes, where it is read without turning the phone.
        legend: Whether to draw the legend, below the axes.
        floor: Values below it are drawn on it, with a dotted line: numerical zero.

    Returns:
        The number of seeds n for the caption (the smallest over points).

    Raises:
        ClaimError: A column is missing, a run appears twice, a value has no logarithm,
            or slopes are given for a series that is not drawn.
    """
    series = dict(_series(frame, value, hue, "width"))
    for name, given in (("slopes", slopes), ("predicted", predicted)):
        unknown = sorted(set(given or ()) - set(series), key=str)
        if unknown:
            raise ClaimError(f"{name} for {unknown}, but the series are {[*series]}")
    n = math.inf
    for index, (key, points) in enumerate(series.items()):
        label = label_of(key)
        if slopes and key in slopes:
            slope = slopes[key]
            label += f": {signed(slope.value)}"
            label += f" [{signed(slope.low)}, {signed(slope.high)}]"
        style = look(key, index)
        widths, estimates = _interval(points, value, "width", geometric_mean, floor)
        n = min(n, *(estimate.seeds for estimate in estimates))
        values = np.array([[e.value, e.low, e.high] for e in estimates]).T
        # Where theory has a line the measured one steps back to its points.
        theory = bool(predicted) and key in predicted
        ax.plot(widths, values[0], linestyle="none", label=label, **style)
        joined = {"color": style["color"], "zorder": 1.9}
        ax.plot(widths, values[0], alpha=0.35 if theory else 1.0, **joined)
        ax.vlines(widths, *values[1:], linewidth=1.4, **joined)
        if predicted and theory:
            middle = np.log(values[0]).mean()
            x = np.log(widths)
            line = np.exp(middle + predicted[key] * (x - x.mean()))
            ax.plot(widths, line, linestyle=PREDICTED, linewidth=1.7, **joined)
    if floor is not None:
        limit(ax, floor, label="numerical zero")
    width_axis(ax, np.unique(frame["width"]).tolist())
    ax.set_yscale("log")
    log_ticks(ax)
    name_above(ax, title or value)
    if predicted:
        legend_only(ax, "predicted slope", PREDICTED)
    if legend:
        shown = "slope" if slopes else "mean"
        legend_below(figure_of(ax), _seeds(int(n), shown), columns=1 if slopes else 2)
    return int(n)


def small_multiples(
    frame: pd.DataFrame,
    value: str = "value",
    *,
    panels: str | Sequence[str] = "layer",
    titles: Callable[[Any], str] | None = None,
    columns: int = 2,
    draw: Callable[..., int] = against_width,
    predicted: Mapping[Any, Mapping[Any, float]] | None = None,
    height: float = 2.5,
    title: str | None = None,
    share_y: bool = True,
    **options: Any,
) -> Figure:
    """Draw one panel per value of a column, with one legend underneath.

    Args:
        frame: Rows as for `draw`, with the column `panels`.
        value: Column to draw.
        panels: Column that tells panels apart; of several, a panel's value is a tuple.
        titles: Title of a panel from its value; "layer 2" otherwise.
        columns: Panels in a row, 1 or 2: three would not be legible on a phone.
        draw: `against_width` or `against_step`.
        predicted: Predicted slopes of each panel, panel value to series to slope, as
            `Prediction.lines` has them.
        height: Inches per row.
        title: What the vertical axes show, above all panels.
        share_y: Whether panels have one vertical scale.
        **options: Passed on to `draw`.

    Raises:
        ClaimError: No such column or no rows, or `columns` is not 1 or 2.
    """
    by = [panels] if isinstance(panels, str) else list(panels)
    _require(frame, [*by, value])
    groups = dict(list(frame.groupby(by if len(by) > 1 else by[0])))
    fig, drawn = panel_grid(
        len(groups),
        columns=columns,
        height=height,
        title=title or value,
        sharey=share_y,
    )
    seeds = []
    for index, (ax, (key, chosen)) in enumerate(
        zip(drawn, groups.items(), strict=True)
    ):
        extra = {} if predicted is None else {"predicted": predicted.get(key)}
        name = titles(key) if titles else f"{', '.join(by)} {key}"
        seeds.append(
            draw(ax, chosen, value, title=name, legend=False, **extra, **options)
        )
        if index < len(groups) - columns:
            ax.set_xlabel("")
    for ax in drawn:
        if ax.get_yscale() == "log":
            log_ticks(ax)  # the shared range is known only now
    spare = [ax for ax in fig.axes if ax not in drawn]
    _shared_legend(fig, spare, min(seeds))
    return fig


def _shared_legend(fig: Figure, spare: Sequence[Axes], n: int) -> None:
    """One entry per label over all panels: in the empty panel, else underneath."""
    if not spare:
        legend_below(fig, _seeds(n), columns=3)
        return
    handles: dict[str, Any] = {}
    for ax in fig.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    title = _seeds(n).replace(", ", ",\n")
    spare[0].legend(handles.values(), handles, loc="center", title=title)


def against_step(
    ax: Axes,
    frame: pd.DataFrame,
    value: str = "value",
    *,
    hue: str = "parametrization",
    log: bool = True,
    title: str | None = None,
    legend: bool = True,
) -> int:
    """Draw the mean over seeds against training step, with a band of the 95% interval.

    Args:
        ax: Where to draw.
        frame: One row per run and step: `step`, `seed`, `hue` and `value`.
        value: Column to draw.
        hue: Column that tells series apart.
        log: Logarithmic vertical axis and geometric mean; arithmetic otherwise.
        title: What the vertical axis shows; the column's name otherwise. It stands
            above the axes, where it is read without turning the phone.
        legend: Whether to draw the legend, below the axes.

    Returns:
        The number of seeds n for the caption (the smallest over points).

    Raises:
        ClaimError: As `against_width`.
    """
    n = math.inf
    average = geometric_mean if log else mean
    for index, (key, points) in enumerate(_series(frame, value, hue, "step")):
        style = look(key, index)
        steps, estimates = _interval(points, value, "step", average)
        n = min(n, *(estimate.seeds for estimate in estimates))
        # Few markers, offset between series, so that coinciding curves stay visible.
        every = max(1, len(steps) // 6)
        ax.plot(
            *(steps, [e.value for e in estimates]),
            label=label_of(key),
            markevery=(index * every // 4 % every, every),
            **style,
        )
        low, high = ([getattr(e, end) for e in estimates] for end in ("low", "high"))
        ax.fill_between(steps, low, high, color=style["color"], alpha=0.18, linewidth=0)
    ax.set_xlabel("step")
    name_above(ax, title or value)
    if log:
        ax.set_yscale("log")
        log_ticks(ax)
    if legend:
        legend_below(figure_of(ax), _seeds(int(n)))
    return int(n)


def limit(ax: Axes, height: float, *, label: str = "infinite-width limit") -> None:
    """Draw a horizontal dotted line: where theory fixes the height itself."""
    ax.axhline(height, linestyle=LIMIT, color="#333333", label=label, zorder=1.7)


def _series(
    frame: pd.DataFrame, value: str, hue: str, x: str
) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Rows of each series, in the palette's order so that legends agree."""
    _require(frame, [value, hue, x, "seed"])
    repeated = frame.duplicated([hue, x, "seed"])
    if repeated.any():
        raise ClaimError(
            f"{int(repeated.sum())} rows repeat a ({hue}, {x}, seed); select one "
            "quantity and layer, so that each run counts once"
        )
    order = {name: rank for rank, name in enumerate(COLOURS)}
    keys = sorted(frame[hue].unique(), key=lambda key: order.get(key, len(order)))
    for key in keys:
        yield key, frame.loc[frame[hue] == key]


def _require(frame: pd.DataFrame, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise ClaimError(f"no column {missing}; the frame has {[*frame.columns]}")
    if frame.empty:
        raise ClaimError("nothing to draw: the frame has no rows")


def _interval(
    points: pd.DataFrame,
    value: str,
    x: str,
    average: Callable[[np.ndarray], Estimate],
    floor: float | None = None,
) -> tuple[np.ndarray, list[Estimate]]:
    """Distinct x of a series and the estimate at each; no bar for a single seed."""
    at = points[x].to_numpy(dtype=float)
    values = points[value].to_numpy(dtype=float)
    if floor is not None:
        values = np.maximum(values, floor)
    places = np.unique(at)
    estimates = []
    for place in places:
        sample = values[at == place]
        if sample.size > 1:
            estimates.append(average(sample))
        else:
            once = average(np.repeat(sample, 2))  # refuses what has no mean
            estimates.append(evolve(once, seeds=1, kind="exact"))
    return places, estimates


def _seeds(n: int, shown: str = "mean") -> str:
    if n == 1:
        return f"{shown}, n = 1 seed"
    return f"{shown} and 95% interval, n = {n} seeds"
