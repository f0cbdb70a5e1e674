"""The scoreboard: every claim with its verdict, from ``results/claims.json``.

    ```{scoreboard}
    ```

makes a table for each chapter, a row for each claim and tier; ``{scoreboard} compact``
a list of chips that lead to these rows. A script adds the filter to the text.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from widthlab.claims import Claim, Judgement, Verdict
from widthlab.claims.check import SYMBOLS

from richregime.bibliography import title
from richregime.chapters import Chapter
from richregime.pages import CLAIMS, read_claims
from richregime.site import assets, links

COLUMNS = "Claim, Statement, Verdict, Predicted, Measured, Negative control".split(", ")
SPREADS = {
    "t": "95 % interval, {} seeds",
    "log-t": "95 % interval, {} seeds",
    "range": "range of {} runs",
    "exact": "no spread over seeds",
}
"""What a number's interval is, in words."""

KEYS = {verdict: verdict.name.lower() for verdict in Verdict}
"""What the address of a filtered scoreboard calls the verdicts."""


class Scoreboard(SphinxDirective):
    """The directive, on the page of its own or, with ``compact``, on others."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes of either form."""
        form = self.arguments[0] if self.arguments else "full"
        if form not in ("full", "compact"):
            raise self.error(f"a scoreboard is full or compact, not {form!r}")
        path = Path(self.env.srcdir) / CLAIMS
        self.env.note_dependency(str(path))
        chapters = by_chapter(read_claims(path))
        if not chapters:
            return [nodes.paragraph("", "No claim has been judged yet.")]
        made = [self._totals([j for mine in chapters.values() for j in mine])]
        if form == "compact":
            items = [self._chips(name, mine) for name, mine in chapters.items()]
            return [*made, nodes.bullet_list("", *items, classes=["wl-board"])]
        return [*made, *(self._section(name, m) for name, m in chapters.items())]

    def _totals(self, judgements: Sequence[Judgement]) -> nodes.paragraph:
        """Count claims and verdicts, each count with a link to its rows."""
        claims = {judgement.claim.id: judgement.claim for judgement in judgements}
        ours = sum(claim.ours for claim in claims.values())
        tiers = [judgement.claim.tier for judgement in judgements]
        each = ", ".join(f"{tiers.count(t)} in the {t} tier" for t in sorted({*tiers}))
        own = f" ({ours} of them ours)" if ours else ""
        text = f"{len(claims)} claims{own}, {len(tiers)} verdicts ({each}): "
        line = nodes.paragraph("", text, classes=["wl-totals"])
        counts = Counter(judgement.verdict for judgement in judgements)
        for verdict in filter(counts.get, Verdict):
            shown = badge(verdict, f"{counts[verdict]} ")
            line += links.link("verdict", KEYS[verdict], self.env.docname, shown)
            line += nodes.Text(" ")
        return line

    def _title(self, chapter: str) -> str:
        found = Chapter(
            chapter, Path(self.env.srcdir) / Path(self._page(chapter)).parent
        )
        self.env.note_dependency(str(found.source))
        return title(found)

    def _page(self, chapter: str) -> str:
        """Return the page of a chapter: the one that is called like it."""
        names = {Path(page).name: page for page in self.env.found_docs}
        return names.get(chapter, f"chapters/{chapter}")

    def _chips(self, chapter: str, judgements: Sequence[Judgement]) -> nodes.list_item:
        paragraphs = (nodes.paragraph("", "", self._chip(one)) for one in judgements)
        chips = (nodes.list_item("", paragraph) for paragraph in paragraphs)
        return nodes.list_item(
            "",
            self._to_chapter(chapter, self._title(chapter)),
            nodes.bullet_list("", *chips, classes=["wl-chips"]),
        )

    def _to_chapter(self, chapter: str, text: str) -> nodes.paragraph:
        target, name = self._page(chapter), nodes.inline("", text)
        link = links.link("place", target, self.env.docname, name)
        return nodes.paragraph("", "", link)

    def _chip(self, judgement: Judgement) -> nodes.Node:
        """Symbol and number to see, tier, verdict and statement to hear or to hover."""
        claim, verdict = judgement.claim, judgement.verdict
        mark, number = verdict.badge.split()[0], claim.id.partition(".")[2]
        shown = number if claim.tier == "live" else f"{number} {claim.tier}"
        marks = "".join(f", {mark}" for mark in marks_of(judgement))
        rest = f" {claim.id}, {claim.tier} tier{marks}, {verdict}: {claim.statement}"
        return links.link(
            "claim",
            name_of(judgement),
            self.env.docname,
            nodes.inline("", f"{mark} {shown}"),
            nodes.inline("", rest, classes=["wl-tip"]),
            classes=[
                "wl-chip",
                f"wl-{KEYS[verdict]}",
                f"wl-{claim.tier}",
                whose(claim),
            ],
        )

    def _section(self, chapter: str, judgements: Sequence[Judgement]) -> nodes.section:
        key = judgements[0].claim.id.partition(".")[0]
        section = nodes.section(ids=[f"scoreboard-{key}"], classes=["wl-chapter"])
        section += nodes.title("", self._title(chapter))
        section += self._to_chapter(chapter, "Read the chapter")
        section += _table([self._row(judgement) for judgement in judgements])
        return section

    def _row(self, judgement: Judgement) -> nodes.row:
        claim, verdict = judgement.claim, judgement.verdict
        name = name_of(judgement)
        node_id = f"claim-{name.lower().replace('.', '-')}"
        shown = f"{claim.id} ({claim.tier} tier): {claim.statement}"
        domain: Any = self.env.get_domain(links.BookDomain.name)
        domain.note_claim(name, node_id, shown)

        text = nodes.inline("", claim.id)
        section = links.link("place", claim.anchor, self.env.docname, text)
        here = f" link to {claim.id}, {claim.tier} tier"
        sign = nodes.inline("", "#"), nodes.inline("", here, classes=["wl-hidden"])
        more = {"refid": node_id, "internal": True, "classes": ["wl-permalink"]}
        permalink = nodes.reference("", "", *sign, **more)
        target = nodes.target("", "", ids=[node_id])
        first = nodes.paragraph("", "", target, section, nodes.Text(" "), permalink)
        marks = [nodes.paragraph("", "", tag(mark)) for mark in marks_of(judgement)]
        whence = f"{'Ours, from' if claim.ours else 'The paper'}: {claim.source}"
        cells = (
            [first, f"{claim.tier} tier", *marks],
            [claim.statement, whence, *exploratory(judgement)],
            [nodes.paragraph("", "", badge(verdict)), *qualified(judgement)],
            [predicted(judgement), quantity(judgement), *design(judgement)],
            measured(judgement),
            control(judgement),
        )
        classes = [f"wl-is-{KEYS[verdict]}", f"wl-in-{claim.tier}", whose(claim)]
        return nodes.row("", *map(_entry, cells), classes=classes)


def by_chapter(judgements: Iterable[Judgement]) -> dict[str, list[Judgement]]:
    """Group judgements by chapter, in the book's order, and in it as stored."""
    found: dict[str, list[Judgement]] = {}
    for judgement in sorted(judgements, key=lambda one: one.claim.chapter):
        found.setdefault(judgement.claim.chapter, []).append(judgement)
    return found


def name_of(judgement: Judgement) -> str:
    """Return what a row is called for good: the claim's id, and a tier but live."""
    claim = judgement.claim
    return claim.id if claim.tier == "live" else f"{claim.id}-{claim.tier}"


def badge(verdict: Verdict, before: str = "") -> nodes.inline:
    """Return a verdict with its symbol, in its colours."""
    classes = ["wl-badge", f"wl-{KEYS[verdict]}"]
    return nodes.inline("", f"{before}{verdict.badge}", classes=classes)


def whose(claim: Claim) -> str:
    """Return the class of what is the paper's, or ours."""
    return "wl-of-ours" if claim.ours else "wl-of-paper"


def marks_of(judgement: Judgement) -> list[str]:
    """Return what a claim is marked as: ours, exploratory."""
    claim = judgement.claim
    marks = {"ours": claim.ours, "exploratory": claim.exploratory}
    return [mark for mark, holds in marks.items() if holds]


def tag(mark: str) -> nodes.inline:
    """Return a mark as it stands beside a verdict."""
    return nodes.inline("", mark, classes=["wl-tag", f"wl-tag-{mark}"])


def exploratory(judgement: Judgement) -> list[str]:
    """Say what was set after a first look at the data, if anything was."""
    what = judgement.claim.exploratory
    return [f"Exploratory: {what}"] if what else []


def quantity(judgement: Judgement) -> str:
    """Say what the primary endpoint measures, and where."""
    return f"{judgement.primary.quantity} ({judgement.primary.label})"


def measured(judgement: Judgement) -> list[str]:
    """Return the endpoint's number with its interval, and on how many seeds."""
    estimate = judgement.primary.estimate
    if estimate is None:
        return ["not measured"]
    return [str(estimate), SPREADS[estimate.kind].format(estimate.seeds)]


def predicted(judgement: Judgement) -> str:
    """Return what the endpoint's number is compared with."""
    head = judgement.primary
    relation = f"{SYMBOLS[head.relation]} {head.predicted:.4g}"
    return f"{relation}, tolerance {head.tolerance:.4g}" if head.tolerance else relation


def design(judgement: Judgement) -> list[str]:
    """Say how likely a pass was if the claim is true, and when it was stated."""
    plan, power = judgement.claim.plan, judgement.claim.power
    known = []
    if plan is not None and power is not None:
        shown = "above 0.99" if power > 0.99 else f"{power:.2f}"
        known.append(f"power {shown} with {plan.seeds} seeds")
    if judgement.commit:
        known.append(f"text of {judgement.commit[:10]}")
    return known


def qualified(judgement: Judgement) -> list[str]:
    """Say what the secondary checks add, and what would decide an open claim."""
    decide, adds = judgement.to_decide(), judgement.qualification()
    more = [f"To decide it: {decide}"] if decide else []
    return [adds[0].upper() + adds[1:], *more]


def control(judgement: Judgement) -> list[str]:
    """Say what became of the controls, and what was broken in them."""
    broken = "; ".join(dict.fromkeys(check.label for check in judgement.controls))
    return [text for text in (judgement.control_line(), broken) if text]


def _entry(content: Sequence[nodes.Node | str]) -> nodes.entry:
    """Return a cell; what follows its first paragraph is detail."""
    made: list[Any] = [
        nodes.paragraph("", c) if isinstance(c, str) else c for c in content
    ]
    for detail in made[1:]:
        detail["classes"].append("wl-detail")
    return nodes.entry("", *made)


def _table(rows: Sequence[nodes.row]) -> nodes.table:
    group = nodes.tgroup("", cols=len(COLUMNS))
    for column in COLUMNS:
        group += nodes.colspec(colwidth=20, stub=int(column == "Claim"))
    head = nodes.row("", *(nodes.entry("", nodes.paragraph("", c)) for c in COLUMNS))
    group += [nodes.thead("", head), nodes.tbody("", *rows)]
    return nodes.table("", group, classes=["wl-scoreboard", "colwidths-auto"])


def setup(app: Any) -> None:
    """Register the directive, its style and its script."""
    app.add_directive("scoreboard", Scoreboard)
    assets.use_where(app, "wl-totals", css="scoreboard.css")
    assets.use_where(app, "wl-scoreboard", js="scoreboard.js")
