"""The map of parametrizations: its data and tables, and its rules in JavaScript."""

import doctest
import itertools
import json
import re
import shutil
import subprocess
from fractions import Fraction as F
from pathlib import Path

import numpy as np
import pytest
from richregime import map as page
from widthlab.parametrization import Exponents, Parametrization, Role, catalogue, get
from widthlab.parametrization.exponents import BIASES, Linear
from widthlab.plots.style import COLOURS, LABELS, MARKERS
from widthlab.regimes import Regime, classify, tensor_programs_r

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "assets" / "map"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
SEED = 2021

# The fields of a verdict, and what else the page says of a table.
ASK = """
const regimes = require(process.argv[1]);
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
const plain = (value) => value instanceof regimes.Fraction ? String(value) : value;
const answer = ({ table, depth, steps, biases }) => ({
  verdict: regimes.classify(table, depth, steps, biases),
  r: regimes.closedForm(table, depth).r,
  same: regimes.classOf(table, depth, biases),
});
console.log(JSON.stringify(cases.map(answer), (key, value) => plain(value)));
"""


def in_javascript(script, script_path, data):
    """What a script for node prints, as JSON, when it is given data."""
    done = subprocess.run(
        [NODE, "-e", script, str(script_path)],
        input=json.dumps(data),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ask(cases):
    data = [
        {"table": table.to_json(), "depth": depth, "steps": steps, "biases": biases}
        for table, depth, steps, biases in cases
    ]
    return in_javascript(ASK, SCRIPTS / "regimes.js", data)


def fraction(rng, largest=2):
    """Mostly quarters, as the page steps; sometimes thirds, fifths or sixths."""
    q = int(rng.choice([1, 2, 2, 2, 4, 4, 3, 5, 6]))
    return F(int(rng.integers(-largest * q, largest * q + 1)), q)


def random_row(rng):
    def sometimes(share, value, otherwise):
        return value() if rng.random() < share else otherwise

    first = sometimes(0.2, lambda: Linear(*(fraction(rng, 1) for _ in range(3))), None)
    mean = sometimes(0.1, lambda: F(1), F(0))
    kept = sometimes(0.2, lambda: rng.choice([None, F(1, 2), F(-1, 4)]), F(0))
    a, b, c = (fraction(rng) for _ in range(3))
    return Exponents(a, b, c, c_first=first, mean=mean, retained=kept)


def moved(rng):
    """A table of the catalogue with a few exponents moved: close to what is stable."""
    table = get(str(rng.choice(list(catalogue()))))
    for _ in range(rng.integers(0, 3)):
        role, letter = Role(str(rng.choice(list(Role)))), str(rng.choice(list("abc")))
        step = F(int(rng.integers(-3, 4)), 4)
        table = table.mutated(role, **{letter: getattr(table[role], letter) + step})
    return table.shifted({role: fraction(rng) for role in Role})


def random_table(rng):
    if rng.random() < 0.7:
        return moved(rng)
    rows = tuple((role, random_row(rng)) for role in Role)
    bias = random_row(rng) if rng.random() < 0.3 else None
    return Parametrization("random", "random", rows, bias)


def random_cases(number):
    rng = np.random.default_rng(SEED)
    for _ in range(number):
        depth, steps = int(rng.integers(1, 7)), int(rng.choice([1, 2, 6, 6]))
        yield random_table(rng), depth, steps, str(rng.choice(BIASES))


PRESETS = [
    (table, depth, 6, biases)
    for table in catalogue().values()
    for depth in page.DEPTHS
    for biases in ("none", "all")
]


def written(verdict):
    """A verdict of the library as the page's JSON has it."""

    def plain(value):
        if isinstance(value, tuple):
            return [str(v) for v in value]
        return str(value) if isinstance(value, F | Regime) else value

    return {name: plain(getattr(verdict, name)) for name in verdict.__slots__}


# --- what the page takes from the library -------------------------------------------


def test_the_files_are_what_the_library_says():
    assert page.map_is_current(ROOT), "run: python -m richregime map"


def test_data_are_the_catalogue_as_the_book_draws_it():
    text = (ROOT / page.DATA).read_text(encoding="utf-8")
    entries = {entry["name"]: entry for entry in page.read_data(text)}
    assert list(entries) == list(catalogue())
    for name, table in catalogue().items():
        entry = entries[name]
        assert Parametrization.from_json(entry) == table
        assert entry["source"] == table.source
        assert entry["label"] == LABELS.get(name, name.upper())
        assert entry["colour"] == COLOURS.get(name, COLOURS["hpz"])
    assert {n: entries[n]["marker"] for n in MARKERS} == MARKERS
    drawn = [(entry["colour"], entry["marker"]) for entry in entries.values()]
    assert len(set(drawn)) == len(drawn)


def test_a_stale_file_is_found(tmp_path, monkeypatch):
    texts = {page.DATA: "new data", page.GROWTH: "new table"}
    monkeypatch.setattr(page, "_files", lambda: texts)
    assert not page.map_is_current(tmp_path)
    for path in texts:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    page.write_map(tmp_path)
    assert page.map_is_current(tmp_path)
    (tmp_path / page.GROWTH).write_text("old table")
    assert not page.map_is_current(tmp_path)


def test_tables_tell_the_verdicts():
    tables = page.catalogue_table(), page.growth_table()
    verdicts, growth = (text.replace("\N{NO-BREAK SPACE}", " ") for text in tables)
    limits = "feature learning (L = 1, 2), trivial (L = 3 to 6)"
    assert f"| IP | {limits} | (0, 0, −1) | (1, 0, −2) | (1, 0, −1) | – |" in verdicts
    assert "| SP (lr/n) | 3 | 0, 0, 0 | 0 | −3/2, −1/2, −1/2 | 0 |" in growth
    for text in (verdicts, growth):
        assert len(text.splitlines()) == 2 + len(catalogue())


def test_the_page_names_no_other_site():
    """Nothing is loaded from elsewhere: only namespaces look like addresses."""
    for path in SCRIPTS.iterdir():
        text = path.read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[^\s\"'`)]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path
        assert "fetch(" not in text and "import(" not in text


def test_the_page_s_examples_and_walks():
    text = (ROOT / "library" / "map.md").read_text(encoding="utf-8")
    text = re.sub(r"^```.*$", "", text, flags=re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest(text, {}, "map.md", "map.md", 0)
    assert len(examples.examples) > 5
    assert doctest.DocTestRunner().run(examples).failed == 0
    walk = get("ntk").mutated(Role.INPUT, c=F(-1, 2))
    assert classify(walk, 3).regime is Regime.UNSTABLE and classify(walk, 3).r == 0
    walk = get("ntk").mutated(Role.OUTPUT, b=F(1, 2)).mutated(Role.INPUT, c=F(-1))
    assert classify(walk, 3).regime is Regime.FEATURE_LEARNING
    scaled = get("mup").canonical()
    for role, sign in ((Role.INPUT, 1), (Role.OUTPUT, -1)):
        b, c = scaled[role].b + sign * F(1, 2), scaled[role].c + sign
        scaled = scaled.mutated(role, b=b, c=c)
    verdict = classify(scaled, 3)
    assert verdict.regime is Regime.KERNEL and verdict.relative_change == (0, 0, 0)
    for role in Role:
        broken = get("mup").mutated(role, c=get("mup")[role].c - F(1, 4))
        assert classify(broken, 3).regime is Regime.UNSTABLE


# --- the rules in JavaScript --------------------------------------------------------


@needs_node
def test_javascript_gives_the_library_s_verdicts():
    cases = [*PRESETS, *random_cases(320)]
    expected = [classify(t, L, steps, biases) for t, L, steps, biases in cases]
    seen = {verdict.regime for verdict in expected[len(PRESETS) :]}
    assert seen == set(Regime), "random tables reach every kind of limit"
    for case, verdict, answer in zip(cases, expected, ask(cases), strict=True):
        given = answer["verdict"]
        given.pop("blowUp")
        assert given == written(verdict), case
        assert answer["r"] == str(tensor_programs_r(case[0], case[1]))


@needs_node
def test_javascript_says_when_a_table_blows_up():
    cases = [*random_cases(40)]
    for case, answer in zip(cases, ask(cases), strict=True):
        table, depth, steps, biases = case
        blow_up = answer["verdict"]["blowUp"]
        unstable = [
            classify(table, depth, k, biases).regime is Regime.UNSTABLE
            for k in range(1, steps + 1)
        ]
        if blow_up is None:
            assert not any(unstable)
            continue
        assert unstable.index(True) == max(blow_up["step"] - 1, 0)
        start = classify(table, depth, 1, biases)
        signals = (*start.preactivation, start.output)
        grown = [layer for layer, e in enumerate(signals, 1) if e > 0]
        assert blow_up["layers"] and (blow_up["step"] == 0) == bool(grown)
        assert blow_up["step"] > 0 or blow_up["layers"] == grown


@needs_node
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("biases", ["none", "all"])
def test_classes_in_javascript_are_those_of_the_library(depth, biases):
    rng = np.random.default_rng(SEED)
    tables = [*catalogue().values()]
    shifted = [t.shifted({r: fraction(rng) for r in Role}) for t in tables]
    cases = [(table, depth, 1, biases) for table in (*tables, *shifted)]
    keys = [answer["same"] for answer in ask(cases)]
    assert keys[: len(tables)] == keys[len(tables) :]
    found = [layers(table, depth, biases) for table in tables]
    for i, j in itertools.product(range(len(tables)), repeat=2):
        assert (keys[i] == keys[j]) == (found[i] == found[j]), (i, j)
    # With one hidden layer the maximal update is the mean field's.
    mf, mup = (list(catalogue()).index(name) for name in ("mean-field", "mup"))
    assert (keys[mf] == keys[mup]) == (depth == 1)


def layers(table, depth, biases):
    """What SGD sees of a table in each layer of a network of equal widths."""
    roles = [Role.INPUT, *[Role.HIDDEN] * (depth - 1), Role.OUTPUT]
    rows = [(table[role], layer) for layer, role in enumerate(roles, 1)]
    if biases == "all":
        rows += [(table.biases(Role.INPUT), layer) for layer in range(1, depth + 1)]
    effective = [(row.effective(), layer) for row, layer in rows]
    return [
        (row.b, row.c, row.first(depth, layer), row.mean, row.retained)
        for row, layer in effective
    ]


@needs_node
def test_the_closed_conditions_agree_with_the_verdict():
    """The page shows them for tables that are stable at init and nothing else."""
    rng = np.random.default_rng(SEED)
    # a + b of the output, and 2a + c of the three roles, in quarters.
    usual = [2, 3, 4, 4, 5], [-5, -4, -4, -2, 0, 1], [-1, 0, 0, 2, 4], [3, 4, 4, 5]
    cases = []
    for _ in range(200):
        size, *rates = (F(int(rng.choice(quarters)), 4) for quarters in usual)
        a = [fraction(rng) for _ in Role]
        start = (F(0), F(1, 2), size)
        rows = [
            Exponents(x, y - x, c - 2 * x)
            for x, y, c in zip(a, start, rates, strict=True)
        ]
        table = Parametrization("drawn", "drawn", tuple(zip(Role, rows, strict=True)))
        cases.append((table, int(rng.integers(1, 7)), 6, "none"))
    seen = set()
    for (table, *_), answer in zip(cases, ask(cases), strict=True):
        r, out = F(answer["r"]), table[Role.OUTPUT].effective()
        verdict = answer["verdict"]
        assert verdict["stable_at_init"]
        if min(r, out.c - 1, out.b + r - 1) < 0:
            expected = "unstable"
        elif min(out.c - 1, out.b + r - 1) > 0:
            expected = "trivial"
        else:
            expected = "feature learning" if r == 0 else "kernel"
        assert verdict["regime"] == expected, table
        seen.add(expected)
    assert seen == {str(regime) for regime in Regime}


READ = """
const { parse, Fraction } = require(process.argv[1]);
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(texts.map((text) => parse(text) && String(parse(text)))));
"""


@needs_node
def test_fractions_that_are_typed():
    texts = {
        "1/2": "1/2",
        "-1/2": "-1/2",
        " \N{MINUS SIGN}3 / 6 ": "-1/2",
        "0.25": "1/4",
        "+2": "2",
        "-0": "0",
        "4/2": "2",
    }
    wrong = ["", "1/0", "a", "1/2/3", "1e3", "--1", "1/-2", ".", "1.5/2", "9" * 20]
    assert in_javascript(READ, SCRIPTS / "regimes.js", [*texts, *wrong]) == [
        *texts.values(),
        *[None] * len(wrong),
    ]
