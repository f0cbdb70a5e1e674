r"""How often each verdict comes out if the truth is known: the rule, simulated.

Replications are drawn from a normal law, and judged many experiments at a time as
`Check` and `holm` judge one.
A run of width $n$ has $\log y = a + \beta \log n + \sigma z$ with $z$ standard normal;
a replication's intercept $a$ is its own and falls out of its slope.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from widthlab.claims.check import ALPHA, Check, Outcome
from widthlab.claims.power import Plan


@dataclass(frozen=True, slots=True)
class Design:
    r"""A measurement of an exponent: a slope against width, one a replication.

    Attributes:
        widths: Widths, each of which every replication has.
        seeds: Replications.
        spread: Standard deviation of $\log y$ of one run.
        margin: Tolerance of the slope.

    >>> design = Design((64, 128, 256, 512), seeds=8, spread=0.2, margin=0.1)
    >>> round(design.leverage(), 1), round(design.plan().power(design.check()), 2)
    (2.4, 0.15)
    """

    widths: tuple[int, ...]
    seeds: int
    spread: float
    margin: float

    def check(self) -> Check:
        """Return the endpoint: the slope is the predicted one within the margin."""
        return Check.equals("a power law", "slope", 0.0, self.margin)

    def leverage(self) -> float:
        r"""Return $S = \sum_w (x_w - \bar x)^2$ of log widths."""
        x = self._weights()
        return 1 / float(x @ x)

    def plan(self) -> Plan:
        r"""Return the plan of a claim: one slope has deviation $\sigma / \sqrt S$."""
        return Plan(self.seeds, self.spread / self.leverage() ** 0.5, "the design")

    def bias(self, curvature: float) -> float:
        r"""Return what a factor $1 + c\,n^{-1/2}$ adds to the slope of the best line.

        >>> widths = tuple(64 * 2 ** (k / 2) for k in range(9))
        >>> round(Design(widths, 8, 0.2, 0.1).bias(1.0), 3)
        -0.031
        """
        bend = np.log1p(curvature / np.sqrt(np.asarray(self.widths, dtype=float)))
        return float(bend @ self._weights())

    def draw(
        self,
        times: int,
        rng: np.random.Generator,
        truth: float = 0.0,
        curvature: float = 0.0,
    ) -> np.ndarray:
        """Return slopes measured at a true exponent: a row an experiment, by seed."""
        shape = (times, self.seeds, len(self.widths))
        noise = self.spread * rng.standard_normal(shape) @ self._weights()
        return truth + self.bias(curvature) + noise

    def _weights(self) -> np.ndarray:
        x = np.log(np.asarray(self.widths, dtype=float))
        x -= x.mean()
        return x / (x @ x)


def outcomes(check: Check, samples: np.ndarray) -> dict[Outcome, float]:
    """Return the share of each outcome of a check over experiments.

    Args:
        check: The endpoint.
        samples: Replications: a row an experiment.

    >>> rows = np.array([[0.0, 0.01], [0.0, 0.5], [0.9, 0.91]])
    >>> shares = outcomes(Check.equals("a", "q", 0.0, 0.2), rows)
    >>> [round(shares[name], 2) for name in ("pass", "open", "fail")]
    [0.33, 0.33, 0.33]
    """
    holds, fails = p_values(check, samples)
    passed, failed = holds <= ALPHA, fails <= ALPHA
    found = {Outcome.PASS: passed, Outcome.FAIL: failed & ~passed}
    shares = {name: float(where.mean()) for name, where in found.items()}
    return shares | {Outcome.OPEN: float((~passed & ~failed).mean())}


@dataclass(frozen=True, slots=True)
class Family:
    """What became of checks that are judged together, over experiments.

    Attributes:
        passed: Share of the checks that passed.
        all_passed: Share of the experiments in which all did.
        any_passed: Share of the experiments in which one or more did.
        any_failed: Share of the experiments in which one or more failed.
    """

    passed: float
    all_passed: float
    any_passed: float
    any_failed: float


def family(check: Check, samples: np.ndarray, *, adjusted: bool = True) -> Family:
    """Return what became of checks judged together, adjusted by Holm or not.

    Args:
        check: What each of them is.
        samples: Replications, by experiment, check and seed.
        adjusted: Whether they are adjusted together, as secondary checks are.
    """
    holds, fails = p_values(check, samples)
    levels = (_levels(holds), _levels(fails)) if adjusted else (ALPHA, ALPHA)
    passed = holds <= levels[0]
    failed = (fails <= levels[1]) & ~passed
    return Family(
        passed=float(passed.mean()),
        all_passed=float(passed.all(axis=1).mean()),
        any_passed=float(passed.any(axis=1).mean()),
        any_failed=float(failed.any(axis=1).mean()),
    )


def p_values(check: Check, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return p-values for a check and against it; replications are the last axis."""
    seeds = samples.shape[-1]
    error = samples.std(axis=-1, ddof=1) / np.sqrt(seeds)
    low, high = ((samples.mean(axis=-1) - end) / error for end in check.bounds())
    above_low, below_high = stdtr(seeds - 1, -low), stdtr(seeds - 1, high)
    below_low, above_high = stdtr(seeds - 1, low), stdtr(seeds - 1, -high)
    return np.maximum(above_low, below_high), np.minimum(below_low, above_high)


def _levels(p_values: np.ndarray) -> np.ndarray:
    """Level of each row up to which Holm's step-down procedure rejects."""
    ordered, count = np.sort(p_values, axis=1), p_values.shape[1]
    small = ordered <= ALPHA / np.arange(count, 0, -1)
    rejected = np.logical_and.accumulate(small, axis=1)
    return np.where(rejected, ordered, 0.0).max(axis=1, keepdims=True)
