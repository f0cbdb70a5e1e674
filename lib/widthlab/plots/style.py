"""How figures look and are shown: theme, colours, PNG, alt text.

Colour and marker tell parametrizations apart; line style is kept for what a line is:
solid for measurement, dashed for a predicted slope, dotted for an infinite-width limit.

Figures are opaque PNGs on white, in the dark theme too: a transparent figure would put
dark text on a dark page, and two versions of each would double the size of a chapter.
They are 6 inches wide with 12-point text, which at 320 pixels is 9 pixels high; panels
are stacked at most two in a row for the same reason.

Alt text is metadata of the code cell, since that is the one place that the book's
builder (MyST-NB) reads it from; one figure to a cell. In a chapter's MyST source:

~~~text
```{code-cell} ipython3
---
mystnb:
  image:
    alt: Feature change against width. μP stays level, NTP falls as width^-1/2.
---
plots.show(fig)
```
~~~

`missing_alt` lists the figures of a notebook that have none.
"""

from __future__ import annotations

import builtins
from base64 import b64encode
from collections.abc import Hashable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "LABELS", "MARKERS", "missing_alt", "show", "theme"]

# Found by search: each has contrast 3:1 or more on white, and under simulated
# protanopia, deuteranopia and tritanopia (Machado et al. 2009) every pair stays 20 or
# more CIELAB units apart. Okabe and Ito's palette has three colours too pale for lines.
COLOURS = {
    "sp": "#222222",
    "sp-lr/n": "#646464",
    "ntk": "#0072B2",
    "mean-field": "#782800",
    "ip": "#7800F0",
    "ip-llr": "#28148C",
    "ip-bias": "#691E69",
    "ip-non-centred": "#B45AFF",
    "mup": "#D55E00",
    "hpz": "#8796A5",
    "nup": "#B48C64",
    "nup-normalised": "#2A0030",
}
"""The colour of each parametrization, by name."""

MARKERS = {
    "sp": "X",
    "sp-lr/n": "s",
    "ntk": "^",
    "mean-field": "P",
    "ip": "v",
    "ip-llr": "*",
    "ip-bias": "<",
    "ip-non-centred": ">",
    "mup": "o",
    "hpz": "h",
    "nup": "D",
    "nup-normalised": "p",
}
"""The marker of each parametrization, by name."""

LABELS = {
    "sp": "SP",
    "sp-lr/n": "SP (lr/n)",
    "ntk": "NTP",
    "mean-field": "MF",
    "ip": "IP",
    "ip-llr": "IP-LLR",
    "ip-bias": "IP-bias",
    "ip-non-centred": "IP-non-centred",
    "mup": "μP",
    "hpz": "HPZ",
    "nup": "νP",
    "nup-normalised": "νP (normalised)",
}
"""What legends call each parametrization."""

WIDTH_INCHES = 6.0
LINE_INCHES = 0.25
DPI = 130
PREDICTED = (0, (4, 2))  # dashes
LIMIT = (0, (1, 1.5))  # dots
# Other groupings (activations, depths) take these in order of appearance.
_OTHERS = ("#0072B2", "#D55E00", "#222222", "#7800F0", "#782800", "#646464", "#28148C")


def theme() -> None:
    """Set the book's look; once, in the first cell of a chapter."""
    import seaborn as sns

    sns.set_theme(
        context="notebook",
        style="ticks",
        rc={
            "figure.figsize": (WIDTH_INCHES, 3.4),
            "figure.dpi": DPI,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "savefig.transparent": False,
            "axes.facecolor": "white",
            "axes.edgecolor": "#333333",
            "axes.grid": True,
            "axes.titlesize": 12.5,
            "axes.labelsize": 12.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#E4E4E4",
            "font.size": 12,
            "xtick.labelsize": 12,
            "ytick.labelsize": 12,
            "legend.fontsize": 12,
            "legend.title_fontsize": 12,
            "legend.frameon": False,
            "lines.linewidth": 2.0,
            "lines.markersize": 7,
        },
    )


def look(key: Hashable, index: int) -> dict[str, Any]:
    """Return the colour and marker of a series, the same in every figure."""
    if isinstance(key, str) and key in COLOURS:
        return {"color": COLOURS[key], "marker": MARKERS[key]}
    markers = [*MARKERS.values()]
    return {
        "color": _OTHERS[index % len(_OTHERS)],
        "marker": markers[index % len(markers)],
    }


def label(key: Hashable) -> str:
    """Name of a series in legends."""
    return LABELS.get(key, str(key)) if isinstance(key, str) else str(key)


def show(fig: Figure) -> None:
    """Display a figure in a notebook as an opaque PNG, and close it.

    The same size whatever the notebook's own settings. Alt text goes to the cell's
    metadata (see the module's docstring).
    """
    import matplotlib.pyplot as plt

    stream = BytesIO()
    fig.savefig(stream, format="png", dpi=DPI, facecolor="white")
    plt.close(fig)
    data = {"image/png": _shrink(stream.getvalue()), "text/plain": "<Figure>"}
    # What a notebook's kernel puts there: the library itself needs no IPython.
    if display := getattr(builtins, "display", None):
        display(data, raw=True)


def missing_alt(notebook: Mapping[str, Any]) -> list[str]:
    """List the cells of a notebook (its JSON) whose figure lacks alt text, in words.

    >>> cell = {"cell_type": "code", "source": "plots.show(fig)", "metadata": {},
    ...         "outputs": [{"data": {"image/png": ""}}]}
    >>> missing_alt({"cells": [cell]})
    ['cell 0 (plots.show(fig)): no alt text']
    """
    problems = []
    for index, cell in enumerate(notebook["cells"]):
        images = [
            mime
            for output in cell.get("outputs", ())
            for mime in output.get("data", ())
            if mime.startswith("image/")
        ]
        if not images:
            continue
        lines = "".join(cell["source"]).strip().splitlines() or [""]
        where = f"cell {index} ({lines[-1]})"
        image = cell.get("metadata", {}).get("mystnb", {}).get("image", {})
        if not str(image.get("alt") or "").strip():
            problems.append(f"{where}: no alt text")
        elif len(images) > 1:
            problems.append(f"{where}: {len(images)} figures share one alt text")
    return problems


def _shrink(png: bytes) -> str:
    """The picture in base64 with 128 colours: a third of the size, no visible loss."""
    from PIL import Image

    stream = BytesIO()
    picture = Image.open(BytesIO(png)).convert("RGB").quantize(128)
    picture.save(stream, format="png", optimize=True)
    return b64encode(stream.getvalue()).decode()
