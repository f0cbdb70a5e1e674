"""Claims: estimates with intervals, checks, verdicts, and the file that keeps them."""

from widthlab.claims.check import Check, Outcome
from widthlab.claims.claim import Claim, Judgement
from widthlab.claims.estimates import (
    ClaimError,
    Estimate,
    exact,
    extent,
    geometric_mean,
    mean,
    ratio,
)
from widthlab.claims.file import ClaimsFile, Difference, compare
from widthlab.claims.groups import extents, means, slopes
from widthlab.claims.power import Plan
from widthlab.claims.prediction import Bound, Prediction, at_least, at_most, equals
from widthlab.claims.slopes import bend, slope
from widthlab.claims.table import measurements
from widthlab.claims.verdict import Verdict

__all__ = [
    "Bound",
    "Check",
    "Claim",
    "ClaimError",
    "ClaimsFile",
    "Difference",
    "Estimate",
    "Judgement",
    "Outcome",
    "Plan",
    "Prediction",
    "Verdict",
    "at_least",
    "at_most",
    "bend",
    "compare",
    "equals",
    "exact",
    "extent",
    "extents",
    "geometric_mean",
    "mean",
    "means",
    "measurements",
    "ratio",
    "slope",
    "slopes",
]
