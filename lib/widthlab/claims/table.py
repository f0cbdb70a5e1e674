"""What was measured for a claim, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from widthlab.claims.check import SYMBOLS, Check, Outcome

if TYPE_CHECKING:
    import pandas as pd

    from widthlab.claims.claim import Judgement


def measurements(judgement: Judgement) -> pd.DataFrame:
    """Return what was measured, check by check, for cells that nbval ignores."""
    import pandas as pd

    judged = zip(judgement.secondary, judgement.outcomes, strict=True)
    controls = judgement.controls
    rows = [
        _row("primary", judgement.primary, judgement.primary.outcome()),
        *(_row("secondary", check, outcome) for check, outcome in judged),
        *(_row("control", check, check.outcome()) for check in controls),
    ]
    return pd.DataFrame(rows)


def _row(role: str, check: Check, outcome: Outcome) -> dict[str, Any]:
    estimate = check.estimate
    return {
        "check": check.label,
        "quantity": check.quantity,
        "predicted": f"{SYMBOLS[check.relation]} {check.predicted:.4g}",
        "tolerance": check.tolerance,
        "measured": estimate and estimate.value,
        "low": estimate and estimate.low,
        "high": estimate and estimate.high,
        "interval": estimate and estimate.kind,
        "seeds": estimate and estimate.seeds,
        "outcome": outcome.value,
        "role": role,
    }
