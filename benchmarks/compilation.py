"""How much of a first run is compilation, without and with JAX's persistent cache.

python benchmarks/compilation.py                    a sweep and a chapter, both twice
python benchmarks/compilation.py --quick            the sweep only
python benchmarks/compilation.py --chapter 01-...   another chapter

Every run is a fresh process with an empty store of records: once with an empty folder
for compiled programs, once with what the first has left there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import common

CHAPTER = "04-symmetries"
COLUMNS = {
    "what": "",
    "cache": "",
    "wall_s": ".1f",
    "compiling_s": ".1f",
    "share": ".2f",
    "of_cores": ".2f",
    "backend_s": ".1f",
    "trace_s": ".1f",
    "programs": "d",
    "cache_hits": "d",
}
# What runs in the chapter's kernel, before its first cell and after its last.
BEFORE = """
import sys
sys.path.append({benchmarks!r})
from compile_watch import Watch
_watch_of_compilation = Watch()
"""
AFTER = """
import json
from pathlib import Path
Path({path!r}).write_text(json.dumps(_watch_of_compilation.report()))
"""


def sweep() -> dict[str, Any]:
    """Run a sweep as chapters do, here: three widths, two rules, four seeds."""
    from compile_watch import Watch
    from widthlab import DataSpec, Experiment, frame
    from widthlab import sweep as run

    watch = Watch()
    data = DataSpec("mnist-5k", n_train=512, n_test=0, targets="labels")
    runs = run(
        Experiment(
            data=data,
            parametrization=name,
            width=width,
            seed=seed,
            lr=0.5,
            base_width=64,
            batch_size=64,
            steps=400,
        )
        for name in ("ntk", "mup")
        for width in (128, 256, 512)
        for seed in range(4)
    )
    frame(runs)
    return watch.report()


def chapter(name: str, work: Path) -> dict[str, Any]:
    """Execute a chapter's cells in a kernel of their own, which is watched."""
    import nbformat
    from richregime.chapters import read_chapters, read_source
    from richregime.execution import kernel_environment, run_notebook, warm_up

    chosen = next(c for c in read_chapters(common.ROOT) if c.name == name)
    notebook = read_source(chosen)
    path = work / "watched.json"
    here = str(common.ROOT / "benchmarks")
    cell = nbformat.v4.new_code_cell
    notebook.cells.insert(0, cell(BEFORE.format(benchmarks=here)))
    notebook.cells.append(cell(AFTER.format(path=str(path))))
    env = kernel_environment(common.ROOT, work)
    warm_up(env)
    run_notebook(notebook, folder=chosen.folder, env=env)
    return json.loads(path.read_text(encoding="utf-8"))


# --- all processes


def reading(what: str, cache: Path, platform: str) -> dict[str, Any]:
    """Run it in a fresh process, with a folder for compiled programs."""
    with common.scratch() as work:
        env = {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "WIDTHLAB_STORE": str(work / "store"),
            # Chapters run on the CPU unless they are told otherwise.
            "JAX_PLATFORMS": "cpu" if platform == "cpu" else "cuda,cpu",
        }
        return common.child(
            "compilation.py", "--watch", what, "--work", str(work), env=env
        )


def cold_and_cached(what: str, platform: str) -> list[dict[str, Any]]:
    rows = []
    with common.scratch() as cache:
        for state in ("empty", "filled"):
            common.Quiet.wait()
            row = {"what": what, "cache": state, **reading(what, cache, platform)}
            rows.append(row)
            print(f"{what}, cache {state}: {row['wall_s']:.0f} s", flush=True)
    return rows


def command_line() -> argparse.Namespace:
    parser = common.part_parser(__doc__, quick="the sweep only")
    parser.add_argument("--chapter", default=CHAPTER, help="default %(default)s")
    parser.add_argument("--watch", metavar="WHAT", help="one process: sweep or chapter")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = command_line()
    if options.watch:
        one = options.watch
        found = sweep() if one == "sweep" else chapter(one, options.work)
        print(json.dumps(found))
        return
    report = common.child("common.py")
    whats = ["sweep", *([] if options.quick else [options.chapter])]
    report["readings"] = [
        row for what in whats for row in cold_and_cached(what, report["platform"])
    ]
    common.write_json(options.json, report)
    print(common.laid_out(report["readings"], COLUMNS))


if __name__ == "__main__":
    main()
