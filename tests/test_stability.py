"""Chapters varied: other seeds, starts moved by rounding, and what this turns."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import attrs
import pytest
from richregime import commands, pages, stability, tables, varying
from richregime.chapters import BookError
from richregime.cli import main
from richregime.execution import kernel_environment
from richregime.stability import Found, Stability, Varied
from richregime.study import Study
from widthlab.claims import Estimate, Plan, Prediction

ROOT = Path(__file__).resolve().parents[1]
FIRST = "WIDTHLAB_FIRST_SEED"
PERTURB = "WIDTHLAB_PERTURB"

# A chapter whose first claim holds for any seeds, and whose second for small ones.
CHAPTER = """\
---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A small chapter

```{code-cell} ipython3
import os
import numpy as np
from richregime.study import Study
from widthlab import perturbation
from widthlab.claims import Prediction, at_most, exact

study = Study("01-small", key="small", paper="chen2025global", origin="rounding")
seeds = study.seeds(3)
weights, number = np.ones((1, 9)), perturbation.chosen()
if number:
    weights = perturbation.moved(weights, number)
gain = float(os.environ.get("SMALL_GAIN", "1e10"))
rounding = gain * abs((weights - 1) @ np.arange(9.0))[0]
```

## Two claims

```{code-cell} ipython3
size = Prediction("size", at_most(1.0)).endpoint("it")
one = study.claim(1, "It is small.", source="abstract", primary=size)
two = study.claim(2, "A seed is small.", source="abstract", primary=size)
study.publish(one.judge(exact(0.5 + rounding)), two.judge(exact(float(seeds[0]))))
```

```{code-cell} ipython3
---
tags: [nbval-ignore-output]
---
print(rounding)
```
"""


@pytest.fixture(scope="module")
def executed_once(tmp_path_factory):
    root = tmp_path_factory.mktemp("varied") / "book"
    (root / "chapters").mkdir(parents=True)
    toc = "format: jb-book\nroot: index\nchapters:\n- file: chapters/01-small\n"
    (root / "_toc.yml").write_text(toc)
    (root / "index.md").write_text("# A small book\n")
    (root / "chapters" / "01-small.md").write_text(CHAPTER)
    shutil.copy(ROOT / "jupytext.toml", root / "chapters")
    (root / ".cache" / "matplotlib").mkdir(parents=True)
    (root / ".cache" / "matplotlib" / "fontlist.json").touch()
    commands.execute(root)
    return root


@pytest.fixture
def book(executed_once, tmp_path):
    """A book whose chapter was executed, to do anything with."""
    return Path(shutil.copytree(executed_once, tmp_path / "book"))


def test_seeds_begin_at_0_or_where_the_variable_says(monkeypatch):
    monkeypatch.delenv(FIRST, raising=False)
    assert Study.seeds(8) == range(8)
    monkeypatch.setenv(FIRST, "")
    assert Study.seeds(3) == range(3)
    monkeypatch.setenv(FIRST, "1000")
    assert Study.seeds(8) == range(1000, 1008)


@pytest.mark.parametrize("said", ["-1", "1.5", "many", "²"])
def test_seeds_refuse_what_is_not_a_number_from_0_up(said, monkeypatch):
    monkeypatch.setenv(FIRST, said)
    with pytest.raises(ValueError, match=r"WIDTHLAB_FIRST_SEED is .*from 0 up"):
        Study.seeds(8)


def test_only_a_variation_sets_the_seeds_of_a_chapter(tmp_path, monkeypatch):
    monkeypatch.setenv(FIRST, "5")
    assert FIRST not in kernel_environment(tmp_path, tmp_path)
    env = kernel_environment(tmp_path, tmp_path, {FIRST: "1000"})
    assert env[FIRST] == "1000"


def test_only_a_variation_moves_the_starts_of_a_chapter(tmp_path, monkeypatch):
    monkeypatch.setenv(PERTURB, "5")
    assert PERTURB not in kernel_environment(tmp_path, tmp_path)


def test_chapters_are_varied_and_left_alone(book, capsys):
    """Both kinds, one after the other; the file of the one keeps that of the other."""
    before = {p: p.read_bytes() for p in (book / "chapters").iterdir()}
    claims = (book / pages.CLAIMS).read_bytes()
    assert (
        main(["--root", str(book), "stability", "--perturb", "2", "--seeds", "0"]) == 0
    )
    out = capsys.readouterr().out
    assert "01-small, with its starts moved by rounding (2)" in out
    assert "small.C1: reproduced, changed by rounding" in out
    words = ("stability", "1", "--perturb", "0", "--seeds", "1")
    assert main(["--root", str(book), *words]) == 0
    assert "with other seeds not reproduced" in capsys.readouterr().out

    varied = stability.read_stability(book)["01-small"]
    one, two = varied.claims["small.C1"], varied.claims["small.C2"]
    assert one.verdicts == ("reproduced",) and two.verdicts == ("not reproduced",)
    assert two.seeds[1000].measured == 1000.0
    assert 0 < one.change < 1e-4 and two.change == 0
    assert one.perturbed[1] != one.perturbed[2]
    judged = pages.read_claims(book / pages.CLAIMS)
    known = stability.read_stability(book)
    assert (
        stability.unstable(judged, known) == stability.unmeasured(judged, known) == []
    )
    assert stability.turned(judged, known) == [
        "small.C2: reproduced, and not reproduced with seeds from 1,000 on"
    ]
    assert (book / pages.CLAIMS).read_bytes() == claims
    assert before == {p: p.read_bytes() for p in (book / "chapters").iterdir()}
    assert not (book / "_build/stability/store").exists()


def test_a_verdict_that_rounding_turns_is_an_error(book, monkeypatch, capsys):
    monkeypatch.setenv("SMALL_GAIN", "1e20")
    with pytest.raises(BookError) as caught:
        varying.measure(book, seeds=0, perturb=1)
    lines = str(caught.value).splitlines()[1:]
    assert [line.strip() for line in lines[:2]] == [
        "01-small, cell 3 (Two claims): other lines with its starts moved (1)",
        "small.C1 is reproduced and not reproduced with its starts moved (1)",
    ]
    assert "small.C1 has a margin of 0.5" in lines[2] and len(lines) == 3
    assert "small.C1" in stability.read_stability(book)["01-small"].claims


def test_nothing_to_run_is_said(book):
    with pytest.raises(BookError, match="nothing to run"):
        varying.measure(book, seeds=0, perturb=0)


# --- without running anything


STUDY = Study("01-toy", key="toy", paper="nobody2026", origin="spread")


def judged(number=1, statement="It is small."):
    """A claim with a margin of 0.1: at most 1, measured 0.8 [0.7, 0.9]."""
    small = Prediction("size", 0.5, within=0.5)
    plan = Plan(seeds=8, spread=0.1, origin="pilot")
    claim = STUDY.claim(
        number, statement, source="p. 1", primary=small.endpoint("it"), plan=plan
    )
    return claim.judge(Estimate(0.8, 0.7, 0.9, seeds=8))


def known(judgement, **changes):
    """What perturbations found: ends that differ by up to 0.01."""
    plain = Found.of(judgement)
    one = Stability(
        judgement.claim.stated,
        plain,
        {1000: plain},
        {1: replace(plain, interval=(0.69, 0.9)), 2: replace(plain, measured=0.81)},
    )
    claims = {judgement.claim.id: replace(one, **changes)}
    return {"01-toy": Varied("2026-01-02T03:04:05+00:00", "2 cores", claims)}


def test_a_margin_is_compared_with_the_largest_change_of_the_ends():
    judgement = judged()
    (one,) = known(judgement)["01-toy"].claims.values()
    assert one.change == pytest.approx(0.01)
    assert one.safety(judgement.primary) == pytest.approx(10)
    assert stability.unstable([judgement], known(judgement)) == []
    wider = {1: replace(one.plain, interval=(0.7, 0.925))}
    (line,) = stability.unstable([judgement], known(judgement, perturbed=wider))
    assert line == (
        "toy.C1 has a margin of 0.1, 4.0 times its change by rounding, 0.025; it "
        "needs 5"
    )
    same = known(judgement, perturbed={1: one.plain})["01-toy"].claims["toy.C1"]
    assert same.change == 0 and same.safety(judgement.primary) == math.inf
    none = replace(one, perturbed={})
    assert none.change is None and none.safety(judgement.primary) is None
    lost = Found("not tested", None, None)
    assert replace(one, perturbed={1: lost}).change == math.inf
    assert replace(one, plain=lost, perturbed={1: lost}).change == 0


def test_verdicts_that_differ_are_named():
    judgement = judged()
    other = replace(Found.of(judgement), verdict="undecided")
    assert stability.unstable([judgement], known(judgement, perturbed={3: other})) == [
        "toy.C1 is reproduced and undecided with its starts moved (3)"
    ]
    again = known(judgement, plain=other)
    assert "undecided when run again" in stability.unstable([judgement], again)[0]
    with_seeds = known(judgement, seeds={1000: other, 2000: Found.of(judgement)})
    assert stability.unstable([judgement], with_seeds) == []
    assert stability.turned([judgement], with_seeds) == [
        "toy.C1: reproduced, and undecided with seeds from 1,000 on"
    ]


def test_a_claim_that_was_stated_otherwise_has_to_be_measured_again():
    old, new = judged(), judged(statement="It is tiny.")
    (line,) = stability.unstable([new], known(old))
    assert "toy.C1 was stated otherwise when it was varied" in line
    assert "richregime stability 01-toy" in line
    assert stability.turned([new], known(old)) == []


def test_a_table_says_it_of_each_chapter(book):
    judged = pages.read_claims(book / pages.CLAIMS)
    row = tables.stability(book).splitlines()[-1].split(" | ")
    assert row[1:] == ["0 of 2", "not recorded", "", "not recorded", " |"]
    found = {}
    for judgement in judged:
        plain = Found.of(judgement)
        ends = tuple(end + 1e-3 for end in plain.interval)
        found[judgement.claim.id] = Stability(
            judgement.claim.stated, plain, {}, {1: replace(plain, interval=ends)}
        )
    stability.write_stability(book, "01-small", found)
    row = tables.stability(book).splitlines()[-1].split(" | ")
    assert row[1:] == ["2 of 2", "1 start", "500 changes", "not recorded", " |"]
    other = replace(found["small.C1"].plain, verdict="undecided")
    found = {k: replace(v, seeds={1000: other}) for k, v in found.items()}
    stability.write_stability(book, "01-small", found)
    row = tables.stability(book).splitlines()[-1].split(" | ")
    assert row[4] == "1 set" and row[5].count("undecided with seeds from 1,000") == 2


def test_claims_of_which_nothing_is_known_are_listed():
    one, two = judged(1), judged(2)
    assert stability.unmeasured([one, two], known(one)) == ["toy.C2"]
    assert stability.unmeasured([one], {}) == ["toy.C1"]
    assert stability.unmeasured([one], known(one, perturbed={})) == ["toy.C1"]
    assert stability.unstable([one, two], known(one)) == []
    paper = attrs.evolve(two, claim=attrs.evolve(two.claim, tier="paper"))
    assert stability.unmeasured([paper], {}) == []


def test_the_file_keeps_what_was_not_varied_anew(tmp_path):
    one = judged()
    first = known(one)["01-toy"].claims
    stability.write_stability(tmp_path, "01-toy", first)
    stability.write_stability(tmp_path, "02-other", {"other.C1": first["toy.C1"]})
    assert stability.read_stability(tmp_path)["01-toy"].claims == first
    stated, plain = one.claim.stated, Found.of(one)
    seeds = {"toy.C1": Stability(stated, seeds={3000: plain})}
    stability.write_stability(tmp_path, "01-toy", seeds)
    found = stability.read_stability(tmp_path)
    assert [*found["01-toy"].claims["toy.C1"].seeds] == [3000]
    assert found["01-toy"].claims["toy.C1"].perturbed == first["toy.C1"].perturbed
    assert [*found["02-other"].claims] == ["other.C1"]
    stability.write_stability(tmp_path, "01-toy", {"toy.C1": Stability("other")})
    found = stability.read_stability(tmp_path)["01-toy"].claims["toy.C1"]
    assert found == Stability("other")


def test_numbers_are_kept_in_ten_digits():
    long = attrs.evolve(judged().primary.estimate, value=0.8 + 1e-15, low=0.7 + 1e-9)
    found = Found.of(
        attrs.evolve(judged(), primary=attrs.evolve(judged().primary, estimate=long))
    )
    assert (found.measured, found.interval) == (0.8, (0.700000001, 0.9))
    assert Found.from_json(json.loads(json.dumps(found.to_json()))) == found


# --- the book's own


def test_no_verdict_of_the_book_rests_on_rounding():
    """Of the claims that were varied; `richregime stability` says how to add others."""
    claims = pages.read_claims(ROOT / pages.CLAIMS)
    varied = stability.read_stability(ROOT)
    missing = stability.unmeasured(claims, varied)
    print(f"{len(missing)} claims not measured yet: {', '.join(missing)}")
    assert stability.unstable(claims, varied) == []
