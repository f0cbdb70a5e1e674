"""Write the book's page on speed from the readings; nobody edits it.

python benchmarks/report.py            write library/speed.md
python benchmarks/report.py --check    fail if it is not what the readings say

The prose stands in `speed.template.md`, every number in `results/benchmarks`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template
from typing import Any

from targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "benchmarks"
PAGE = ROOT / "library" / "speed.md"
TEMPLATE = Path(__file__).with_name("speed.template.md")
FACTS = (
    *("device", "platform", "devices", "cpu", "cores"),
    *("python", "jax", "torch", "date", "commit"),
)
NOTHING = "Nothing has been read yet."
Report = dict[str, Any]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, form: str = ".3g") -> str:
    """Write a number; large ones with their thousands apart."""
    if value is None:
        return "–"
    if form == ".3g" and abs(value) >= 999.5:
        digits = len(str(int(abs(value)))) - 3
        return f"{round(value, -max(digits, 0)):,.0f}"
    return f"{value:{form}}"


def cells(reading: dict, columns: dict[str, tuple[str, str]]) -> list[str]:
    """Write a reading's values; a column has a heading, a key and a form."""
    return [
        value if isinstance(value := reading.get(key), str) else number(value, form)
        for key, form in columns.values()
    ]


def listed(columns: dict[str, tuple[str, str]], readings: Sequence[dict]) -> str:
    return markdown(list(columns), [cells(reading, columns) for reading in readings])


# --- sections


def machines(reports: dict[str, Report]) -> str:
    header = ("machine", "device", "cores", "JAX", "PyTorch", "Python", "read on")
    rows = []
    for name, report in reports.items():
        m = report["machine"]
        device = (
            m["cpu"] if m["platform"] == "cpu" else f"{m['devices']} × {m['device']}"
        )
        keys = ("cores", "jax", "torch", "python", "date", "commit")
        facts = [str(m[key] or "–") for key in keys]
        rows.append([f"`{name}`", device, *facts, minutes(report)])
    return markdown([*header, "commit", "minutes"], rows) if rows else NOTHING


def minutes(report: Report) -> str:
    """Say how long all parts took."""
    return f"{sum(part['took_s'] for part in report['parts'].values()) / 60:.0f}"


def targets(reports: dict[str, Report]) -> str:
    rows = []
    for name, report in reports.items():
        for target in (t for t in TARGETS if t.applies(report)):
            worst = target.worst(report)
            sign = "≥" if target.at_least else "≤"
            value = number(worst[target.key], ".2f") if worst else "–"
            rows.append(
                [
                    f"`{name}`",
                    target.text,
                    f"{sign} {target.bound:g}",
                    value,
                    f"**{target.verdict(worst)}**",
                ]
            )
    header = ("machine", "target", "bound", "measured", "verdict")
    return markdown(header, rows) if rows else NOTHING


def training(part: Report) -> str:
    columns = {
        "width": ("width", "d"),
        "layers": ("depth", "d"),
        "batch": ("batch", "d"),
        "members": ("members", "d"),
        "steps/s": ("steps_per_s", ".3g"),
        "eager": ("eager", ".3g"),
        "compiled": ("compiled", ".3g"),
        "batched": ("batched", ".3g"),
        "processes": ("processes", ".3g"),
        "ratio": ("ratio", ".2f"),
        "to the fastest": ("ratio_all", ".2f"),
        "quiet": ("quiet_of", ""),
    }
    return listed(columns, with_quiet(part["readings"]))


def products(part: Report) -> str:
    columns = {
        "width": ("width", "d"),
        "layers": ("depth", "d"),
        "batch": ("batch", "d"),
        "members": ("members", "d"),
        "GFLOP/s": ("gflops", ".3g"),
        "large product": ("square_gflops", ".3g"),
        "of GEMM": ("of_square", ".2f"),
        "of products": ("of_products", ".2f"),
        "compile, s": ("compile_s", ".1f"),
        "`torch.compile`, s": ("torch_compile_s", ".1f"),
    }
    rows = [
        {**r, "torch_compile_s": r["first_call_s"].get("compiled")}
        for r in part["readings"]
    ]
    return listed(columns, rows)


def growth(part: Report) -> str:
    rows = []
    for line in part["lines"]:
        points = [point["x"] for point in line["points"]]
        error = "–" if line["error"] is None else f"{line['error']:.2f}"
        rows.append(
            [
                line["against"],
                f"{min(points):,} to {max(points):,}",
                f"{line['exponent']:.2f}",
                error,
                f"{line['expected']:.2f}",
                f"{line['limit']:g}",
                f"{line['quiet']}/{line['turns']}",
            ]
        )
    header = ("against", "from", "exponent", "s.e.", "of operations", "limit", "quiet")
    return markdown(header, rows)


def compilation(part: Report) -> str:
    columns = {
        "what": ("what", ""),
        "cache": ("cache", ""),
        "seconds": ("wall_s", ".1f"),
        "compiling, s": ("compiling_s", ".1f"),
        "of them XLA": ("backend_s", ".1f"),
        "programs": ("programs", "d"),
        "from the cache": ("cache_hits", "d"),
        "share": ("share", ".2f"),
        "of cores": ("of_cores", ".2f"),
    }
    return listed(columns, part["readings"])


def memory(part: Report) -> str:
    sides = ("widthlab", "eager", "compiled", "batched")
    columns = {
        "width": ("width", "d"),
        "members": ("members", "d"),
        "weights, MB": ("weights_mb", ".3g"),
        **{side: (side, ".3g") for side in sides},
        "ratio": ("ratio", ".2f"),
    }
    return listed(columns, part["readings"])


def kernels(part: Report) -> str:
    columns = {
        "kernel": ("name", ""),
        "ms": ("ms", ".3g"),
        "product, ms": ("product_ms", ".3g"),
        "ratio": ("ratio", ".2f"),
        "compile, s": ("compile_s", ".2f"),
        "peak, MB": ("peak_mb", ".0f"),
        "quiet": ("quiet_of", ""),
    }
    return listed(columns, with_quiet(part["readings"]))


def curvature(part: Report) -> str:
    columns = {
        "network": ("net", ""),
        "tracked": ("variant", ""),
        "ms/step": ("ms", ".3g"),
        "added, in steps": ("added", ".2f"),
        "quiet": ("quiet_of", ""),
    }
    return listed(columns, with_quiet(part["readings"]))


def with_quiet(readings: Sequence[dict]) -> list[dict]:
    return [{**r, "quiet_of": f"{r['quiet']}/{r['turns']}"} for r in readings]


SECTIONS: dict[str, tuple[str, Callable[[Report], str]]] = {
    "training": ("training", training),
    "products": ("training", products),
    "growth": ("growth", growth),
    "compilation": ("compilation", compilation),
    "memory": ("memory", memory),
    "kernels": ("kernels", kernels),
    "curvature": ("curvature", curvature),
}


def section(reports: dict[str, Report], part: str, write: Callable) -> str:
    """Return a section's tables, one for each machine."""
    found = [
        f"`{name}`:\n\n{write(report['parts'][part])}"
        for name, report in reports.items()
        if part in report["parts"]
    ]
    return "\n\n".join(found) or NOTHING


# --- the page


def page(reports: dict[str, Report]) -> str:
    tables = {name: section(reports, *how) for name, how in SECTIONS.items()}
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        tables, machines=machines(reports), targets=targets(reports)
    )


def read(folder: Path = RESULTS) -> dict[str, Report]:
    """Return the committed readings by machine."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def write() -> None:
    PAGE.write_text(page(read()), encoding="utf-8")


def is_current() -> bool:
    """Whether the page says what the committed readings say."""
    return PAGE.exists() and PAGE.read_text(encoding="utf-8") == page(read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    if not parser.parse_args().check:
        write()
    elif not is_current():
        raise SystemExit("library/speed.md is not what the readings say: run it")


if __name__ == "__main__":
    main()
