"""What every chapter says in the same way: circumstances, claims, verdicts."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from widthlab.claims import ClaimsFile
from widthlab.claims.check import Check
from widthlab.claims.claim import Judgement
from widthlab.claims.estimates import Estimate, slope
from widthlab.claims.file import markdown_row

if TYPE_CHECKING:
    import pandas as pd
    from widthlab.runs.archive import Archive


def begin(name: str) -> None:
    """Go to the chapters' folder if need be, and say what this chapter takes.

    Jupyter starts a notebook where it lies, Colab elsewhere. There the book is the one
    that this library was installed from.

    Raises:
        BookError: the book is neither here nor where the library is.
    """
    from richregime.chapters import BookError

    if os.environ.get("JAX_PLATFORMS") == "cpu":
        # Colab has plugins for GPUs, of another version than the JAX that we need. They
        # are loaded all the same, and what they then report is of no concern here.
        for plugins in ("jax._src.xla_bridge", "jax_plugins"):
            logging.getLogger(plugins).setLevel(logging.CRITICAL)
    here = Path.cwd()
    root = _book_of(here, name)
    if root is None:
        root = _book_of(Path(__file__).parent, name)
        if root is None:
            raise BookError(
                f"The book with the chapter {name} is neither at {here} or above nor "
                "where widthlab was installed from. Start Jupyter in a clone of its "
                "repository, or install the library from one with pip install -e."
            )
        os.chdir(root / "chapters")
    print(cost(root, name))


def _book_of(start: Path, name: str) -> Path | None:
    """Return the nearest folder at or above `start` with this chapter's text."""
    text = Path("chapters") / f"{name}.md"
    return next((f for f in (start, *start.parents) if (f / text).exists()), None)


def cost(root: Path, name: str) -> str:
    """Say how many cells a chapter has, and how long they took when last executed.

    In halves of a minute, so that it does not change with every execution.
    """
    from richregime.executions import read_executions

    text = (root / "chapters" / f"{name}.md").read_text(encoding="utf-8")
    cells = text.count("\n```{code-cell}")
    last = read_executions(root).get(name)
    if last is None:
        return f"{cells} code cells; how long they take was never recorded"
    minutes = max(round(last.seconds / 30) / 2, 0.5)
    where = "" if last.device is None else f" on {last.place}"
    return f"{cells} code cells, about {minutes:g} minutes{where}"


def circumstances(seeds: int) -> str:
    """Say what this run of a chapter runs on. Its text differs between machines."""
    from importlib.metadata import version

    import jax
    from widthlab.training.devices import use_all_cores

    count = use_all_cores()
    device = jax.devices()[0]
    kind = "CPU cores" if device.platform == "cpu" else f"x {device.device_kind}"
    versions = ", ".join(f"{p} {version(p)}" for p in ("widthlab", "jax", "flax"))
    return (
        f"live tier, {seeds} seeds, on {count} {kind}; "
        f"Python {platform.python_version()}, {versions}"
    )


def glance(chapter: str) -> Any:
    """Return the chapter's committed claims as a table whose rows lead to sections.

    The verdicts are those of `results/claims.json`; the sections below reach them anew.
    """
    from IPython.display import Markdown

    from richregime.chapters import find_root
    from richregime.pages import CLAIMS, read_claims

    committed = read_claims(find_root(Path.cwd()) / CLAIMS)
    mine = [judgement for judgement in committed if judgement.claim.chapter == chapter]
    if not mine:
        return Markdown("No claim of this chapter has been judged yet.")
    tiers = sorted({j.claim.tier for j in mine})  # live, then paper
    rows: dict[str, dict[str, Judgement]] = {}
    for judgement in mine:
        rows.setdefault(judgement.claim.id, {})[judgement.claim.tier] = judgement
    lines = [f"| claim | statement | {' | '.join(f'{t} tier' for t in tiers)} |"]
    lines.append("| --- " * (2 + len(tiers)) + "|")
    for name, found in rows.items():
        claim = next(iter(found.values())).claim
        badges = [found[t].verdict.badge if t in found else "" for t in tiers]
        link = f"[{name}](#{claim.anchor})"
        lines.append(markdown_row([link, claim.statement, *badges]))
    return Markdown("\n".join(lines))


def paper_tier(chapter: str) -> Archive:
    """Return the stored records of a chapter's paper tier; maybe none yet."""
    from richregime.chapters import find_root
    from richregime.tiers import archive

    return archive(find_root(Path.cwd()), chapter)


def publish(*judgements: Judgement) -> None:
    """Print the verdict lines, and store the claims where `WIDTHLAB_CLAIMS` says.

    Without that variable, as when a reader runs a chapter by hand, nothing is written:
    the committed claims are the business of `make execute`.
    """
    if os.environ.get("WIDTHLAB_CLAIMS"):
        ClaimsFile().update(judgements)
    for judgement in judgements:
        print(judgement.line())


def slopes(
    frame: pd.DataFrame,
    quantity: str,
    by: Sequence[str] = ("parametrization", "layer"),
    **where: Any,
) -> dict[Any, Estimate]:
    """Return the slope against width of a quantity, for each group of runs.

    Args:
        frame: table in long form, as `records.frame` returns.
        quantity: which rows.
        by: columns that tell groups apart; with one column, keys are its values.
        **where: values of further columns to keep.

    Example:
        >>> import pandas as pd
        >>> rows = [("mup", n, s, "q", 2.0 + s) for n in (64, 128, 256) for s in (0, 1)]
        >>> names = ["parametrization", "width", "seed", "quantity", "value"]
        >>> runs = pd.DataFrame(rows, columns=names)
        >>> found = slopes(runs, "q", by=("parametrization",))
        >>> abs(round(found["mup"].value, 6))
        0.0
    """
    chosen = frame.loc[frame["quantity"] == quantity]
    for column, value in where.items():
        chosen = chosen.loc[chosen[column] == value]
    keys = list(by) if len(by) > 1 else by[0]
    return {key: slope(group) for key, group in chosen.groupby(keys)}


def checks(
    found: Mapping[Any, Estimate],
    predicted: Mapping[Any, tuple[str, float]],
    *,
    quantity: str,
    tolerance: float,
    label: Callable[[Any], str] = str,
) -> list[Check]:
    """Pair estimates with what theory predicts for them.

    Args:
        found: estimates by key.
        predicted: for each key that is predicted, the relation and the number; its
            order is that of the checks, the headline first.
        quantity: what was estimated.
        tolerance: of every check.
        label: what to call a key.
    """
    return [
        Check(label(key), quantity, relation, number, tolerance, found[key])
        for key, (relation, number) in predicted.items()
    ]


def unsettled(judgement: Judgement) -> Any:
    """Return the checks of a claim that did not pass, with their measured digits."""
    rows = judgement.table()
    rows = rows[(rows["role"] == "check") & (rows["outcome"] != "pass")]
    return rows.drop(columns=["role"]).round(3).reset_index(drop=True)


def table(judgements: Iterable[Judgement]) -> Any:
    """Return all checks and controls with their measured digits."""
    import pandas as pd

    return pd.concat([j.table() for j in judgements], ignore_index=True)
