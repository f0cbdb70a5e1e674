"""How the book, its chapters and their papers are cited: all say the same."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from pybtex.database import parse_string
from richregime import bibliography
from richregime.chapters import BookError, Chapter, read_chapters
from richregime.pages import CLAIMS, read_claims

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = read_chapters(ROOT)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
ZENODO = json.loads((ROOT / ".zenodo.json").read_text("utf-8"))
BOOK = bibliography.read_book(ROOT)
CLAIMED = read_claims(ROOT / CLAIMS)
PAPERS = {j.claim.chapter: j.claim.paper for j in CLAIMED}
PAPERS = {c.name: PAPERS[c.name] for c in CHAPTERS if c.name in PAPERS}
KNOWN = bibliography.read_references(ROOT).entries
DESCRIBED = [bibliography.describe(KNOWN[key]) for key in PAPERS.values()]
CFF_TYPES = {"inproceedings": "conference-paper", "article": "article"}


def blocks(chapter):
    """The BibTeX entries that a chapter's end shows, by key."""
    text = chapter.source.read_text("utf-8")
    label = "cite-" + chapter.place.replace(" ", "-")
    _, end = text.split(f"({label})=\n## Cite this chapter\n")
    shown = re.findall(r"```bibtex\n(.*?)```", end, re.DOTALL)
    entries = [parse_string(block, "bibtex").entries for block in shown]
    return {key: entry for found in entries for key, entry in found.items()}


def bare(text):
    return text.replace("{", "").replace("}", "")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_a_chapter_says_how_it_is_cited(chapter):
    """Against the metadata themselves, and not against what `citation` writes."""
    mine = [j.claim for j in CLAIMED if j.claim.chapter == chapter.name]
    found = blocks(chapter)
    (key,) = set(found) - {PAPERS[chapter.name]}
    entry = found[key]
    fields = entry.fields
    heading = re.search(r"^# (.+)$", chapter.source.read_text("utf-8"), re.MULTILINE)
    assert key == f"richregime{BOOK.year}{mine[0].id.split('.')[0]}"
    assert bare(fields["title"]) == heading[1]
    assert [str(person) for person in entry.persons["author"]] == [f"{{{BOOK.author}}}"]
    assert fields["year"] == BOOK.year
    assert fields["howpublished"] == f"{BOOK.title}, {chapter.place}"
    assert fields["version"] == PROJECT["version"]
    assert fields["url"] == f"{BOOK.address}{chapter.folder.name}/{chapter.name}.html"
    for tier in {claim.tier for claim in mine}:
        ids = [claim.id for claim in mine if claim.tier == tier]
        span = f"{ids[0]} to {ids[-1]}" if len(ids) > 1 else ids[0]
        assert f"{span} ({tier} tier)" in fields["note"]
    assert fields["note"].count("tier)") == len({claim.tier for claim in mine})


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_the_shown_entry_is_the_one_that_the_library_writes(chapter):
    """So that this test's message has the text to paste after a change."""
    assert bibliography.citation(ROOT, chapter) in chapter.source.read_text("utf-8")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_the_paper_is_cited_as_in_the_bibliography(chapter):
    key = PAPERS[chapter.name]
    assert blocks(chapter)[key] == KNOWN[key]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_the_end_leads_to_the_record(chapter):
    text = chapter.source.read_text("utf-8")
    assert f"<{chapter.name}>`" in text.split("## Cite this chapter")[1]
    assert "{record}`" in text.split("## Cite this chapter")[1]


def test_titles_keep_their_capitals_in_bibtex(tmp_path):
    source = tmp_path / "01-x.md"
    source.write_text("---\na: b\n---\n```\n# no\n```\n# MLPs and μP at the Edge\n")
    chapter = Chapter("01-x", tmp_path)
    assert bibliography.title(chapter) == "MLPs and μP at the Edge"
    protected = bibliography._protected(bibliography.title(chapter))
    assert protected == "{MLPs} and {μP} at the Edge"
    source.write_text("no heading\n")
    with pytest.raises(BookError, match=r"01-x\.md has no heading"):
        bibliography.title(chapter)


def test_a_paper_is_described_without_tex():
    found = bibliography.describe(KNOWN["hajjar2023symmetries"])
    assert found["authors"] == ["Karl Hajjar", "Lénaïc Chizat"]
    assert found["doi"] and found["arxiv"] and found["venue"]
    assert "{" not in json.dumps(DESCRIBED).replace('{"', "")


def test_the_citation_file_is_complete_and_true():
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software"
    assert CITATION["message"] and CITATION["title"].startswith(BOOK.title)
    assert CITATION["authors"] == [{"name": BOOK.author}]
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["repository-code"] == BOOK.repository
    assert all(isinstance(word, str) for word in CITATION["keywords"])
    assert not {"doi", "identifiers"} & set(CITATION), "the book has none yet"
    allowed = {"cff-version", "message", "title", "type", "authors", "version"}
    allowed |= {"license", "repository-code", "keywords", "references"}
    assert set(CITATION) == allowed


def test_the_citation_file_refers_to_every_reproduced_paper():
    for entry, paper in zip(CITATION["references"], DESCRIBED, strict=True):
        kind = CFF_TYPES.get(KNOWN[paper["key"]].type, "generic")
        names = [f"{a['given-names']} {a['family-names']}" for a in entry["authors"]]
        assert entry["type"] == kind and entry["title"] == paper["title"]
        assert names == paper["authors"] and entry["year"] == paper["year"]
        venue = entry.get("journal") or entry.get("collection-title")
        assert venue == paper["venue"] and entry.get("doi") == paper["doi"]
        (preprint,) = entry["identifiers"]
        assert preprint["type"] == "other"
        assert preprint["value"] == f"arXiv:{paper['arxiv']}"


def test_the_archive_would_say_what_the_citation_file_says():
    for name in ("title", "keywords", "version"):
        assert ZENODO[name] == CITATION[name]
    assert ZENODO["creators"] == [{"name": BOOK.author}]
    # The archive's vocabulary of licences is in small letters.
    assert ZENODO["license"] == CITATION["license"].lower()
    assert ZENODO["upload_type"] == "software" and ZENODO["access_right"] == "open"
    assert re.fullmatch(r"<p>[^<>]+</p>", ZENODO["description"])
    assert "doi" not in ZENODO, "there is none before the archive gives one"


def test_the_archive_would_cite_every_reproduced_paper():
    wanted = set()
    for paper in DESCRIBED:
        wanted.add(("arxiv", f"arXiv:{paper['arxiv']}"))
        if paper["doi"]:
            wanted.add(("doi", paper["doi"]))
    related = ZENODO["related_identifiers"]
    assert {(one["scheme"], one["identifier"]) for one in related} == wanted
    assert {one["relation"] for one in related} == {"cites"}
    assert all(one["resource_type"].startswith("publication-") for one in related)


def test_the_front_page_cites_the_book():
    text = (ROOT / "index.md").read_text("utf-8")
    (shown,) = re.findall(r"```bibtex\n(.*?)```", text, re.DOTALL)
    (entry,) = parse_string(shown, "bibtex").entries.values()
    assert entry.fields == {
        "title": CITATION["title"],
        "year": BOOK.year,
        "version": PROJECT["version"],
        "url": BOOK.address,
    }
    assert [str(person) for person in entry.persons["author"]] == [f"{{{BOOK.author}}}"]
