r"""Numbers of Hajjar and Chizat's notebooks, each of one random run of theirs."""

OUTPUTS = {
    (0.0, 1.0): 0.24,
    (5.0, 1.0): 0.95,
    (0.0, 5.0): 0.72,
    (5.0, 5.0): 1.93,
    (0.0, 10.0): 0.86,
    (5.0, 10.0): 1.64,
    (0.0, 50.0): 1.00,
    (5.0, 50.0): 1.13,
}
r"""$f(u_H + r e)$ by $r$ and time; $d = 20$, $d_H = 5$; read from a plot to 0.05.

Their steps are of size 0.05: these are steps 20, 100, 200 and 1,000.
"""

MASSES = {
    2: (3.408, 0.1126),
    5: (5.478, 0.0630),
    10: (7.823, 0.0403),
    15: (9.623, 0.0310),
    18: (10.558, 0.0274),
    20: (11.139, 0.0256),
    25: (12.472, 0.0218),
    30: (13.677, 0.0188),
    33: (14.353, 0.0173),
    35: (14.791, 0.0165),
}
"""Positive and negative mass by $d_H$, for $d = 40$; they fit 2,000 steps of 0.005."""
