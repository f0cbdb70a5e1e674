"""How members are spread over devices and batched: every layout against each other.

python benchmarks/training.py --layouts
"""

from __future__ import annotations

import functools
import statistics
from typing import Any
from unittest import mock

import jax
from common import square_rates
from engine import Case, step_seconds
from widthlab.training import ensemble as training

WIDTHS = (64, 128, 256, 512, 1024, 2048)


def compare(seconds: float, repetitions: int) -> list[dict]:
    """Time every layout at every width, in turns; print the winners."""
    print("member-steps per second; batch: members in one computation; * is the choice")
    rate = max(square_rates().values())
    return [
        row for width in WIDTHS for row in at_width(width, seconds, repetitions, rate)
    ]


def at_width(width: int, seconds: float, repetitions: int, rate: float) -> list[dict]:
    case = Case(width, 32 if width < 1024 else 8)
    every = sorted({1, len(jax.local_devices())})
    grid = [
        (devices, batch)
        for devices in every
        for batch in (1, 2, 4, 8, 16, 32)
        if batch <= case.members // devices
    ]
    rates: dict[Any, list[float]] = {layout: [] for layout in grid}
    for _ in range(repetitions):
        for layout in grid:
            rates[layout].append(layout_rate(case, *layout, case.steps(seconds, rate)))
    median = {layout: statistics.median(r) for layout, r in rates.items()}
    best = max(median, key=lambda layout: median[layout])
    for devices in every:
        mine = training.members_per_batch(
            jax.default_backend(), case.members // devices
        )
        cells = [
            f"{batch}: {rate:.4g}{'*' if batch == mine else ''}"
            for (count, batch), rate in median.items()
            if count == devices
        ]
        print(f"width {width:>5} devices {devices} | " + "  ".join(cells))
    print(f"      best: {best[0]} devices, batch {best[1]}", flush=True)
    return [
        {"width": width, "members": case.members, "devices": devices, "batch": batch}
        | {"member_steps_per_s": rate, "best": (devices, batch) == best}
        for (devices, batch), rate in median.items()
    ]


def layout_rate(case: Case, devices: int, batch: int, steps: int) -> float:
    """Return member-steps per second of one layout; compiled at the first call."""
    chosen = functools.partial(_constant, batch)
    with mock.patch.object(training, "members_per_batch", chosen):
        seconds = step_seconds(
            case,
            steps,
            tag=f"batches of {batch}",
            devices=jax.local_devices()[:devices],
        )
    return case.members / seconds


def _constant(value: int, *_: Any) -> int:
    return value
