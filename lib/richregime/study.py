"""A study: the claims of one chapter about one paper, and how they are published."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from widthlab import machine
from widthlab.claims import Check, Claim, Judgement, Plan
from widthlab.claims.estimates import ClaimError
from widthlab.claims.file import ClaimsFile, markdown_row
from widthlab.claims.table import measurements

if TYPE_CHECKING:
    import pandas as pd
    from widthlab.runs.archive import Archive

FIRST_SEED_VARIABLE = "WIDTHLAB_FIRST_SEED"
"""Environment variable that moves every chapter's seeds: another replication."""

_PUBLISHED: dict[tuple[str, str], Judgement] = {}


def published() -> tuple[Judgement, ...]:
    """Return what this process has published, with all digits, the last of each."""
    return tuple(_PUBLISHED.values())


@dataclass(frozen=True, slots=True)
class Study:
    """One chapter's study of one paper.

    Attributes:
        chapter: file stem of the chapter, "04-symmetries".
        key: what its claims' ids begin with, "sym".
        paper: key in references.bib.
        origin: why the tolerance is what it is, for claims that do not say otherwise.

    Example:
        >>> from widthlab.claims import Plan, Prediction, at_most
        >>> study = Study("04-symmetries", key="sym", paper="hajjar2023symmetries")
        >>> fades = Prediction("dependence on the rest", at_most(0.1))
        >>> claim = study.claim(
        ...     5, "Only the norm matters.", source="abstract", origin="seed spread",
        ...     primary=fades.endpoint("at the end"),
        ...     plan=Plan(seeds=8, spread=0.02, origin="pilot", truth=0.0),
        ... )
        >>> claim.id, claim.tier, round(claim.power, 2)
        ('sym.C5', 'live', 1.0)
    """

    chapter: str
    key: str
    paper: str
    origin: str | None = None

    def claim(
        self,
        number: int,
        statement: str,
        *,
        source: str,
        primary: Check,
        plan: Plan | None = None,
        origin: str | None = None,
        ours: bool = False,
        exploratory: str = "",
        tier: str = "live",
    ) -> Claim:
        """Return a claim with what decides it, to be judged when that is measured.

        Args:
            number: of the claim in this chapter.
            statement: the claim in our words.
            source: where in the paper it stands, or "abstract"; of a claim of ours,
                what it follows from or answers.
            primary: the primary endpoint, as `Prediction.endpoint` returns it.
            plan: seeds and expected spread; None for what is no sample.
            origin: why the tolerance is what it is; by default the study's.
            ours: whether the claim is this book's and not the paper's.
            exploratory: what was set after a first look at the data, if anything was.
            tier: "live" or "paper".

        Raises:
            ClaimError: neither the claim nor the study says where its tolerance comes
                from, and what `Claim` refuses.
        """
        why = origin or self.origin
        if why is None:
            raise ClaimError(
                f"claim {self.key}.C{number} does not say why its tolerance is what it "
                "is; give origin= here, or to the study for all claims"
            )
        return Claim(
            id=f"{self.key}.C{number}",
            chapter=self.chapter,
            paper=self.paper,
            statement=statement,
            source=source,
            ours=ours,
            tier=tier,
            primary=primary,
            plan=plan,
            tolerance_origin=why,
            exploratory=exploratory,
        )

    def publish(self, *judgements: Judgement) -> None:
        """Print the verdict lines, and store the claims where `WIDTHLAB_CLAIMS` says.

        Without that variable, as when a reader runs a chapter by hand, nothing is
        written: the committed claims are the business of `make execute`.

        Raises:
            ClaimError: a claim is of another chapter.
        """
        strangers = [j.claim.id for j in judgements if j.claim.chapter != self.chapter]
        if strangers:
            raise ClaimError(f"{strangers} are not claims of {self.chapter}")
        if os.environ.get("WIDTHLAB_CLAIMS"):
            ClaimsFile().update(judgements)
        for judgement in judgements:
            _PUBLISHED[judgement.claim.id, judgement.claim.tier] = judgement
            print(judgement.line())

    def glance(self) -> Any:
        """Return the chapter's committed claims as a table whose rows lead to sections.

        The verdicts are those of `results/claims.json`; the sections reach them anew.
        """
        from IPython.display import Markdown

        from richregime.chapters import find_root
        from richregime.pages import CLAIMS, read_claims

        committed = read_claims(find_root(Path.cwd()) / CLAIMS)
        return Markdown(at_a_glance(committed, self.chapter))

    def paper_tier(self) -> Archive:
        """Return the stored records of the chapter's paper tier; maybe none yet."""
        from richregime.chapters import find_root
        from richregime.tiers import archive

        return archive(find_root(Path.cwd()), self.chapter)

    def table(self, *judgements: Judgement) -> pd.DataFrame:
        """Return all checks and controls with their measured digits."""
        import pandas as pd

        tables = [measurements(j).assign(claim=j.claim.id) for j in judgements]
        joined = pd.concat(tables, ignore_index=True).round(3)
        # One claim's rows need not say whose they are.
        return joined if len(judgements) > 1 else joined.drop(columns="claim")

    def unsettled(self, *judgements: Judgement) -> pd.DataFrame:
        """Return the checks that did not pass, with their measured digits."""
        rows: Any = self.table(*judgements)
        rows = rows[(rows["role"] != "control") & (rows["outcome"] != "pass")]
        return rows.reset_index(drop=True)

    @staticmethod
    def seeds(count: int) -> range:
        """Return the seeds of a chapter's replications, one for each.

        They begin at 0, or where the environment variable `WIDTHLAB_FIRST_SEED` says:
        the same chapter with other seeds is an independent replication of all of it.
        `richregime execute` and `reproduce` drop the variable, `stability` sets it.

        Raises:
            ValueError: the variable is not a number from 0 up.

        Example:
            >>> Study.seeds(8)
            range(0, 8)
        """
        said = os.environ.get(FIRST_SEED_VARIABLE) or "0"
        if not (said.isascii() and said.isdecimal()):
            raise ValueError(
                f"{FIRST_SEED_VARIABLE} is {said!r}; it is the first of a chapter's "
                "seeds, a whole number from 0 up"
            )
        return range(int(said), int(said) + count)

    @staticmethod
    def circumstances(seeds: int) -> str:
        """Say what this run of a chapter runs on. Its text differs between machines."""
        device = machine.device()
        kind = f"x {device['kind']}" if device["platform"] != "cpu" else "CPU cores"
        python, *others = machine.versions(("widthlab", "jax", "flax")).items()
        versions = ", ".join(f"{name} {version}" for name, version in others)
        return (
            f"live tier, {seeds} seeds, on {device['count']} {kind}; "
            f"Python {python[1]}, {versions}"
        )


def at_a_glance(committed: Iterable[Judgement], chapter: str) -> str:
    """Return a chapter's claims as a Markdown table, as `Study.glance` shows it."""
    mine = [j for j in committed if j.claim.chapter == chapter]
    if not mine:
        return "No claim of this chapter has been judged yet."
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
        marks = {"ours": claim.ours, "exploratory": claim.exploratory}
        shown = ", ".join(mark for mark, holds in marks.items() if holds)
        statement = claim.statement + f" *({shown})*" * bool(shown)
        lines.append(markdown_row([link, statement, *badges]))
    return "\n".join(lines)
