"""What scaling does to a model, as a table to read."""

from __future__ import annotations

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
    sizes = [max(len(line[i]) for line in lines) for i in range(len(head))]
    texts = [
        "  ".join(cell.ljust(n) for cell, n in zip(line, sizes, strict=True)).rstrip()
        for line in lines
    ]
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
    return "\n".join([title, *texts, *factors])
