"""What chapters say in the same way."""

import pytest
from richregime.study import Study
from widthlab.claims import Check, ClaimError, ClaimsFile, Estimate

STUDY = Study("01-toy", key="toy", paper="nobody2026", origin="none")
MASS = Check.equals("m", "mass", 1.0, 0.1, Estimate(1.0, 0.95, 1.05, 3))
FAR = Check.at_most("m", "distance", 1.0, Estimate(2.0, 1.9, 2.1, 3))
GROWS = STUDY.claim(1, "For f* = |x_H| masses grow.", source="nowhere")


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A folder that is a book, with one committed claim."""
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (tmp_path / "results").mkdir()
    ClaimsFile(tmp_path / "results" / "claims.json").update([GROWS.judge([MASS])])
    monkeypatch.chdir(tmp_path)


def test_a_bar_in_a_statement_does_not_end_its_cell(book):
    row = STUDY.glance().data.splitlines()[-1]
    assert row.startswith("| [toy.C1](#toy-c1) | For f* = \\|x_H\\| masses grow. |")
    assert row.replace("\\|", "").count("|") == 4


def test_a_chapter_without_claims_says_so(book):
    assert "No claim" in Study("02-other", key="o", paper="nobody2026").glance().data


def test_claims_are_the_studys():
    assert (GROWS.id, GROWS.chapter, GROWS.paper) == ("toy.C1", "01-toy", "nobody2026")
    assert (GROWS.tier, GROWS.tolerance_origin) == ("live", "none")
    own = STUDY.claim(2, "It ends.", source="abstract", origin="spread", tier="paper")
    assert (own.tier, own.tolerance_origin) == ("paper", "spread")
    with pytest.raises(ClaimError, match=r"toy\.C3 does not say why.*origin="):
        Study("01-toy", key="toy", paper="n").claim(3, "It ends.", source="abstract")


def test_verdicts_are_printed_and_stored_where_the_variable_says(
    tmp_path, monkeypatch, capsys
):
    path = tmp_path / "claims.json"
    monkeypatch.delenv("WIDTHLAB_CLAIMS", raising=False)
    STUDY.publish(GROWS.judge([MASS]))
    assert capsys.readouterr().out == "toy.C1 reproduced\n" and not path.exists()
    monkeypatch.setenv("WIDTHLAB_CLAIMS", str(path))
    STUDY.publish(GROWS.judge([MASS]))
    assert [j.verdict for j in ClaimsFile(path).read()] == ["reproduced"]
    other = Study("02-other", key="o", paper="nobody2026", origin="none")
    with pytest.raises(ClaimError, match=r"toy\.C1.*not claims of 02-other"):
        other.publish(GROWS.judge([MASS]))


def test_tables_hold_all_checks_or_those_that_did_not_pass():
    one, two = GROWS.judge([MASS, FAR], [FAR]), GROWS.judge([FAR])
    assert STUDY.table(one)["role"].tolist() == ["check", "check", "control"]
    assert STUDY.unsettled(one)["quantity"].tolist() == ["distance"]
    assert "claim" not in STUDY.unsettled(one)
    assert STUDY.unsettled(one, two)["claim"].tolist() == ["toy.C1"] * 2
