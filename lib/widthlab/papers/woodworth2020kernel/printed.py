r"""Numbers of Woodworth et al. 2020, read off the figures of arXiv 2002.09277 v3.

Figures 3, 5, 6 and 7 are vector graphics, read to about a thousandth of an axis; Figure
1 is a bitmap, read to a pixel. Dimension, number of examples and sparsity of Figures 1
and 3(c) are not printed.
"""

from __future__ import annotations

import numpy as np

FIGURE_1A_ALPHA = tuple(np.logspace(-2.5, 0, 18)[:-1].tolist())
r"""$\alpha$ of the points of Figure 1(a)."""

FIGURE_1A = (
    *(0.024, 0.032, 0.040, 0.048, 0.072, 0.119, 0.207, 0.354, 0.613, 1.055),
    *(1.839, 3.105, 4.379, 5.076, 5.299, 5.358, 5.374),
)
"""Their errors, in units of the axis' ticks, which carry no numbers."""

BOUND = 0.025
"""Population error that Figures 1(c) and 3(c) ask for."""

THRESHOLDS = {
    2: {
        70: -5.77,
        80: -5.20,
        90: -4.09,
        100: -4.00,
        125: -3.54,
        250: -2.86,
        500: -2.42,
    },
    3: {
        **{52: -5.76, 60: -4.13, 70: -3.58, 80: -3.43, 90: -3.07, 100: -3.03},
        **{125: -2.82, 250: -2.39, 500: -2.03},
    },
    5: {
        **{52: -4.27, 60: -3.51, 70: -3.15, 80: -3.05, 90: -2.77, 100: -2.74},
        **{125: -2.57, 250: -2.19, 500: -1.87},
    },
    8: {
        **{52: -3.85, 60: -3.32, 70: -3.01, 80: -2.92, 90: -2.67, 100: -2.64},
        **{125: -2.47, 250: -2.11, 500: -1.81},
    },
}
r"""$\log_{10}$ of the largest $\alpha^D$ by depth and examples (Figures 1(c), 3(c)).

At depth 2 and 60 examples the point lies at the end of the axis, $10^{-10}$.
"""

FIGURE_5_SCALES = (1e-2, 2.5e-3, 1e-4, 1e-6, 1e-8)
r"""$\alpha^2$ of the rows of Figure 5."""

FIGURE_5_WIDTHS = (10, 50, 100, 250, 500, 1000, 5000, 10_000, 50_000, 100_000, 500_000)
"""Widths of its columns."""

FIGURE_5_MOVED = (
    (0.77, 0.32, 0.27, 0.11, 0.065, 0.065, 0.034, 0.022, 0.027, 0.022, 0.034),
    (0.90, 0.57, 0.55, 0.36, 0.19, 0.077, 0.022, 0.018, 0.011, 0.011, 0.006),
    (0.97, 0.88, 0.86, 0.78, 0.72, 0.62, 0.34, 0.21, 0.027, 0.006, 0.004),
    (1.00, 0.99, 0.99, 0.99, 0.98, 0.96, 0.90, 0.86, 0.71, 0.62, 0.35),
    (1.00, 1.00, 1.00, 1.00, 1.00, 1.00, 0.99, 0.99, 0.98, 0.96, 0.90),
)
"""Its right panel, as shares of the top of the colour bar."""

FIGURE_6_WIDTH, FIGURE_6_EXAMPLES, FIGURE_6_TEACHER = 30, 10, 3
"""Hidden units of the student, points on the circle, hidden units of the teacher."""

FIGURE_6_ZERO = 0.287
"""Root mean square of the target in Figure 6(a)."""

FIGURE_6A = {
    2: {
        **{0.01: 0.016, 0.1: 0.015, 0.3: 0.014, 0.6: 0.014, 1: 0.015, 1.5: 0.019},
        **{2: 0.027, 3: 0.053, 5: 0.143},
    },
    3: {
        **{0.1: 0.012, 0.3: 0.011, 0.5: 0.011, 1: 0.012, 1.5: 0.018, 2: 0.034},
        **{2.5: 0.061, 3: 0.104, 3.5: 0.162},
    },
}
r"""Root mean square errors by depth and $\alpha$."""

FIGURE_6B = {
    2: {
        **{0.01: 0.58, 0.1: 0.50, 0.3: 0.31, 0.6: 0.10, 1: 0.028, 1.5: 0.010},
        **{2: 0.007, 3: 0.005, 5: 0.005},
    },
    3: {
        **{0.1: 0.715, 0.3: 0.627, 0.5: 0.512, 1: 0.227, 1.5: 0.091, 2: 0.050},
        **{2.5: 0.037, 3: 0.035, 3.5: 0.036},
    },
}
r"""Gradient distances by depth and $\alpha$."""

FIGURE_6C = {
    **{0.1: 1.37, 1: 1.40, 2: 1.40, 3: 1.70, 4: 1.85, 5: 1.90},
    **{10: 2.20, 20: 2.35, 50: 2.40, 150: 2.40, 500: 2.40},
}
r"""Test errors on MNIST in per cent by $\alpha$; the last layer alone has 2.70."""

FIGURE_7_POINTS = (
    tuple(np.linspace(-np.sqrt(3), np.sqrt(3), 9).tolist()),
    (0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0),
)
"""Inputs and labels of Figure 7."""

FIGURE_7_MAXIMA = {
    "a": {0.1: 1.085, 1: 1.149, 10: 1.138},
    "b": {10: 1.023},
    "c": {10: 1.072},
}
r"""Largest values of the curves of Figure 7, by panel and $\alpha$."""
