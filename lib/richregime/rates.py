"""How often verdicts err: simulated by `make rates`, for *How verdicts are reached*.

The numbers are kept in ``results/verdict-rates.json``; a test draws them anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from widthlab.claims import Check, Plan
from widthlab.claims.check import Outcome
from widthlab.claims.rates import Design, family, outcomes
from widthlab.claims.verdict import OF_OUTCOME
from widthlab.files import write_text

from richregime.tables import table

RATES = Path("results/verdict-rates.json")
TIMES = 20_000
"""Experiments behind each number."""

_DOUBLING, _ROOTS = 1.0, 0.5


def _widths(last: int, step: float) -> tuple[int, ...]:
    """Widths from 64, as chapters have them: powers of 2 rounded to integers."""
    count = round(math.log2(last / 64) / step)
    return tuple(round(64 * 2 ** (step * k)) for k in range(count + 1))


DESIGNS = {
    "64 to 512, ×2": Design(_widths(512, _DOUBLING), 8, 0.2, 0.1),
    "64 to 1024, ×2": Design(_widths(1024, _DOUBLING), 8, 0.2, 0.1),
    "64 to 1024, ×√2": Design(_widths(1024, _ROOTS), 8, 0.2, 0.1),
    "64 to 1024, ×√2, 12 seeds": Design(_widths(1024, _ROOTS), 12, 0.2, 0.1),
    "64 to 1024, ×√2, margin ¼": Design(_widths(1024, _ROOTS), 8, 0.4, 0.25),
}
"""What an exponent may be measured with."""

MARGINS = {"true": 0.0, "at the margin": 1.0, "half true": 1.5, "false": 3.0}
"""How far the true value is from the predicted one, in margins."""

CURVATURES = (1.0, 3.0)
BENT = "64 to 1024, ×√2, 12 seeds"
EFFECTS = (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0)
"""Paired differences, in standard deviations of one replication."""

SEEDS = 8
CHECKS = 22
_FAMILIES: Mapping[str, tuple[float, float]] = {
    "all true": (0.0, 0.0),
    "all at the margin": (1.0, 1.0),
    "half of them true, half false": (0.0, 3.0),
}
_PASS = 0.95
"""How often a true check of a family passes alone."""

VERDICTS = {
    outcome: OF_OUTCOME[outcome]
    for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.OPEN)
}


def designs(times: int) -> Iterator[dict[str, Any]]:
    """Yield how often each verdict comes out, by design and by what is true."""
    for place, (name, design) in enumerate(DESIGNS.items()):
        for case, (what, margins) in enumerate(MARGINS.items()):
            rng = np.random.default_rng([1, place, case])
            drawn = design.draw(times, rng, margins * design.margin)
            facts = {"design": name, "truth": what, "margins": margins}
            yield facts | _shares(design.check(), drawn)


def curvatures(times: int) -> Iterator[dict[str, Any]]:
    """Yield the same where the law is bent and the exponent is the predicted one."""
    design = DESIGNS[BENT]
    for place, size in enumerate(CURVATURES):
        bias = design.bias(size)
        for case, known in enumerate((False, True)):
            rng = np.random.default_rng([2, place, case])
            drawn = design.draw(times, rng, -bias * known, size)
            facts = {"curvature": size, "bias": round(bias, 4), "in prediction": known}
            yield facts | _shares(design.check(), drawn)


def orderings(times: int) -> Iterator[dict[str, Any]]:
    """Yield how often an ordering paired by seed is found, by its true size."""
    check = Check.at_least("difference", "of two arms, paired by seed", 0.0)
    for place, effect in enumerate(EFFECTS):
        rng = np.random.default_rng([3, place])
        drawn = effect + rng.standard_normal((times, SEEDS))
        yield {"effect": effect} | _shares(check, drawn)


def families(times: int) -> Iterator[dict[str, Any]]:
    """Yield what becomes of many checks judged together, adjusted and not."""
    check = Check.equals("one of many", "q", 0.0, 1.0)
    spread = _spread(check)
    for place, (name, halves) in enumerate(_FAMILIES.items()):
        truths = np.resize(halves, CHECKS)[:, None]
        for adjusted in (False, True):
            rng = np.random.default_rng([4, place])  # the same draws, judged twice
            noise = spread * rng.standard_normal((times, CHECKS, SEEDS))
            found = family(check, truths + noise, adjusted=adjusted)
            rounded = {key: round(share, 4) for key, share in asdict(found).items()}
            yield {"family": name, "adjusted": adjusted} | rounded


def _spread(check: Check) -> float:
    """Spread of one replication at which a true check passes as often as `_PASS`."""
    low, high = 1e-3, 10.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        if Plan(SEEDS, middle, "sought").power(check) > _PASS:
            low = middle
        else:
            high = middle
    return low


def _shares(check: Check, samples: np.ndarray) -> dict[str, float]:
    found = outcomes(check, samples)
    return {v.value: round(found[outcome], 4) for outcome, v in VERDICTS.items()}


def simulate(times: int = TIMES) -> dict[str, Any]:
    """Return all of it as plain values, each number over so many experiments."""
    return {
        "experiments": times,
        "designs": list(designs(times)),
        "curvatures": list(curvatures(times)),
        "orderings": list(orderings(times)),
        "families": list(families(times)),
    }


def write_rates(root: Path) -> None:
    """Simulate all of it and write ``results/verdict-rates.json``: some seconds."""
    text = json.dumps(simulate(), indent=1, ensure_ascii=False)
    write_text(root / RATES, text + "\n")


def read_rates(root: Path) -> dict[str, Any]:
    """Read what `write_rates` wrote."""
    return json.loads((root / RATES).read_text(encoding="utf-8"))


# --- tables of the page


def table_of_designs(root: Path) -> str:
    """Say how often each verdict comes out, by design and by what is true."""
    found = read_rates(root)["designs"]
    head = ("widths", "seeds", "sd of log y", "margin", "power", *MARGINS)
    rows = []
    for name, design in DESIGNS.items():
        shown = {row["truth"]: _three(row) for row in found if row["design"] == name}
        facts = (f"{design.seeds}", f"{design.spread:g}", f"{design.margin:g}")
        power = design.plan().power(design.check())
        widths = ", ".join(name.split(", ")[:2])
        rows.append((widths, *facts, _share(power), *(shown[t] for t in MARGINS)))
    return table(head, rows)


def table_of_curvatures(root: Path) -> str:
    """Say what a bent law does to the verdict on a true exponent."""
    rows = [
        (
            f"{row['curvature']:g}",
            f"{row['bias']:.3f}".replace("-", "−"),
            "yes" if row["in prediction"] else "no",
            _three(row),
        )
        for row in read_rates(root)["curvatures"]
    ]
    head = ("c", "bias of the slope", "bias in the prediction", "rep. / not / und.")
    return table(head, rows)


def table_of_orderings(root: Path) -> str:
    """Say how often an ordering is found, by the size of the difference."""
    found: Sequence[Any] = read_rates(root)["orderings"]
    head = ("true difference, in sd of a replication", *VERDICTS.values())
    rows = [
        (f"{row['effect']:g}".replace("-", "−"), *map(_share, _values(row)))
        for row in found
    ]
    return table(head, rows)


def table_of_families(root: Path) -> str:
    """Say what becomes of many checks judged together."""
    head = ("22 checks", "adjusted", "of the checks pass", "all pass")
    columns = ("passed", "all_passed", "any_passed", "any_failed")
    rows = [
        (
            row["family"],
            "Holm" if row["adjusted"] else "no",
            *(_share(row[column]) for column in columns),
        )
        for row in read_rates(root)["families"]
    ]
    return table((*head, "any passes", "any refuted"), rows)


def _values(row: Mapping[str, Any]) -> Iterable[float]:
    return (row[verdict.value] for verdict in VERDICTS.values())


def _three(row: Mapping[str, Any]) -> str:
    return " / ".join(map(_share, _values(row)))


def _share(number: float) -> str:
    """Return a share in two digits, ".95"; what is rare is not said to be never."""
    if 0 < number < 0.005:
        return "<.005"
    if 0.995 <= number < 1:
        return ">.995"
    text = f"{number:.2f}"
    return text.removeprefix("0") if text != "0.00" else "0"
