"""The rule, simulated: what chapters are designed by, and what is stored of it."""

from pathlib import Path

import attrs
import numpy as np
import pytest
from richregime import rates
from richregime.site.rates import TABLES
from widthlab.claims import Check, Plan, Verdict, mean
from widthlab.claims.check import ALPHA, Outcome, _holm_level, holm
from widthlab.claims.rates import Design, Family, _levels, family, outcomes
from widthlab.claims.verdict import OF_OUTCOME

ROOT = Path(__file__).resolve().parents[1]
STORED = rates.read_rates(ROOT)
TIMES = 2000  # four binomial deviations are at most .045


def shares(found):
    return [found[outcome] for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.OPEN)]


@pytest.mark.parametrize(
    ("name", "true", "margin", "half", "false"),
    [
        ("64 to 512, ×2", 0.15, 0.02, 0.16, 0.96),
        ("64 to 1024, ×2", 0.55, 0.02, 0.27, 1.0),
        ("64 to 1024, ×√2", 0.80, 0.02, 0.38, 1.0),
        ("64 to 1024, ×√2, 12 seeds", 0.97, 0.02, 0.56, 1.0),
        ("64 to 1024, ×√2, margin ¼", 0.96, 0.03, 0.53, 1.0),
    ],
)
def test_verdicts_come_out_as_often_as_designs_count_on(
    name, true, margin, half, false
):
    design = rates.DESIGNS[name]
    rng = np.random.default_rng(17)
    found = {
        m: shares(outcomes(design.check(), design.draw(TIMES, rng, m * design.margin)))
        for m in (0.0, 1.0, 1.5, 3.0)
    }
    assert found[0.0] == pytest.approx([true, 0.0, 1 - true], abs=0.045)
    assert found[1.0] == pytest.approx([margin, 0.025, 0.95], abs=0.02)
    assert found[1.5] == pytest.approx([0.0, half, 1 - half], abs=0.045)
    assert found[3.0] == pytest.approx([0.0, false, 1 - false], abs=0.02)
    assert design.plan().power(design.check()) == pytest.approx(true, abs=0.015)


def test_an_ordering_paired_by_seed_is_found_and_rarely_turned_round():
    check = Check.at_least("difference", "paired", 0.0)
    rng = np.random.default_rng(17)
    for effect, power in [(0.5, 0.23), (1.0, 0.68), (1.5, 0.95), (2.0, 1.0)]:
        drawn = effect + rng.standard_normal((TIMES, rates.SEEDS))
        passed, failed, _ = shares(outcomes(check, drawn))
        assert passed == pytest.approx(power, abs=0.042) and failed < 0.005
    passed, failed, _ = shares(outcomes(check, rng.standard_normal((TIMES, 8))))
    assert max(passed, failed) < 0.025 + 0.014


NOISE = np.random.default_rng(2).standard_normal((60, 5, 8))


@pytest.mark.parametrize(
    "check",
    [
        Check.equals("a", "q", 0.2, 0.9),
        Check.at_least("a", "q", 0.1),
        Check.at_most("a", "q", 0.1, slack=0.3),
    ],
    ids=lambda check: check.relation,
)
def test_many_are_judged_as_each_of_them_is(check):
    """The simulation and the code that judges chapters are one rule."""
    alone, together = [], []
    for rows in NOISE:
        made = [
            attrs.evolve(check, label=f"{i}", estimate=mean(row))
            for i, row in enumerate(rows)
        ]
        alone += [one.outcome() for one in made]
        together.append(holm(made))
    found = outcomes(check, NOISE.reshape(-1, 8))
    assert found == {o: alone.count(o) / len(alone) for o in found}
    assert len({*alone}) > 1
    for adjusted, judged in [(True, together), (False, np.reshape(alone, (60, 5)))]:
        passed, failed = np.array(judged) == "pass", np.array(judged) == "fail"
        assert family(check, NOISE, adjusted=adjusted) == Family(
            passed.mean(),
            passed.all(1).mean(),
            passed.any(1).mean(),
            failed.any(1).mean(),
        )


def test_slopes_are_those_that_a_table_of_runs_gives():
    """What is simulated is what `slope` measures."""
    import pandas as pd
    from widthlab.claims import slope

    design = Design((64, 128, 256, 512), 3, 0.2, 0.1)
    noise = 0.2 * np.random.default_rng(5).standard_normal((1, 3, 4))
    drawn = design.draw(1, np.random.default_rng(5), 0.4)[0]
    rows = [
        (n, s, n**0.4 * np.exp(noise[0, s, i]))
        for s in range(3)
        for i, n in enumerate(design.widths)
    ]
    frame = pd.DataFrame(rows, columns=["width", "seed", "value"])
    assert mean(drawn).value == pytest.approx(slope(frame).value)
    assert mean(drawn).high == pytest.approx(slope(frame).high)


def test_many_checks_at_once_need_the_adjustment():
    check = Check.equals("one of 22", "q", 0.0, 1.0)
    spread, rng = rates._spread(check), np.random.default_rng(17)
    assert Plan(8, spread, "sought").power(check) == pytest.approx(0.95, abs=1e-3)
    noise = spread * rng.standard_normal((300, rates.CHECKS, rates.SEEDS))
    # 300 families: four deviations of a half are .115.
    alone = family(check, noise, adjusted=False)
    assert alone.passed == pytest.approx(0.95, abs=0.012)
    assert alone.all_passed == pytest.approx(0.95**22, abs=0.115)
    wrong = family(check, noise + 1.0, adjusted=False)
    assert wrong.any_passed == pytest.approx(1 - 0.975**22, abs=0.115)
    assert family(check, noise + 1.0).any_passed < 0.025 + 0.036
    assert family(check, noise + 1.0).any_failed < 0.025 + 0.036


def test_levels_of_many_are_those_of_each_where_a_test_rejects_at_its_own_level():
    rows = [[ALPHA / 2, ALPHA], [ALPHA, ALPHA], [ALPHA / 2, 1.0], [1.0, ALPHA / 2]]
    found = _levels(np.array(rows))
    assert found.ravel().tolist() == [*map(_holm_level, rows)]
    assert found.ravel().tolist() == [ALPHA, 0.0, ALPHA / 2, ALPHA / 2]


def test_equal_designs_and_equal_families_are_one_in_a_set():
    for make in (
        lambda: Design((64, 128, 256), 3, 0.2, 0.1),
        lambda: family(Check.at_least("a", "q", 0.0), NOISE),
    ):
        assert len({make(), make()}) == 1


# --- what is stored


def test_what_is_stored_is_drawn_anew_to_the_last_digit(tmp_path):
    (tmp_path / "results").mkdir()
    rates.write_rates(tmp_path)
    found = rates.read_rates(tmp_path)
    for name, rows in STORED.items():
        assert found[name] == rows, f"{name}: make rates"
    assert found == STORED
    for row in (*found["designs"], *found["curvatures"], *found["orderings"]):
        assert sum(row[v.value] for v in rates.VERDICTS.values()) == pytest.approx(
            1, abs=2e-4
        )


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_a_row_for_what_is_stored(name):
    page = (ROOT / "library" / "verdicts.md").read_text(encoding="utf-8")
    assert f"```{{rates}} {name}\n" in page
    lines = TABLES[name](ROOT).splitlines()
    share = len(rates.MARGINS) if name == "designs" else 1
    assert len(lines) == 2 + len(STORED[name]) / share
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (0.0004, "<.005"), (0.9499, ".95"), (1.0, "1.00"), (0.9996, ">.995")],
)
def test_shares_do_not_say_never_of_what_is_rare(number, text):
    assert rates._share(number) == text


def test_an_outcome_of_the_page_is_a_verdict_of_the_rule():
    """A claim without a control has the verdict of its endpoint."""
    assert OF_OUTCOME == {
        **rates.VERDICTS,
        Outcome.UNTESTED: Verdict.UNTESTED,
    }
