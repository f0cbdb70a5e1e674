"""What scaling does to a model, and what a check came to, as tables to read."""

from __future__ import annotations

from collections.abc import Sequence

from widthlab.claims import Check
from widthlab.scaling.judge import QUANTITIES, ModuleJudgement
from widthlab.scaling.plans import ScalingPlan
from widthlab.scaling.rules import rule_of


def show(made: ScalingPlan) -> str:
    """Return the table of a plan: a line a parameter."""
    head = ("parameter", "shape", "grows", "role", "starts", "init ×", "lr ×", "from")
    lines: list[tuple[str, ...]] = [head]
    for row in made.rows:
        shape = "×".join(map(str, row.tensor.shape)) or "scalar"
        grows = ", ".join(
            f"{axis}: {'·'.join(names)}"
            for axis, names in enumerate(row.tensor.grows)
            if names
        )
        known = (row.tensor.name, shape, grows or "-", row.role, str(row.law))
        lines.append((*known, f"{row.init:.4g}", f"{row.lr:.4g}", row.why))
    source = f"{made.optimizer}: {rule_of(made.optimizer).source}"
    title = (
        f"{made.parametrization.label} from width {made.base_width} to {made.width}"
        f"; {source}"
    )
    if made.depth is not None:
        title += (
            f"; from depth {made.depth.base} to {made.depth.now}, branches × "
            f"{made.depth.multiplier:.4g}"
        )
    factors = [f'Multiplier("{k}"): × {v:.4g}' for k, v in made.multipliers.items()]
    return "\n".join([title, *_aligned(lines), *factors])


def judgements_table(label: str, judged: Sequence[ModuleJudgement]) -> str:
    """Return a line a module: its slopes with their predictions, and the outcome."""
    kinds = [q for q in QUANTITIES if any(getattr(j, q) is not None for j in judged)]
    head = ("module", *(h for q in kinds for h in (q, "predicted")), "outcome")
    lines: list[tuple[str, ...]] = [head]
    for one in judged:
        cells = [text for q in kinds for text in _cells(getattr(one, q))]
        outcome = str(one.outcome) if one.decided else "undecided"
        lines.append((one.name, *cells, outcome))
    return "\n".join([label, *_aligned(lines)])


def _cells(check: Check | None) -> tuple[str, str]:
    if check is None or check.estimate is None:
        return "-", "-"
    e = check.estimate
    sign = {"equals": "", "at_most": "≤ "}[check.relation]
    text = f"{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"
    return text, f"{sign}{check.predicted:g} ± {check.tolerance:g}"


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Return lines of cells as text, in columns."""
    sizes = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(n) for cell, n in zip(line, sizes, strict=True)).rstrip()
        for line in lines
    ]
