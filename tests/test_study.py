"""What chapters say in the same way."""

import pytest
from richregime.study import Study
from widthlab.claims import Check, Estimate, Plan, Prediction
from widthlab.claims.estimates import ClaimError
from widthlab.claims.file import ClaimsFile

STUDY = Study("01-toy", key="toy", paper="nobody2026", origin="none")
MASS = Prediction("mass", 1.0, within=0.1)
PLAN = Plan(3, 0.02, "pilot")
GOOD, FAR = Estimate(1.0, 0.95, 1.05, 3), Estimate(2.0, 1.9, 2.1, 3)
DISTANCE = Check.at_most("m", "distance", 1.0, FAR)


def claim(number=1, statement="For f* = |x_H| masses grow.", **rest):
    given = {"source": "nowhere", "primary": MASS.endpoint("m"), "plan": PLAN} | rest
    return STUDY.claim(number, statement, **given)


GROWS = claim()


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A folder that is a book, with a committed claim of the paper and one of ours."""
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (tmp_path / "results").mkdir()
    own = claim(2, "Masses double.", ours=True)
    ClaimsFile(tmp_path / "results" / "claims.json").update(
        [GROWS.judge(GOOD), own.judge(FAR), GROWS.judge(GOOD).unmeasured("paper")]
    )
    monkeypatch.chdir(tmp_path)


def test_a_bar_in_a_statement_does_not_end_its_cell(book):
    head, _, row, own = STUDY.glance().data.splitlines()
    assert head == "| claim | statement | live tier | paper tier |"
    assert row.startswith("| [toy.C1](#toy-c1) | For f* = \\|x_H\\| masses grow. |")
    assert row.endswith("| ✓ reproduced | – not tested |")
    assert row.replace("\\|", "").count("|") == 5
    assert own.startswith("| [toy.C2](#toy-c2) | Masses double. *(ours)* | ✗ not repr")


def test_a_chapter_without_claims_says_so(book):
    assert "No claim" in Study("02-other", key="o", paper="nobody2026").glance().data


def test_claims_are_the_studys():
    assert (GROWS.id, GROWS.chapter, GROWS.paper) == ("toy.C1", "01-toy", "nobody2026")
    assert (GROWS.tier, GROWS.tolerance_origin) == ("live", "none")
    assert (GROWS.ours, GROWS.exploratory) == (False, "")
    assert GROWS.primary == Check.equals("m", "mass", 1.0, 0.1)
    assert 0.9 < GROWS.power < 1
    own = claim(2, origin="spread", tier="paper", ours=True, exploratory="the margin")
    assert (own.tier, own.tolerance_origin) == ("paper", "spread")
    assert (own.ours, own.exploratory) == (True, "the margin")
    with pytest.raises(ClaimError, match=r"toy\.C3 does not say why.*origin="):
        Study("01-toy", key="toy", paper="n").claim(
            3, "It ends.", source="abstract", primary=MASS.endpoint("m")
        )


def test_verdicts_are_printed_and_stored_where_the_variable_says(
    tmp_path, monkeypatch, capsys
):
    path = tmp_path / "claims.json"
    monkeypatch.delenv("WIDTHLAB_CLAIMS", raising=False)
    STUDY.publish(GROWS.judge(GOOD))
    assert capsys.readouterr().out == "toy.C1 reproduced\n" and not path.exists()
    monkeypatch.setenv("WIDTHLAB_CLAIMS", str(path))
    STUDY.publish(GROWS.judge(GOOD))
    assert [j.verdict for j in ClaimsFile(path).read()] == ["reproduced"]
    other = Study("02-other", key="o", paper="nobody2026", origin="none")
    with pytest.raises(ClaimError, match=r"toy\.C1.*not claims of 02-other"):
        other.publish(GROWS.judge(GOOD))


def test_tables_hold_all_checks_or_those_that_did_not_pass():
    two = claim(2).judge(FAR)
    one = GROWS.judge(GOOD, [DISTANCE], {"broken": Estimate(3.0, 2.9, 3.1, 3)})
    assert STUDY.table(one)["role"].tolist() == ["primary", "secondary", "control"]
    assert STUDY.unsettled(one)["quantity"].tolist() == ["distance"]
    assert "claim" not in STUDY.unsettled(one)
    assert STUDY.unsettled(one, two)["claim"].tolist() == ["toy.C1", "toy.C2"]
