"""What the book makes besides chapters: the claims file and the site."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from widthlab.claims import Judgement
from widthlab.claims.file import ClaimsFile
from widthlab.files import write_text

from richregime.chapters import BookError, read_chapters
from richregime.progress import clock

CLAIMS = Path("results/claims.json")


@contextmanager
def building(root: Path) -> Iterator[None]:
    """Hold the folder of the site; whoever comes second waits, and is told so."""
    from filelock import FileLock, Timeout

    path = root / "_build" / ".site.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    # One a process and file, so that what holds the folder may call what does, too.
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another build is at work in {path.parent}: waiting for it to end.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def html(root: Path) -> None:
    """Render the site from the stored outputs into ``_build/html``.

    Warnings are errors. Everything is rendered anew: Sphinx repeats no warning for a
    page that it kept from the last build. Of two builds at once one waits.

    Raises:
        BookError: a page is missing or Sphinx warned; its messages are printed.
    """
    read_chapters(root)
    with building(root):
        _build(root)


def _build(root: Path) -> None:
    for stale in ("html", ".doctrees", "jupyter_execute"):
        shutil.rmtree(root / "_build" / stale, ignore_errors=True)
    start = time.monotonic()
    command = [
        *(sys.executable, "-c", "from jupyter_book.cli.main import main; main()"),
        *("build", str(root)),
        *("--all", "--warningiserror", "--keep-going", "--nitpick", "-q"),
    ]
    env = {**os.environ, "MPLCONFIGDIR": str(root / ".cache" / "matplotlib")}
    built = subprocess.run(
        command,
        cwd=root,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if built.returncode:
        print(built.stdout[-8000:])
        raise BookError("The site could not be built without warnings (see above).")
    print(f"Site built in {clock(time.monotonic() - start)}: _build/html/index.html")


def read_claims(path: Path) -> list[Judgement]:
    """Read a claims file, this one whatever ``WIDTHLAB_CLAIMS`` says."""
    return _claims_file(path).read()


def _claims_file(path: Path) -> ClaimsFile:
    claims = ClaimsFile(path)
    claims.path = path
    return claims


def scoreboard_text(judgements: Sequence[Judgement]) -> str:
    """The claims and verdicts as a plain table for a terminal."""
    if not judgements:
        return "Scoreboard: no claims were recorded."
    rows = [("claim", "tier", "verdict", "measured")]
    rows += [
        (
            judgement.claim.id + " (ours)" * judgement.claim.ours,
            judgement.claim.tier,
            judgement.verdict.badge
            + " (exploratory)" * bool(judgement.claim.exploratory),
            str(judgement.primary.estimate or "not measured"),
        )
        for judgement in judgements
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(map(str.ljust, row, widths)).rstrip()
        for row in (rows[0], tuple("-" * width for width in widths), *rows[1:])
    ]
    return "\n".join(lines)


def write_claims(judgements: Sequence[Judgement], path: Path) -> None:
    """Write a claims file that holds these judgements and no others."""
    with tempfile.TemporaryDirectory() as folder:
        claims = _claims_file(Path(folder) / "claims.json")
        claims.update(judgements)
        write_text(path, claims.path.read_text(encoding="utf-8"))
