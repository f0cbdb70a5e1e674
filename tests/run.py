"""The stages of ``make test``, each timed, with one summary at the end.

    python tests/run.py [--record] [STAGE ...]

With --record, the seconds of a complete run in which all passed are written to
results/checks.json, from which the page *Status* takes them. A stage that fails does
not hide those after it; the exit status is 0 if all passed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "_build" / "test"
CHECKS = ROOT / "results" / "checks.json"
# The budget is a minute on two quiet cores, of which the build takes most; what else
# the machine does must not fail it.
HTML_SECONDS = 120
NBVAL = ("--nbval", "--nbval-current-env", "--nbval-cell-timeout=900")

# What the tools print to sum up, from "12 passed, 1 skipped in 3.4s" to "0 errors".
SUMMARY = re.compile(
    r"\d+ (?:passed|failed|errors?|skipped|files?)\b.*|All checks passed.*|Verdicts: .*"
    r"|Contracts: .*|Site built in .*"
)


@dataclass(frozen=True, slots=True)
class Result:
    """How a stage went: its exit status, and its own last word."""

    status: int
    summary: str


def tool(*command: str, env: dict[str, str] | None = None) -> Result:
    """Run ``python -m command`` and pass its output on, keeping its last summary."""
    return python("-m", *command, env=env)


def python(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """Run Python and pass its output on, keeping its last summary."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    )
    assert process.stdout is not None
    summary = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        if match := SUMMARY.search(line):
            summary = match.group().strip(" =")
    return Result(process.wait(), summary)


def lint() -> Result:
    return tool("ruff", "check", ".")


def imports() -> Result:
    """Check who imports whom: the contracts are in pyproject.toml."""
    # The tool has no module to run with -m.
    run = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return python("-c", run, "--no-cache")


def formatting() -> Result:
    return tool("ruff", "format", "--check", ".")


def types() -> Result:
    return tool("basedpyright", "--pythonpath", sys.executable)


def unit() -> Result:
    # Most of a test's time is compilation, on one core: two workers take little more
    # than half the time. A module's tests stay together and share its programs. The
    # order is conftest.py's: by their numbers of tests, long modules would come last.
    workers = ("-n", "auto", "--maxprocesses=4", "--dist=loadscope")
    others = ("--ignore=tests/browser",)  # a stage of their own, after the site's
    options = (*workers, "--no-loadscope-reorder", "--durations=5")
    return tool("pytest", "-q", "tests", *others, *options, env=with_bytecode())


def with_bytecode() -> dict[str, str]:
    """Keep bytecode, elsewhere where it must not lie beside the sources.

    Tests start a hundred processes, each of which would compile the library anew.
    """
    env = dict(os.environ)
    if env.pop("PYTHONDONTWRITEBYTECODE", None):
        env.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / ".cache" / "bytecode"))
    return env


def doctests() -> Result:
    return tool("pytest", "-q", "--doctest-modules", "lib/widthlab", "lib/richregime")


def nbval() -> Result:
    """Execute every chapter and compare each cell's output with the committed one."""
    from richregime.chapters import read_chapters
    from richregime.execution import kernel_environment, warm_up

    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    found = [chapter.notebook for chapter in read_chapters(ROOT)]
    notebooks = [notebook for notebook in found if notebook.exists()]
    if not notebooks:
        return no_chapters()
    env = kernel_environment(ROOT, WORK)
    warm_up(env)
    # Cells of a notebook are not this project's tests: warnings there do not fail.
    options = (*NBVAL, "-v", "-W", "default", "--durations=10")
    return tool("pytest", *options, *map(str, notebooks), env=env)


def verdicts() -> Result:
    """Compare the verdicts of the `nbval` stage with the committed ones."""
    if not any((ROOT / "chapters").glob("*.ipynb")):
        return no_chapters()
    return tool("richregime", "verify", str(WORK / "claims.json"))


def html() -> Result:
    """Build the site, as `make html` does, within its budget."""
    start = time.monotonic()
    result = tool("richregime", "html")
    seconds = time.monotonic() - start
    if not result.status and seconds > HTML_SECONDS:
        print(f"The site took {seconds:.0f} s, more than {HTML_SECONDS} s.")
        return Result(1, f"{seconds:.0f} s, more than {HTML_SECONDS} s")
    return result


def browser() -> Result:
    """Read the site of the `html` stage in a browser, and print it."""
    workers = ("-n", "2", "--dist=worksteal")
    return tool("pytest", "-q", "tests/browser", *workers, "--durations=5")


def no_chapters() -> Result:
    """All is well without notebooks only if there is no chapter's text either."""
    texts = [path.name for path in (ROOT / "chapters").glob("[!_]*.md")]
    if texts:
        print(f"Never executed: {', '.join(texts)} (make execute)")
        return Result(1, "chapters without a notebook")
    print("No chapters.")
    return Result(0, "no chapters")


STAGES: dict[str, Callable[[], Result]] = {
    "lint": lint,
    "imports": imports,
    "format": formatting,
    "types": types,
    "unit": unit,
    "doctest": doctests,
    "nbval": nbval,
    "verdicts": verdicts,
    "html": html,
    "browser": browser,
}


def record(seconds: dict[str, float]) -> None:
    """Write how long the stages took, and the installation where that is known."""
    from widthlab import machine

    installed = Path(sys.prefix) / ".install-seconds"
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": machine.cpu_model(),
        "cores": machine.cores(),
        "stages": {name: round(took, 1) for name, took in seconds.items()},
        "install": float(installed.read_text()) if installed.exists() else None,
    }
    CHECKS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    names = [name for name in arguments if name != "--record"]
    if unknown := [name for name in names if name not in STAGES]:
        print(f"Unknown stage: {', '.join(unknown)}. Stages: {', '.join(STAGES)}.")
        return 2
    os.environ.pop("MPLBACKEND", None)
    rows, begin = [], time.monotonic()
    for name in names or STAGES:
        print(f"\n=== {name}", flush=True)
        start = time.monotonic()
        result = STAGES[name]()
        rows.append((name, result, time.monotonic() - start))
    print("\n=== summary")
    for name, result, seconds in rows:
        word = "FAILED" if result.status else "ok"
        print(f"{name:<10} {word:<7} {seconds:7.1f} s  {result.summary}")
    failed = [name for name, result, _ in rows if result.status]
    if "--record" in arguments and not failed and [row[0] for row in rows] == [*STAGES]:
        record({name: seconds for name, _, seconds in rows})
    word = f"FAILED: {', '.join(failed)}" if failed else "ok"
    print(f"{'all':<10} {'':<7} {time.monotonic() - begin:7.1f} s  {word}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
