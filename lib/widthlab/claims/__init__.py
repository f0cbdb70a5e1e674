"""Claims: estimates with intervals, checks, verdicts, and the file that keeps them."""

from widthlab.claims.check import Check, Outcome
from widthlab.claims.claim import Claim, Judgement, Verdict
from widthlab.claims.estimates import (
    ClaimError,
    Estimate,
    exact,
    extent,
    geometric_mean,
    mean,
    ratio,
    slope,
)
from widthlab.claims.file import ClaimsFile, Difference, compare

__all__ = [
    "Check",
    "Claim",
    "ClaimError",
    "ClaimsFile",
    "Difference",
    "Estimate",
    "Judgement",
    "Outcome",
    "Verdict",
    "compare",
    "exact",
    "extent",
    "geometric_mean",
    "mean",
    "ratio",
    "slope",
]
