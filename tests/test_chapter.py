"""What chapters say in the same way."""

import pytest
from richregime import chapter
from widthlab.claims import Check, Claim, ClaimsFile, Estimate


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A folder that is a book, with one committed claim."""
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (tmp_path / "results").mkdir()
    claim = Claim(
        id="toy.C1",
        chapter="01-toy",
        paper="nobody2026",
        statement="For f* = |x_H| masses grow.",
        source="nowhere",
        tier="live",
        tolerance_origin="none",
    )
    check = Check("m", "mass", "equals", 1.0, 0.1, Estimate(1.0, 0.95, 1.05, 3))
    ClaimsFile(tmp_path / "results" / "claims.json").update([claim.judge([check])])
    monkeypatch.chdir(tmp_path)


def test_a_bar_in_a_statement_does_not_end_its_cell(book):
    row = chapter.glance("01-toy").data.splitlines()[-1]
    assert row.startswith("| [toy.C1](#toy-c1) | For f* = \\|x_H\\| masses grow. |")
    assert row.replace("\\|", "").count("|") == 4


def test_a_chapter_without_claims_says_so(book):
    assert "No claim" in chapter.glance("02-other").data
