"""Reproduction records on the site: `records/<chapter>.json`, and links to them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import ReferenceRole

from richregime.chapters import read_chapters


class RecordRole(ReferenceRole):
    """``{record}`text <chapter>` ``: a link to its record, or to the schema."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the link, whose target does not exist while pages are read."""
        known = [chapter.name for chapter in read_chapters(Path(self.env.srcdir))]
        if self.target not in (*known, "schema"):
            message = f"no chapter is called {self.target!r}; there are {known}"
            return [], [self.inliner.reporter.error(message, line=self.lineno)]
        name = "record.schema" if self.target == "schema" else self.target
        address = f"{'../' * self.env.docname.count('/')}records/{name}.json"
        text = nodes.inline("", self.title)
        return [nodes.reference("", "", text, refuri=address, internal=True)], []


def write_records(app: Any, exception: Exception | None) -> None:
    """Write every chapter's record, and the schema that they follow, into the site."""
    if exception or app.builder.format != "html":
        return
    from richregime.record import SCHEMA, record_text

    root, folder = Path(app.srcdir), Path(app.outdir) / "records"
    folder.mkdir(exist_ok=True)
    for chapter in read_chapters(root):
        text = record_text(root, chapter)
        (folder / f"{chapter.name}.json").write_text(text, encoding="utf-8")
    shutil.copy(SCHEMA, folder)


def setup(app: Any) -> None:
    """Register the role and the files."""
    app.add_role("record", RecordRole())
    app.connect("build-finished", write_records)
