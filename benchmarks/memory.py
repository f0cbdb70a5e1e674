"""Peak memory of training, in this library and in PyTorch.

python benchmarks/memory.py            all readings, one or two minutes
python benchmarks/memory.py --quick    one network only

Every reading is a process of its own: on CPU its largest resident size, less that of a
process that has loaded the same libraries, the data and a device but trains nothing; on
an accelerator the most bytes allocated on it.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

import common
from widthlab import machine

SIDES = ("widthlab", "eager", "compiled", "batched")
COLUMNS = {
    "width": "d",
    "members": "d",
    "weights_mb": ".1f",
    **dict.fromkeys(SIDES, ".0f"),
    "ratio": ".2f",
}
STEPS = 20


def networks(platform: str, quick: bool) -> list[tuple[int, int]]:
    """Return widths and members."""
    if quick:
        return [(256, 8)]
    if platform == "cpu":
        return [(256, 8), (256, 128), (1024, 8), (2048, 1)]
    return [(256, 128), (1024, 32), (4096, 1), (8192, 1)]


def sides(members: int) -> list[str]:
    with_torch = machine.version("torch") is not None
    found = SIDES if members > 1 else SIDES[:-1]
    return list(found if with_torch else found[:1])


# --- in a process of its own


def peak(side: str, width: int, members: int) -> dict[str, int]:
    """Train with one side, or nothing with no members, and return the peak."""
    from engine import Case, weights  # starts JAX, which the idle process has, too

    case = Case(width, max(members, 1))
    if side == "widthlab":
        allocated = of_widthlab(case, members > 0)
    else:
        allocated = of_torch(side, case, weights, members > 0)
    found = common.peak_bytes() if allocated is None else allocated
    return {"bytes": found, "weights": 4 * case.shape.parameters * members}


def of_widthlab(case: Any, trains: bool) -> int | None:
    import jax
    from engine import Pulse, make_data, make_members
    from widthlab.training import ensemble as training

    training.use_all_cores()
    data = make_data()
    devices = jax.local_devices()
    on_cpu = devices[0].platform == "cpu"
    if trains:
        plan, probes = case.plan(STEPS), (Pulse(),)
        chosen = devices if on_cpu else devices[:1]  # as PyTorch
        training.train(plan, make_members(case), data, (STEPS,), probes, chosen)
    if on_cpu:
        return None
    return devices[0].memory_stats()["peak_bytes_in_use"] if trains else 0


def of_torch(side: str, case: Any, weights: Any, trains: bool) -> int | None:
    import peers
    import torch
    from engine import make_data

    peers.prepare(common.CORES)
    data = make_data()
    if trains:
        peers.sides(case.members)[side](case, data, weights(case)).advance(STEPS)
        peers.wait()
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


# --- all processes


def reading(side: str, width: int, members: int, folder: str) -> dict[str, int]:
    arguments = ("--side", side, "--width", str(width), "--members", str(members))
    env = {"TORCHINDUCTOR_CACHE_DIR": folder, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return common.child("memory.py", *arguments, env=env)


def all_readings(platform: str, quick: bool, folder: str) -> list[dict[str, Any]]:
    rows = []
    # What is idle does not differ with the network, nor with how PyTorch would train.
    loaded = {s: reading(s, 64, 0, folder)["bytes"] for s in sides(members=1)[:2]}
    idle = {s: loaded[s if s in loaded else "eager"] for s in sides(members=2)}
    for width, members in networks(platform, quick):
        row: dict[str, Any] = {"width": width, "members": members}
        for side in sides(members):
            found = reading(side, width, members, folder)
            row[side] = (found["bytes"] - idle[side]) / 1e6
            row["weights_mb"] = found["weights"] / 1e6
        others = [row[side] for side in sides(members)[1:]]
        row["ratio"] = row["widthlab"] / min(others) if others else None
        rows.append(row)
        print(f"width {width}, members {members}: done", flush=True)
    return rows


def command_line() -> argparse.Namespace:
    parser = common.part_parser(__doc__, quick="one network only")
    parser.add_argument("--side", choices=SIDES, help="one process, with --width ...")
    parser.add_argument("--width", type=int)
    parser.add_argument("--members", type=int, help="0 trains nothing")
    return parser.parse_args()


def main() -> None:
    options = command_line()
    if options.side:
        print(json.dumps(peak(options.side, options.width, options.members)))
        return
    report = common.child("common.py")
    with common.scratch() as folder:
        found = all_readings(report["platform"], options.quick, os.fspath(folder))
    report["readings"] = found
    print(common.laid_out(report["readings"], COLUMNS))
    common.write_json(options.json, report)


if __name__ == "__main__":
    main()
