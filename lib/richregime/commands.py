"""Run chapters and check them: reproduce, execute, verify and status."""

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from widthlab.claims import Judgement
from widthlab.claims.file import compare
from widthlab.files import write_text

from richregime.address import CONFIG, address_problems
from richregime.chapters import (
    BookError,
    Chapter,
    Notebook,
    canonical,
    chapter_problems,
    code_cells,
    meant,
    output_problems,
    read_chapters,
    read_source,
)
from richregime.execution import (
    CellError,
    Ran,
    kernel_environment,
    run_notebook,
    warm_up,
)
from richregime.executions import (
    WITNESS,
    Execution,
    executed,
    read_executions,
    write_execution,
)
from richregime.map import MAP, map_is_current
from richregime.pages import (
    CLAIMS,
    html,
    read_claims,
    scoreboard_text,
    write_claims,
)
from richregime.progress import Progress, Step, clock
from richregime.stated import commit_of, notice, with_commits
from richregime.study import at_a_glance

Keep = Callable[[Chapter, Notebook, Ran], None]


def reproduce(root: Path, names: Sequence[str] = (), *, build: bool = True) -> None:
    """Execute chapters from scratch and compare their verdicts with the committed.

    Works in ``_build/reproduce``. The store there outlives an interruption, so the next
    call reads finished training runs back; a call that ends removes it, so the call
    after that trains everything again.

    Raises:
        BookError: a cell failed, or a verdict is not the committed one.
    """
    work = root / "_build" / "reproduce"
    chapters = select(read_chapters(root), names)
    resumed = len(list((work / "store").glob("??/*.json")))
    if resumed:
        print(
            f"Resuming an interrupted reproduction: {resumed} finished training runs "
            "are read back (make clean, to begin again)."
        )
    (work / "claims.json").unlink(missing_ok=True)
    notebooks = [_committed(chapter) for chapter in chapters]
    run_chapters(root, work, chapters, notebooks, keep=_keep_copy(work))
    shutil.rmtree(work / "store", ignore_errors=True)

    print(f"\n{scoreboard_text(read_claims(work / 'claims.json'))}\n")
    try:
        verify(root, work / "claims.json", [chapter.name for chapter in chapters])
    finally:  # a reader whose verdicts differ wants the site all the more
        print(f"Executed notebooks: {work}")
        if build:
            html(root)
            print(f"Open {root / '_build/html/index.html'}, or run: make serve")


def execute(root: Path, names: Sequence[str] = ()) -> None:
    """Re-execute chapters in place, from their ``.md``, and write their claims.

    Nothing is written unless every output of the chapter may be committed. A claim
    carries the commit that first stated it in this form (`stated.with_commits`).

    Raises:
        BookError: an unknown chapter, a failed cell, or outputs that must not be kept.
    """
    chapters = select(read_chapters(root), names)
    commits = {chapter.name: commit_of(chapter) for chapter in chapters}
    notebooks = [read_source(chapter) for chapter in chapters]
    work = root / "_build" / "execute"
    shutil.rmtree(work, ignore_errors=True)

    def keep(chapter: Chapter, notebook: Notebook, ran: Ran) -> None:
        if problems := output_problems(notebook):
            raise BookError(
                f"{chapter.name} ran, but its outputs cannot be kept:\n  "
                + "\n  ".join(problems)
            )
        _show_claims(notebook, chapter, read_claims(work / "claims.json"))
        _write_notebook(canonical(notebook), chapter.notebook)
        found = executed(root, chapter, ran.began, ran.seconds, ran.answer)
        write_execution(root, chapter.name, found)

    run_chapters(root, work, chapters, notebooks, keep=keep, ask=WITNESS)
    before = read_claims(root / CLAIMS)
    judged = with_commits(read_claims(work / "claims.json"), before, commits)
    merged = [*(j for j in before if j.claim.chapter not in commits), *judged]
    write_claims(merged, root / CLAIMS)
    print(f"\n{scoreboard_text(merged)}")
    if text := notice(judged):
        print(text)


def _show_claims(
    notebook: Notebook, chapter: Chapter, judged: Sequence[Judgement]
) -> None:
    """Put the claims that were just judged where a chapter shows the committed ones.

    That cell ran before them, and shows them when it is run again.
    """
    shown = at_a_glance(judged, chapter.name)
    for _, cell, _ in code_cells(notebook):
        if cell.source.strip() == "study.glance()":
            for output in cell.outputs:
                output.data["text/markdown"] = shown


def verify(root: Path, claims: Path, chapters: Sequence[str] = ()) -> None:
    """Compare the verdicts in `claims` with the committed, of these chapters or all.

    Raises:
        BookError: a verdict changed, a claim is missing, or there is a new one.
    """
    found = read_claims(claims)
    committed = [
        judgement
        for judgement in read_claims(root / CLAIMS)
        if not chapters or judgement.claim.chapter in chapters
    ]
    differences = compare(committed, found)
    if differences:
        lines = "\n  ".join(map(str, differences))
        raise BookError(f"Verdicts differ from those of {CLAIMS}:\n  {lines}")
    print(f"Verdicts: all {len(found)} are those of {CLAIMS}.")


def status(root: Path) -> None:
    """Check the committed chapters without running them.

    Raises:
        BookError: a chapter or its pair is not fit to publish.
    """
    problems = [
        f"{chapter.name}: {problem}"
        for chapter in _require(read_chapters(root))
        for problem in chapter_problems(chapter)
    ]
    if (root / MAP).exists() and not map_is_current(root):
        problems.append("the map's data are not the library's: run make map")
    if (root / CONFIG).exists():
        problems += address_problems(root)
    if problems:
        raise BookError("Not fit to publish:\n  " + "\n  ".join(problems))
    print("Every chapter matches its source and was executed in one clean run.")


def run_chapters(
    root: Path,
    work: Path,
    chapters: Sequence[Chapter],
    notebooks: Sequence[Notebook],
    *,
    keep: Keep,
    ask: str = "",
    variation: Mapping[str, str] | None = None,
) -> None:
    """Execute notebooks one after the other with one progress display for all."""
    work.mkdir(parents=True, exist_ok=True)
    env = kernel_environment(root, work, variation)
    warm_up(env)
    plan = _plan(read_executions(root), chapters, notebooks)
    begin, offset = time.monotonic(), 0
    with Progress(plan, sys.stdout) as progress:
        for chapter, notebook in zip(chapters, notebooks, strict=True):
            first = offset
            try:
                ran = run_notebook(
                    notebook,
                    folder=chapter.folder,
                    env=env,
                    log=work / "kernel.log",
                    ask=ask,
                    starting=lambda position, first=first: progress.start(
                        first + position
                    ),
                )
            except CellError as error:
                raise CellError(f"{chapter.name}, {error}") from None
            keep(chapter, notebook, ran)
            offset += len(ran.seconds)
    print(f"{len(chapters)} chapter(s) executed in {clock(time.monotonic() - begin)}.")


def _plan(
    recorded: Mapping[str, Execution],
    chapters: Sequence[Chapter],
    notebooks: Sequence[Notebook],
) -> list[Step]:
    plan = []
    for chapter, notebook in zip(chapters, notebooks, strict=True):
        cells = code_cells(notebook)
        last = recorded.get(chapter.name)
        seconds: Sequence[float | None] = last.cells if last else ()
        if len(seconds) != len(cells):  # edited since it was recorded
            seconds = [None] * len(cells)
        plan += [
            Step(chapter.name, group, took)
            for (_, _, group), took in zip(cells, seconds, strict=True)
        ]
    return plan


def _keep_copy(work: Path) -> Keep:
    def keep(chapter: Chapter, notebook: Notebook, ran: Ran) -> None:
        _write_notebook(notebook, work / chapter.notebook.name)

    return keep


def _committed(chapter: Chapter) -> Notebook:
    import nbformat

    if not chapter.notebook.exists():
        raise BookError(f"{chapter.notebook.name} is missing: run make execute first.")
    return nbformat.read(chapter.notebook, as_version=4)


def _write_notebook(notebook: Notebook, path: Path) -> None:
    import nbformat

    text = nbformat.writes(notebook)
    write_text(path, text if text.endswith("\n") else text + "\n")


def select(chapters: Sequence[Chapter], words: Sequence[str]) -> list[Chapter]:
    """Return the chapters of these names or numbers, in their order; all, without.

    Raises:
        BookError: there are none, or none is meant by a word.
    """
    known = _require(chapters)
    chosen = {chapter.name: chapter for chapter in (meant(w, known) for w in words)}
    return list(chosen.values()) or list(known)


def _require(chapters: Sequence[Chapter]) -> Sequence[Chapter]:
    if not chapters:
        raise BookError("_toc.yml lists no chapter that can be executed.")
    return chapters
