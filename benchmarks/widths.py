"""The coordinate check of the page's own CNN and Transformer, at widths 64 to 512.

python benchmarks/widths.py                 both; seven CPU minutes, 2.5 GB
python benchmarks/widths.py --model CNN     one of them, kept beside the other

Predicted before the first run, as `widthlab.scaling.coordinate_check` has it: under μP
each slope against width is within 0.15 of 0 inside the network (own changes at most
that), and of -1/2 for what it returns at the start. The control, SP, must fail.
The networks and their batches are those of `library/own-model.md`, read from its cells.
Readings are kept in `results/scaling-widths.json`.
"""

from __future__ import annotations

import argparse
import ast
import json
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jupytext
import optax
from common import ROOT, commit, write_json
from depth import slopes
from flax import nnx
from widthlab import DataSpec, scaling
from widthlab.scaling.judge import QUANTITIES

KEPT = ROOT / "results" / "scaling-widths.json"
PAGE = ROOT / "library" / "own-model.md"
WIDTHS, SEEDS, STEPS = (64, 128, 256, 512), 8, 4


class Case(NamedTuple):
    """A network of the page: its class, its batch, and how many train at a time."""

    build: str
    batch: str
    together: int


CASES = {
    "CNN": Case("Images", "batch", 2),
    "Transformer": Case("Characters", "FOUR", 4),
}
# What the page's cells define of them.
NAMES = {
    "Residual", "Images", "images", "IMAGES", "LABELS", "batch", "cross_entropy",
    "Block", "Characters", "folder", "files", "text", "alphabet", "TEXT", "CONTEXT",
    "windows", "FOUR",
}  # fmt: skip


def of_the_page() -> dict[str, Any]:
    """Return what the page defines under `NAMES`, made by its own lines alone."""
    from importlib.util import find_spec
    from pathlib import Path

    known = {
        "DataSpec": DataSpec, "Path": Path, "find_spec": find_spec, "jax": jax,
        "jnp": jnp, "nnx": nnx, "optax": optax,
    }  # fmt: skip
    for cell in jupytext.read(PAGE).cells:
        if cell.cell_type == "code":
            lines = ast.parse(cell.source)
            lines.body = [line for line in lines.body if defined(line) & NAMES]
            exec(compile(lines, str(PAGE), "exec"), known)
    return {name: known[name] for name in NAMES}


def defined(line: ast.stmt) -> set[str]:
    """Return the names that a line of a cell defines."""
    if isinstance(line, ast.ClassDef | ast.FunctionDef):
        return {line.name}
    if not isinstance(line, ast.Assign):
        return set()
    return {n.id for t in line.targets for n in ast.walk(t) if isinstance(n, ast.Name)}


def measured(case: Case, widths: tuple[int, ...], seeds: int) -> dict[str, Any]:
    """Slopes of every module under μP and SP, with intervals, and the verdicts."""
    page, begin = of_the_page(), time.process_time()
    found = scaling.coordinate_check(
        page[case.build], widths=widths, batch=page[case.batch], steps=STEPS,
        loss=page["cross_entropy"], seeds=seeds, together=case.together,
    )  # fmt: skip
    print(found, flush=True)
    return {
        "widths": widths,
        "seeds": seeds,
        "steps": STEPS,
        "outcome": str(found.outcome),
        "accused": found.wrong,
        "farthest from prediction": {q: farthest(found, q) for q in QUANTITIES},
        "predicted": {e.name: predicted(e) for e in found.rules.expected},
        "slopes": {j.name: slopes(j) for j in found.judgements},
        "control fails in": [j.name for j in found.control if j.fails],
        "control": {j.name: slopes(j) for j in found.control},
        "cpu_s": round(time.process_time() - begin, 1),
    }


def predicted(expected: Any) -> dict[str, str]:
    return {
        q: ("at most " if q in expected.at_most else "") + f"{getattr(expected, q):g}"
        for q in QUANTITIES
        if getattr(expected, q) is not None
    }


def farthest(found: scaling.CoordinateCheck, quantity: str) -> list[Any]:
    """Return by how much a slope misses its prediction or exceeds its bound, at most.

    And of which module that is.
    """
    misses = []
    for expected, judged in zip(found.rules.expected, found.judgements, strict=True):
        check = getattr(judged, quantity)
        if judged.decided and check is not None:
            off = check.estimate.value - getattr(expected, quantity)
            bound = quantity in expected.at_most
            misses.append((round(max(off, 0.0) if bound else abs(off), 3), judged.name))
    return [*max(misses)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=CASES, help="one model only")
    parser.add_argument("--quick", action="store_true", help="small; keeps nothing")
    options = parser.parse_args()
    version = commit()  # before what is written changes the tree
    for name in [options.model] if options.model else [*CASES]:
        if options.quick:
            print(json.dumps(measured(CASES[name], (32, 64, 128), 2), indent=1))
            continue
        kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
        kept[name] = {**measured(CASES[name], WIDTHS, SEEDS), "commit": version}
        write_json(KEPT, {n: kept[n] for n in CASES if n in kept})


if __name__ == "__main__":
    main()
