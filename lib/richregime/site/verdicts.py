"""Verdict lines on the page of a chapter: each a callout with its claim's numbers.

A chapter prints one line for each claim. On the page it stands for what
``results/claims.json`` knows of it: the primary endpoint, its power, what became of
controls, what secondary checks add, and what would decide it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from widthlab.claims import Judgement, Verdict

from richregime.pages import CLAIMS, read_claims
from richregime.site import assets, links, scoreboard

_LINE = re.compile(
    r"([A-Za-z][\w-]*\.\w+)(?: \((\w+) tier\))? "
    rf"(?:{'|'.join(re.escape(verdict.value) for verdict in Verdict)})"
)


def callout(judgement: Judgement, page: str, *, board: bool) -> nodes.admonition:
    """Return a claim's verdict with its numbers, linked to its row of a scoreboard."""
    head = judgement.primary
    measured = ", ".join(scoreboard.measured(judgement))
    predicted = ", ".join(
        [scoreboard.predicted(judgement), *scoreboard.design(judgement)]
    )
    control = ": ".join(scoreboard.control(judgement))
    said = [*scoreboard.qualified(judgement), *scoreboard.exploratory(judgement)]
    symbol = judgement.verdict.badge.split()[0]
    marks = [
        node
        for mark in scoreboard.marks_of(judgement)
        for node in (nodes.Text(" "), scoreboard.tag(mark))
    ]
    title: nodes.Node = nodes.inline("", judgement.line())
    if board:
        title = links.link("claim", scoreboard.name_of(judgement), page, title)
    return nodes.admonition(
        "",
        nodes.title("", "", nodes.Text(f"{symbol} "), title, *marks),
        nodes.paragraph("", f"{head.quantity}, {head.label}: {measured}."),
        nodes.paragraph("", f"Predicted {predicted}; {control}."),
        nodes.paragraph("", " ".join(f"{one}." for one in said)),
        classes=["wl-verdict", f"wl-{scoreboard.KEYS[judgement.verdict]}"],
    )


def _replace_lines(app: Any, doctree: nodes.document) -> None:
    page = app.env.docname
    blocks = [
        block
        for block in doctree.findall(nodes.literal_block)
        if "stream" in block["classes"] and _names(block)
    ]
    if not blocks:
        return
    path = Path(app.srcdir) / CLAIMS
    app.env.note_dependency(str(path))
    committed = {
        (j.claim.id, j.claim.tier): j
        for j in read_claims(path)
        if Path(page).name == j.claim.chapter
    }
    for block in blocks:
        names = _names(block)
        # A chapter on its way may print what is not committed: the line stays then.
        if all(name in committed for name in names):
            board = links.BOARD in app.env.found_docs
            callouts = [callout(committed[n], page, board=board) for n in names]
            # Not replace_self, which would hand on the classes of a stream.
            block.parent.replace(block, callouts)


def _names(block: nodes.literal_block) -> list[tuple[str, str]]:
    """Return claim and tier of each line; none if a line is anything else."""
    matches = [_LINE.fullmatch(line) for line in block.astext().splitlines()]
    return [(m[1], m[2] or "live") for m in matches if m] if all(matches) else []


def setup(app: Any) -> None:
    """Register what replaces the lines, and its style."""
    app.connect("doctree-read", _replace_lines)
    assets.use_where(app, "wl-verdict", css="scoreboard.css")
