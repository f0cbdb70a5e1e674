"""Claims: estimates with intervals, checks, verdicts, and the file that keeps them."""

from widthlab.claims.check import Check
from widthlab.claims.claim import Claim, Judgement
from widthlab.claims.estimates import Estimate, exact, extent, geometric_mean, mean
from widthlab.claims.groups import extents, slopes
from widthlab.claims.power import Plan
from widthlab.claims.prediction import Prediction, at_least, at_most, equals
from widthlab.claims.slopes import bend, slope
from widthlab.claims.verdict import Verdict

__all__ = [
    "Check",
    "Claim",
    "Estimate",
    "Judgement",
    "Plan",
    "Prediction",
    "Verdict",
    "at_least",
    "at_most",
    "bend",
    "equals",
    "exact",
    "extent",
    "extents",
    "geometric_mean",
    "mean",
    "slope",
    "slopes",
]
