"""What a figure must show, and that it can be read."""

import base64
import builtins
import itertools
import subprocess
import sys
from io import BytesIO

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from widthlab import plots
from widthlab.claims.estimates import ClaimError, Estimate
from widthlab.claims.slopes import slope
from widthlab.parametrization import catalogue
from widthlab.plots import style

SLOPES = {"mup": 0.0, "ntk": -0.5}
WIDTHS = [64, 128, 256, 512]


@pytest.fixture(autouse=True)
def themed():
    with matplotlib.rc_context():
        plots.theme()
        yield
    plt.close("all")


def runs(seeds=3, layers=(1,), x="width", places=WIDTHS):
    """Power laws in x with a little seed noise."""
    rng = np.random.default_rng(0)
    cells = itertools.product(SLOPES, layers, places, range(seeds))
    rows = [
        (name, layer, at, seed, at ** SLOPES[name] * np.exp(0.05 * rng.normal()))
        for name, layer, at, seed in cells
    ]
    return pd.DataFrame(
        rows, columns=["parametrization", "layer", x, "seed", "feature_change"]
    )


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB of linear RGB."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722]]
    to_xyz.append([0.0193, 0.1192, 0.9505])
    x = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes 2009, severity 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}


@pytest.mark.parametrize("colour", sorted({*plots.COLOURS.values(), *style._OTHERS}))
def test_colours_contrast_with_the_page(colour):
    """WCAG asks 3:1 of lines and marks."""
    luminance = linear(colour) @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) >= 3


@pytest.mark.parametrize("vision", VISION)
def test_colours_differ_for_every_eye(vision):
    seen = {k: lab(np.array(VISION[vision]) @ linear(c)) for k, c in COLOURS.items()}
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 20, (a, b)


COLOURS = plots.COLOURS


def test_every_parametrization_has_one_look():
    assert plots.COLOURS.keys() == style.MARKERS.keys() == plots.LABELS.keys()
    for looks in (plots.COLOURS, style.MARKERS, plots.LABELS):
        assert len(set(looks.values())) == len(looks)
    drawn = [table for name, table in catalogue().items() if name != "hp"]
    for parametrization in drawn:  # HP trains the functions of IP-LLR
        assert plots.LABELS[parametrization.name] == parametrization.label


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def dashed(ax):
    """Lines with data in the style kept for predictions."""
    lines = [line for line in ax.lines if len(line.get_xdata())]
    return [line for line in lines if line._unscaled_dash_pattern == plots.PREDICTED]


def test_against_width_draws_points_theory_and_n():
    frame, (fig, ax) = runs(), plt.subplots()
    measured = {
        name: slope(rows, value="feature_change")
        for name, rows in frame.groupby("parametrization")
    }
    n = plots.against_width(
        ax, frame, "feature_change", slopes=measured, predicted=SLOPES, title="change"
    )
    assert n == 3
    assert ax.xaxis.get_transform().base == 2
    assert ax.get_yscale() == "log"
    fig.canvas.draw()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["64", "128", "256", "512"]
    assert ax.get_title(loc="left") == "change"

    legend = fig.legends[0]
    assert "n = 3 seeds" in legend.get_title().get_text()
    labels = texts(legend)
    assert len(labels) == 3 and labels[-1] == "predicted slope"
    assert labels[0].startswith("NTP: −0.") and "[" in labels[0]
    assert labels[1].startswith("μP: ")

    theory = dashed(ax)
    assert {to_hex(line.get_color()).upper() for line in theory} == {
        plots.COLOURS["mup"],
        plots.COLOURS["ntk"],
    }
    for line in theory:
        x, y = np.log(line.get_xdata()), np.log(line.get_ydata())
        name = next(k for k in SLOPES if line.get_color() == plots.COLOURS[k])
        assert np.polyfit(x, y, 1)[0] == pytest.approx(SLOPES[name], abs=1e-9)
        values = frame.loc[frame["parametrization"] == name, "feature_change"]
        assert y.mean() == pytest.approx(np.log(values).mean())  # geometric middle


def test_without_theory_nothing_is_dashed():
    fig, ax = plt.subplots()
    plots.against_width(ax, runs(), "feature_change")
    assert dashed(ax) == []
    assert texts(fig.legends[0]) == ["NTP", "μP"]


def test_looks_do_not_depend_on_which_series_are_drawn():
    frame, (_, (one, two)) = runs(), plt.subplots(1, 2)
    plots.against_width(one, frame, "feature_change", legend=False)
    only = frame[frame["parametrization"] == "mup"]
    plots.against_width(two, only, "feature_change", legend=False)

    def look(ax):
        line = next(line for line in ax.lines if line.get_label() == "μP")
        return line.get_color(), line.get_marker()

    assert look(one) == look(two) == (plots.COLOURS["mup"], style.MARKERS["mup"])


def test_other_groupings_get_distinct_looks():
    frame, (_, ax) = runs(), plt.subplots()
    frame["activation"] = frame["parametrization"].map({"mup": "tanh", "ntk": "relu"})
    plots.against_width(ax, frame, "feature_change", hue="activation")
    lines = [line for line in ax.lines if line.get_label() in ("tanh", "relu")]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 2


def test_many_widths_keep_their_labels_apart():
    frame, (fig, ax) = runs(places=[2**k for k in range(6, 14)]), plt.subplots()
    plots.against_width(ax, frame, "feature_change")
    fig.canvas.draw()
    assert not overlapping(ax.get_xticklabels())
    assert ax.get_xticklabels()[-1].get_text() == "8192"


def test_a_floor_is_drawn_and_named():
    frame, (fig, ax) = runs(), plt.subplots()
    frame.loc[frame["width"] == 512, "feature_change"] = -1e-17
    with pytest.raises(ClaimError, match="not finite and positive"):
        plots.against_width(ax, frame, "feature_change")
    fig, ax = plt.subplots()
    plots.against_width(ax, frame, "feature_change", floor=1e-12)
    assert "numerical zero" in texts(fig.legends[0])
    assert min(np.min(line.get_ydata()) for line in ax.lines) == 1e-12


def overlapping(artists):
    boxes = [a.get_window_extent() for a in artists if a.get_visible()]
    return any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("layers", [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)])
def test_small_multiples_share_one_legend_that_covers_nothing(layers):
    frame = runs(layers=layers)
    predicted = {layer: SLOPES for layer in layers}
    fig = plots.small_multiples(
        frame, "feature_change", predicted=predicted, titles="hidden layer {}".format
    )
    drawn = [ax for ax in fig.axes if ax.lines]
    assert len(drawn) == len(layers)
    assert drawn[-1].get_title(loc="left") == f"hidden layer {layers[-1]}"
    assert len({ax.get_ylim() for ax in drawn}) == 1
    legends = [*fig.legends, *(ax.get_legend() for ax in fig.axes if ax.get_legend())]
    assert len(legends) == 1
    assert texts(legends[0]) == ["NTP", "μP", "predicted slope"]
    fig.canvas.draw()
    box = legends[0].get_window_extent()
    assert not any(box.overlaps(ax.get_tightbbox()) for ax in drawn)
    assert fig.bbox.y0 <= box.y0 and box.y1 <= fig.bbox.y1
    assert fig.bbox.x0 <= box.x0 and box.x1 <= fig.bbox.x1
    assert all(len(dashed(ax)) == 2 for ax in drawn)
    assert any(ax.get_xlabel() for ax in drawn)


@pytest.mark.parametrize("log", [True, False])
def test_against_step_has_a_band_and_n(log):
    frame, (fig, ax) = runs(x="step", places=range(1, 100, 10)), plt.subplots()
    assert plots.against_step(ax, frame, "feature_change", log=log) == 3
    assert ax.get_yscale() == ("log" if log else "linear")
    assert len(ax.collections) == 2
    low, high = ax.collections[0].get_datalim(ax.transData).intervaly
    middle = ax.lines[0].get_ydata()
    assert low < middle.min() and high > middle.max()
    assert "n = 3 seeds" in fig.legends[0].get_title().get_text()


def test_one_seed_is_drawn_without_a_bar_and_says_so():
    _, ax = plt.subplots()
    assert plots.against_width(ax, runs(seeds=1), "feature_change") == 1
    segments = np.array(ax.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, 0], segments[:, 1])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: f, {"predicted": {"mpu": 0.0}}, "mpu"),
        (lambda f: f, {"slopes": {"ip": Estimate(0, 0, 0, 3)}}, "ip"),
        (lambda f: f.drop(columns="seed"), {}, "seed"),
        (lambda f: pd.concat([f, f]), {}, "rows repeat"),
        (lambda f: f[:0], {}, "no rows"),
    ],
)
def test_figures_refuse(change, options, message):
    _, ax = plt.subplots()
    with pytest.raises(ClaimError, match=message):
        plots.against_width(ax, change(runs()), "feature_change", **options)


def test_three_panels_in_a_row_are_refused():
    with pytest.raises(ClaimError, match="columns"):
        plots.small_multiples(runs(), "feature_change", columns=3)


def test_show_makes_a_small_opaque_png_and_closes(monkeypatch):
    from PIL import Image

    shown = []
    monkeypatch.setattr(
        builtins, "display", lambda data, raw: shown.append(data), raising=False
    )
    fig = plots.small_multiples(runs(layers=(1, 2, 3, 4)), "feature_change")
    plots.show(fig)
    assert not plt.fignum_exists(fig.number)
    png = base64.b64decode(shown[0]["image/png"])
    assert len(png) < 70_000
    picture = Image.open(BytesIO(png))
    assert picture.width == round(style.WIDTH_INCHES * style.DPI)
    corner = picture.convert("RGBA").getpixel((0, 0))
    assert corner == (255, 255, 255, 255)
    assert shown[0]["text/plain"] == "<Figure>"


def test_text_is_legible_on_a_phone():
    """At 320 pixels wide every text is at least 8.5 pixels high."""
    fig, ax = plt.subplots()
    plots.against_width(ax, runs(), "feature_change", predicted=SLOPES)
    fig.canvas.draw()
    written = [
        text
        for text in fig.findobj(matplotlib.text.Text)
        if text.get_text() and text.get_visible()
    ]
    assert written
    pixels_per_point = 320 / (fig.get_figwidth() * 72)
    assert min(t.get_fontsize() for t in written) * pixels_per_point >= 8.5


def cell(alt=None, images=1, kind="code"):
    metadata = {} if alt is None else {"mystnb": {"image": {"alt": alt}}}
    outputs = [{"data": {"image/png": "", "text/plain": "<Figure>"}}] * images
    made = {"cell_type": kind, "source": ["x = 1\n", "show(fig)"], "metadata": metadata}
    return made | ({"outputs": outputs} if kind == "code" else {})


def test_missing_alt():
    good = [cell("A line."), cell(images=0), cell(kind="markdown")]
    assert style.missing_alt({"cells": good}) == []
    bad = [cell(), cell(" "), cell("Two.", images=2)]
    assert style.missing_alt({"cells": good + bad}) == [
        "cell 3 (show(fig)): no alt text",
        "cell 4 (show(fig)): no alt text",
        "cell 5 (show(fig)): 2 figures share one alt text",
    ]


def test_importing_the_library_does_not_import_the_plots():
    code = (
        "import sys, widthlab; "
        "assert not {'matplotlib', 'seaborn', 'widthlab.plots'} & set(sys.modules); "
        "import widthlab.plots; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
