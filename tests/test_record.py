"""Reproduction records: they follow their schema, and the files they are made from."""

import copy
import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from richregime import cli
from richregime.chapters import BookError, read_chapters
from richregime.executions import (
    Execution,
    file_sha256,
    read_executions,
    write_execution,
)
from richregime.pages import CLAIMS, read_claims, write_claims
from richregime.record import SCHEMA, SCHEMA_ID, record, record_text, stored_runs
from sklearn import datasets
from synthetic_claims import JUDGED, student
from widthlab.canonical import content_sha256
from widthlab.data.origins import origin
from widthlab.data.sources import SOURCES
from widthlab.data.synthetic import TASKS

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = read_chapters(ROOT)
SCHEMA_TEXT = json.loads(SCHEMA.read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA_TEXT)

FULL = Execution(
    seconds=12.5,
    cells=(12.5,),
    date="2026-01-02T03:04:05+00:00",
    text_sha256="a" * 64,
    lock_sha256="b" * 64,
    device={"platform": "cpu", "kind": "Abacus", "count": 2, "cores": 2},
    system="Some system, x86_64",
    versions={"python": "3.11.0", "jax": "0.10.2"},
    code="c" * 64,
    gflops=300.0,
    data=[
        {"name": "digits", "selections": [{"n_train": 20, "sha256": "d" * 64}]},
        {"name": "noise", "tasks": 12},
    ],
    runs=7,
    flows=0,
)


@pytest.fixture
def book(tmp_path):
    """The book's first chapter and what its record is made from, to change."""
    first = CHAPTERS[0]
    folder = f"results/{first.name}"
    for name in ("_config.yml", "references.bib", "requirements.lock", str(CLAIMS)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "chapters").mkdir()
    for path in (first.source, first.notebook):
        shutil.copy(path, tmp_path / "chapters")
    shutil.copytree(ROOT / folder, tmp_path / folder)
    toc = f"format: jb-book\nroot: index\nchapters:\n- file: chapters/{first.name}\n"
    (tmp_path / "_toc.yml").write_text(toc)
    write_claims(JUDGED, tmp_path / CLAIMS)
    write_execution(tmp_path, first.name, FULL)
    return tmp_path


def made(root):
    (chapter,) = read_chapters(root)
    return record(root, chapter)


def test_the_schema_is_one_and_forbids_what_it_does_not_know():
    VALIDATOR.check_schema(SCHEMA_TEXT)
    assert SCHEMA_TEXT["$id"] == SCHEMA_ID
    assert SCHEMA_TEXT["additionalProperties"] is False


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_the_record_of_a_chapter_is_valid_and_complete(chapter):
    found = record(ROOT, chapter)
    VALIDATOR.validate(found)
    judged = [j for j in read_claims(ROOT / CLAIMS) if j.claim.chapter == chapter.name]
    assert [(c["id"], c["tier"], c["verdict"]) for c in found["claims"]] == [
        (j.claim.id, j.claim.tier, j.verdict) for j in judged
    ]
    assert [c["primary"] for c in found["claims"]] == [
        j.to_json()["primary"] for j in judged
    ]
    assert found["notebook"]["sha256"] == file_sha256(chapter.notebook)
    assert found["execution"]["seconds"] == read_executions(ROOT)[chapter.name].seconds


def test_the_record_has_claims_of_every_kind(book):
    found = made(book)
    VALIDATOR.validate(found)
    mine = [j for j in JUDGED if j.claim.chapter == CHAPTERS[0].name]
    assert {(c["id"], c["tier"]): c["verdict"] for c in found["claims"]} == {
        (j.claim.id, j.claim.tier): j.verdict for j in mine
    }
    (own,) = [c for c in found["claims"] if c["ours"]]
    assert own["exploratory"] and own["plan"]["truth"] == 0.6 and own["secondary"] == 1


def test_the_record_has_what_the_execution_recorded(book):
    found = made(book)
    VALIDATOR.validate(found)
    assert found["execution"]["device"]["kind"] == "Abacus"
    assert found["execution"]["date"] == FULL.date
    assert found["execution"]["runs_trained"] == 7
    assert found["environment"]["python"] == "3.11.0"
    assert found["environment"]["packages"] == {"jax": "0.10.2"}
    assert found["code"]["library_sha256"] == FULL.code
    digits, noise = found["data"]
    assert digits["source"] == "scikit-learn" and len(digits["hashes"]) == 1
    assert noise["kind"] == "drawn" and noise["tasks"] == 12


def test_what_was_not_recorded_is_null_and_no_guess(book):
    write_execution(book, CHAPTERS[0].name, Execution(seconds=1.0, cells=(1.0,)))
    found = made(book)
    VALIDATOR.validate(found)
    assert found["data"] is None and found["execution"]["date"] is None
    assert found["environment"]["python"] is None
    (book / "results" / "executions.json").unlink()
    assert made(book)["execution"] is None
    VALIDATOR.validate(made(book))


def test_the_record_changes_with_a_verdict(book):
    before, path = made(book), book / CLAIMS
    judged = read_claims(path)
    index = next(i for i, j in enumerate(judged) if j.claim.id == "mup.C1")
    assert judged[index].verdict == "reproduced"
    judged[index] = judged[index].claim.judge(student(9.0, 0.1))
    write_claims(judged, path)
    after = made(book)
    VALIDATOR.validate(after)
    changed = [
        a for a, b in zip(after["claims"], before["claims"], strict=True) if a != b
    ]
    assert [claim["id"] for claim in changed] == ["mup.C1"]
    assert changed[0]["verdict"] == "not reproduced"
    assert changed[0]["primary"]["measured"] == 9.0
    assert {k for k in after if after[k] != before[k]} == {"claims"}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda r: r.pop("claims"), "'claims' is a required"),
        (lambda r: r.update(extra=1), "'extra' was unexpected"),
        (lambda r: r["claims"][0].update(verdict="fine"), "'fine' is not one of"),
        (lambda r: r["text"].update(sha256="12"), "'12' does not match"),
        (lambda r: r["papers"].clear(), "should be non-empty"),
        (
            lambda r: r["claims"][0]["primary"].update(predicted="one"),
            "is not of type 'number'",
        ),
        (lambda r: r["claims"][0]["plan"].update(seeds=1), "is not valid under"),
        (lambda r: r["data"][0].pop("selections"), "is not valid under"),
        (lambda r: r["execution"].update(date="yesterday"), "does not match"),
    ],
)
def test_the_schema_refuses_records_that_are_wrong(book, change, part):
    wrong = copy.deepcopy(made(book))
    change(wrong)
    with pytest.raises(jsonschema.ValidationError) as caught:
        VALIDATOR.validate(wrong)
    assert part in caught.value.message


def test_stored_runs_add_up(book):
    (chapter,) = read_chapters(book)
    found = stored_runs(book, chapter)
    sidecar = json.loads((book / found["files"][0]["file"]).read_text("utf-8"))["runs"]
    assert found["runs"] == len(sidecar) > 1
    total = sum(run["provenance"]["wall_s"] for run in sidecar.values())
    assert found["seconds"] == pytest.approx(total, abs=0.1)
    assert found["dates"][0] <= found["dates"][1]
    shutil.rmtree(book / "results" / chapter.name)
    assert stored_runs(book, chapter) is None
    VALIDATOR.validate(made(book))


def test_a_paper_that_the_bibliography_lacks_is_named(book):
    (book / "references.bib").write_text("@misc{other, title={A}, year={2020}}\n")
    with pytest.raises(BookError, match=r"references\.bib has no entry chen2025global"):
        made(book)


def test_the_command_prints_the_record(book, capsys):
    assert cli.main(["--root", str(book), "record", "1"]) == 0
    (chapter,) = read_chapters(book)
    out = capsys.readouterr().out
    assert out == record_text(book, chapter) and json.loads(out) == made(book)


@pytest.mark.parametrize("name", [*SOURCES, *TASKS])
def test_every_data_set_has_an_origin(name):
    found = origin(name)
    assert found.kind in ("packaged", "downloaded", "drawn") and found.where
    assert bool(found.hashes) == (found.kind != "drawn")


def test_an_unknown_data_set_has_none():
    with pytest.raises(ValueError, match="no data set is called 'imagenet'; there are"):
        origin("imagenet")


def test_the_packaged_hash_is_that_of_what_is_read():
    table = datasets.load_digits()
    pixels, labels = (a.astype(np.uint8) for a in (table.data, table.target))
    assert [*origin("digits").hashes.values()] == [content_sha256(pixels, labels)]
