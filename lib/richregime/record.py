"""The reproduction record of a chapter: what was reproduced, by what, on what.

One JSON object in the spirit of ReScience C: the paper, every claim with its numbers
and verdict, and the code, data, environment and execution behind them. It is a pure
function of committed files (the claims, the executions, the stored runs' sidecar, the
bibliography, the chapter's pair, the configuration), so it is not committed itself:
a second copy of a verdict could differ from the first. The site has it as
``records/<chapter>.json``, and ``richregime record 3`` prints it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from widthlab.claims import Judgement
from widthlab.data.origins import origin
from widthlab.data.sources import SOURCES
from widthlab.runs.archive import SIDECAR, measurements_of

from richregime import bibliography
from richregime.chapters import BookError, Chapter
from richregime.executions import LOCK, Execution, file_sha256, read_executions
from richregime.pages import CLAIMS, read_claims

SCHEMA_ID = "rich-regime-record/2"
SCHEMA = Path(__file__).with_name("record.schema.json")
# Said elsewhere in the record, or in detail in the claims file alone.
_ELSEWHERE = ("chapter", "paper")


def record(root: Path, chapter: Chapter) -> dict[str, Any]:
    """Return a chapter's reproduction record as plain JSON values."""
    judged = [
        judgement
        for judgement in read_claims(root / CLAIMS)
        if judgement.claim.chapter == chapter.name
    ]
    last = read_executions(root).get(chapter.name)
    book = bibliography.read_book(root)
    return {
        "schema": SCHEMA_ID,
        "title": bibliography.title(chapter),
        "chapter": {
            "name": chapter.name,
            "number": chapter.number,
            "book": book.title,
            "authors": [book.author],
            "address": bibliography.page_address(root, chapter),
        },
        "papers": _papers(root, judged),
        "claims": [_claim(judgement) for judgement in judged],
        "code": {
            "repository": book.repository,
            "version": metadata.version("widthlab"),
            "licence": metadata.metadata("widthlab")["License-Expression"],
            "library_sha256": last.code if last else None,
        },
        "data": _data(last),
        "environment": _environment(root, last),
        "execution": _execution(last),
        "text": _file(root, chapter.source),
        "notebook": _file(root, chapter.notebook),
        "stored_runs": stored_runs(root, chapter),
    }


def record_text(root: Path, chapter: Chapter) -> str:
    """Return the record as text, one fact a line."""
    return json.dumps(record(root, chapter), indent=1, ensure_ascii=False) + "\n"


def stored_runs(root: Path, chapter: Chapter) -> dict[str, Any] | None:
    """Sum up the runs that were made once and are kept in ``results/``, if any.

    Their seconds add up to the time on the machine: runs that trained together share
    that time.
    """
    folder = root / "results" / chapter.name
    sidecar = folder / SIDECAR
    if not sidecar.exists():
        return None
    runs = json.loads(sidecar.read_text(encoding="utf-8"))["runs"].values()
    made = [run["provenance"] for run in runs]
    kinds = sorted({measurements_of(run["kind"]) for run in runs})
    return {
        "runs": len(made),
        "seconds": round(sum(one["wall_s"] for one in made), 1),
        "devices": sorted({f"{one['devices']} x {one['device']}" for one in made}),
        "dates": [edge(one["created"][:10] for one in made) for edge in (min, max)],
        "jax": sorted({one["jax"] for one in made}),
        "data": sorted({name for run in runs for name in _data_of(run["spec"])}),
        "files": [_file(root, folder / name) for name in (SIDECAR, *kinds)],
    }


def _data_of(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield the data sets of a stored run; a computation has them among its fields."""
    if "data" in spec:
        yield spec["data"]["name"]
    fields = spec.get("fields", {}).values()
    yield from (v for v in fields if isinstance(v, str) and v in SOURCES)


def _papers(root: Path, judged: Sequence[Judgement]) -> list[dict[str, Any]]:
    keys = dict.fromkeys(judgement.claim.paper for judgement in judged)
    entries = bibliography.read_references(root).entries
    if missing := [key for key in keys if key not in entries]:
        raise BookError(
            f"{bibliography.REFERENCES} has no entry {', '.join(missing)}, which "
            "claims name as their paper: add it, with what was checked at the source."
        )
    return [bibliography.describe(entries[key]) for key in keys]


def _claim(judgement: Judgement) -> dict[str, Any]:
    """Return a claim with endpoint and controls; of its further checks, how many."""
    everything = judgement.to_json()
    kept = {key: value for key, value in everything.items() if key not in _ELSEWHERE}
    return kept | {"secondary": len(everything["secondary"])}


def _data(last: Execution | None) -> list[dict[str, Any]] | None:
    """Return what was loaded with where it comes from; None if that is not recorded."""
    if last is None or last.data is None:
        return None
    found = [(entry, origin(entry["name"])) for entry in last.data]
    return [
        {**entry, "kind": o.kind, "source": o.where, "hashes": dict(o.hashes)}
        for entry, o in found
    ]


def _environment(root: Path, last: Execution | None) -> dict[str, Any]:
    packages = dict(last.versions or {}) if last else {}
    return {
        "python": packages.pop("python", None),
        "packages": packages,
        "system": last.system if last else None,
        "lock": _file(root, root / LOCK),
        "lock_sha256_when_executed": last.lock_sha256 if last else None,
    }


def _execution(last: Execution | None) -> dict[str, Any] | None:
    if last is None:
        return None
    return {
        "date": last.date,
        "seconds": last.seconds,
        "device": dict(last.device) if last.device else None,
        "product_gflops": last.gflops,
        "text_sha256": last.text_sha256,
        "runs_trained": last.runs,
        "flows_solved": last.flows,
    }


def _file(root: Path, path: Path) -> dict[str, str] | None:
    if not path.exists():
        return None
    return {"file": path.relative_to(root).as_posix(), "sha256": file_sha256(path)}
