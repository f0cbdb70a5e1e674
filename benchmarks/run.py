"""Take all readings of this machine, one part after another, and write the book's page.

python benchmarks/run.py            what is missing; about 25 minutes on two idle cores
python benchmarks/run.py --again    everything anew
python benchmarks/run.py --quick    see in a few minutes whether all parts work

Every part is a process of its own. Its readings are kept in `_build/benchmarks`, so
that a run that was cut off goes on where it was. When all parts are there, they are put
together in `results/benchmarks/<machine>.json`, and `library/speed.md` is written anew.
A quick run leaves both alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import report
from common import ROOT, child, slug, write_json
from widthlab import machine

PARTS = ("training", "growth", "compilation", "memory", "kernels", "curvature")


def run_part(part: str, path: Path, quick: bool) -> None:
    """Run one part; its file appears when it is complete."""
    print(f"\n=== {part}", flush=True)
    begin = time.monotonic()
    unfinished = path.with_suffix(".part")
    command = [sys.executable, str(ROOT / "benchmarks" / f"{part}.py")]
    command += ["--json", str(unfinished), *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{part} failed; what was read before it is kept")
    found = json.loads(unfinished.read_text(encoding="utf-8"))
    found["took_s"] = round(time.monotonic() - begin, 1)
    write_json(path, found)
    unfinished.unlink()


def missing(folder: Path, again: bool) -> list[str]:
    """Return the parts to run."""
    return [part for part in PARTS if again or not (folder / f"{part}.json").exists()]


def together(folder: Path) -> dict[str, Any]:
    """Put the parts into one report, with the machine's facts once."""
    parts = {
        part: json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))
        for part in PARTS
    }
    machine = {key: parts["training"].get(key) for key in report.FACTS}
    for part in parts.values():
        for key in set(report.FACTS) - {"date", "commit"}:
            part.pop(key, None)
    return {"machine": machine, "parts": parts}


def command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="check that all parts work"
    )
    parser.add_argument("--again", action="store_true", help="keep no earlier reading")
    parser.add_argument("--without-torch", action="store_true", help="no comparison")
    return parser.parse_args()


def main() -> None:
    options = command_line()
    if machine.version("torch") is None and not options.without_torch:
        raise SystemExit(
            'PyTorch is missing: pip install -e ".[bench]", or take --without-torch'
        )
    # Whoever has a GPU and wants the CPU's readings sets JAX_PLATFORMS=cpu.
    name = slug(child("common.py")) + ("-quick" if options.quick else "")
    folder = ROOT / "_build" / "benchmarks" / name
    folder.mkdir(parents=True, exist_ok=True)
    parts = missing(folder, options.again)
    for part in parts:
        run_part(part, folder / f"{part}.json", options.quick)
    if not parts:
        print("Every part has been read; --again reads them anew.")
    if options.quick:
        write_json(folder / "all.json", together(folder))
        print(f"\nAll parts work. Their readings: {os.path.relpath(folder)}")
        return
    path = report.RESULTS / f"{name}.json"
    write_json(path, together(folder))
    report.write()
    print(f"\nWritten: {os.path.relpath(path)} and {os.path.relpath(report.PAGE)}")


if __name__ == "__main__":
    main()
