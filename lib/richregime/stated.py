"""When a claim was first stated: the commit whose text holds its endpoint."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping

import attrs
from widthlab.claims import Judgement

from richregime.chapters import Chapter

_DIGITS = 12  # of a commit's hash


def commit_of(chapter: Chapter) -> str:
    """Return the commit that is checked out, if it holds the chapter's text as it is.

    Empty where the text was changed since, where git does not know it, and where there
    is no git.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(chapter.folder), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout.strip()

    name = chapter.source.name
    try:
        git("ls-files", "--error-unmatch", "--", name)
        if git("status", "--porcelain", "--", name):
            return ""
        return git("rev-parse", f"--short={_DIGITS}", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return ""


def with_commits(
    judged: Iterable[Judgement],
    committed: Iterable[Judgement],
    commits: Mapping[str, str],
) -> list[Judgement]:
    """Return judgements with the commits that first stated them in this form.

    Where the committed claims have the same statement (`Claim.stated`), theirs is
    carried over; any other was first stated in the text that was just executed.

    Args:
        judged: what was just judged.
        committed: the claims as they were before.
        commits: what `commit_of` says of each chapter's text, by its name.
    """
    before = {_key(j): j.commit for j in committed if j.commit}
    return [
        attrs.evolve(
            judgement,
            commit=before.get(_key(judgement), commits[judgement.claim.chapter]),
        )
        for judgement in judged
    ]


def _key(judgement: Judgement) -> tuple[str, str, str]:
    claim = judgement.claim
    return claim.id, claim.tier, claim.stated


def notice(judged: Iterable[Judgement]) -> str:
    """Say which claims no commit states yet; empty if there are none."""
    without = [f"{j.claim.id} ({j.claim.tier})" for j in judged if not j.commit]
    if not without:
        return ""
    return f"Stated in a text that is not committed yet: {', '.join(without)}."
