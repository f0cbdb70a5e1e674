"""Set-ups of papers: their numbers, and the runs of a paper's tier."""

import functools
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from richregime import tiers
from widthlab.data import DataSpec
from widthlab.papers import hajjar2024training as hajjar
from widthlab.parametrization import Role, get
from widthlab.probes import Outputs, Performance, Rank
from widthlab.runs.ensembles import first_rates
from widthlab.runs.experiment import Experiment
from widthlab.runs.grid import grid
from widthlab.runs.record import Record, frame
from widthlab.runs.store import Store
from widthlab.runs.sweep import run
from widthlab.training.calibration import Calibration

ROOT = Path(__file__).resolve().parents[1]
MNIST = hajjar.images("mnist")
DEVIATIONS = {"relu": math.sqrt(2), "gelu": 2.0, "elu": 1.0, "tanh": 1.0}  # Table 1


@pytest.mark.parametrize("model", hajjar.MODELS)
@pytest.mark.parametrize("activation", hajjar.ACTIVATIONS)
def test_hajjar_networks_start_as_the_code_does(model, activation):
    spec = hajjar.experiment(model, activation, MNIST)
    delta, n, d = DEVIATIONS[activation], 1024, 784
    scales = spec.scales()
    effective = scales.std * scales.multiplier
    shrunk = n**-0.5 if model == "mup" else 1 / n
    std = [delta / math.sqrt(d + 1), *[delta * shrunk] * 5, 1 / n]
    np.testing.assert_allclose(effective[:7], std, rtol=1e-6)
    # Biases: not divided by anything in the code; those of IP-bias in all layers.
    biases = [delta] * 6 + [1.0] if model == "ip-bias" else [delta]
    np.testing.assert_allclose(effective[7:], biases, rtol=1e-6)
    assert all(t.bias for t in spec.shape.tensors[7:])
    mean = 1 / n if model == "ip-non-centred" else 0.0
    means = (scales.mean * scales.multiplier)[:7]
    np.testing.assert_allclose(means, [0.0] + [mean] * 6, rtol=1e-6)


@pytest.mark.parametrize("model", hajjar.MODELS)
def test_hajjar_networks_train_at_the_naive_rates_after_the_first_step(model):
    """Rates of the effective matrices, and the first step of IP-LLR and IP-bias."""
    spec = hajjar.experiment(model, "relu", MNIST, first_lr=None)
    scales = spec.scales()
    n, powers = 1024.0, np.array([1.0, *[0.0] * 5, -1.0])
    for which, rates in (("late", scales.lr), ("first", scales.first_lr)):
        exponents = np.log((scales.multiplier**2 * rates)[:7] / 0.01) / np.log(n)
        expected = powers
        if which == "first" and model == "ip-llr":
            expected = [3.5, *[2.0] * 5, 1.5]
        if which == "first" and model == "ip-bias":
            expected = [3.5, 2.0, 1.5, 1.0, 0.5, 0.0, -1.0]
        np.testing.assert_allclose(exponents, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("data", "size", "steps"), [("mnist", 784, 600), ("cifar10", 1024, 1200)]
)
def test_hajjar_runs_have_the_sizes_of_section_6(data, size, steps):
    for model in hajjar.MODELS:
        spec = hajjar.experiment(model, "gelu", hajjar.images(data))
        assert (spec.width, spec.depth, spec.batch_size, spec.lr) == (
            1024,
            6,
            512,
            0.01,
        )
        assert (spec.steps, spec.loss, spec.optimizer.name) == (
            *(steps, "cross-entropy", "sgd"),
        )
        assert spec.shape.input_dim == size and spec.shape.output_dim == 10
        assert spec.data.preprocess == "normalize" and spec.base_width == 1
        assert spec.probes == (Performance(),)
        rule = spec.first_lr
        assert (rule is None) == (model != "ip-llr")
        assert spec.biases == ("all" if model == "ip-bias" else "input")
    assert Calibration() == Calibration(target=1.0, output_target=0.1, cap=500.0)
    assert hajjar.experiment("ip-llr", "elu", MNIST).first_lr == Calibration()


def test_hajjar_conventions_differ_in_the_first_biases_only():
    code, text = (
        hajjar.experiment("ip-llr", "gelu", MNIST, bias_convention=name)
        for name in ("code", "text")
    )
    ratio = text.scales().std / code.scales().std
    np.testing.assert_allclose(ratio, [1] * 7 + [785**-0.5], rtol=1e-6)
    one, other = (spec.to_json() for spec in (code, text))
    assert {name for name in one if one[name] != other[name]} == {"bias_gains"}
    with pytest.raises(KeyError):
        hajjar.experiment("mup", "gelu", MNIST, bias_convention="book")


def test_any_field_of_a_hajjar_run_can_be_replaced():
    small = {"width": 32, "depth": 3, "steps": 5, "first_lr": None, "biases": "none"}
    spec = hajjar.experiment("ip-llr", "relu", MNIST, **small)
    assert {name: getattr(spec, name) for name in small} == small


def test_hajjar_tier_has_no_run_twice_and_every_run_of_the_tables():
    tier = list(hajjar.paper_tier())
    assert len(set(tier)) == len(tier)
    every = set(
        itertools.product(hajjar.MODELS, hajjar.ACTIVATIONS, range(hajjar.TRIALS))
    )
    for data in ("mnist", "cifar10"):
        runs = list(hajjar.table(data))
        assert {(s.table.name, s.activation, s.seed) for s in runs} == every
        assert len(runs) == len(every) == 100 and set(runs) < set(tier)
    text = list(hajjar.table("mnist", convention="text"))
    assert len(text) == 60 and set(text) < set(tier)


def test_hajjar_tier_begins_with_the_ranks_of_ip_llr():
    """Figure 3, 5,000 inputs after one step: where it shows why relu fails."""
    tier = hajjar.paper_tier()
    first = next(tier)
    assert isinstance(first, Experiment)
    assert (first.table.name, first.activation, first.data.name, first.seed) == (
        *("ip-llr", "relu", "mnist", 0),
    )
    assert (first.steps, first.checkpoints) == (1, (1,))
    assert first.probes == (Rank(inputs=5000),)
    # All ranks, then the tables from their first trial on.
    others = list(itertools.islice(tier, 8))
    assert [s.probes for s in others] == [(Rank(5000),)] * 7 + [(Performance(),)]
    assert others[-1].seed == 0


def test_hajjar_accuracies_have_a_model_and_an_activation_each():
    best = {place: (value,) for place, value in hajjar.PUBLISHED_BEST.items()}
    assert not set(hajjar.PUBLISHED) & set(best)
    for (data, model), accuracies in {**hajjar.PUBLISHED, **best}.items():
        assert data in hajjar.STEPS and model in hajjar.MODELS
        assert len(accuracies) == (1 if (data, model) in best else 4)
        # Nobody is worse than the share of the smaller classes.
        assert all(0.098 <= value < 1 for value in accuracies)


def test_hajjar_cells_stand_beside_the_printed_ones():
    printed = hajjar.printed("mnist")
    assert printed["ip-llr", "elu"] == 0.964 and printed["mup", "tanh"] == 0.905
    assert printed["ip-non-centred", hajjar.BEST] == 0.209 and len(printed) == 14
    trials = {("ip-llr", "elu"): [0.95, 0.97], ("ip-bias", "relu"): [0.1]}
    rows = hajjar.beside(trials, "mnist").set_index(["model", "activation"])
    assert len(rows) == 20 and rows["trials"].sum() == 3
    elu, relu = rows.loc[("ip-llr", "elu")], rows.loc[("ip-bias", "relu")]
    assert (elu["lowest"], elu["highest"]) == (0.95, 0.97)
    spread = 0.02 / math.sqrt(2) * math.sqrt(1 / 2 + 1 / 5)
    assert elu["in spreads"] == pytest.approx((0.96 - 0.964) / spread)
    assert relu["ours"] == 0.1 and relu[["printed", "in spreads"]].isna().all()
    assert rows.loc[("mup", "relu"), "ours":"highest"].isna().sum() == 3


def test_hajjar_first_rates_are_those_of_the_runs_and_kept(tmp_path, monkeypatch):
    small = hajjar.FirstRates("relu", width=8, depth=2, seed=1)
    store = Store(tmp_path)
    rates = frame([run(small, store)])
    assert list(rates["seed"]) == [1] * 3 and list(rates["layer"]) == [1, 2, 3]
    spec = hajjar.experiment(
        "ip-llr", "relu", hajjar.few_images(1), width=8, depth=2, seed=1
    )
    expected = first_rates([spec])["uncapped"]
    assert list(rates["uncapped"]) == list(expected)
    monkeypatch.setattr(hajjar.FirstRates, "run", None)
    assert run(small, store).columns["uncapped"] == list(rates["uncapped"])


@pytest.fixture(scope="module")
def scalar_runs(tmp_path_factory):
    """IP-LLR in float64 with one output, and what is made of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WIDTHLAB_STORE", str(tmp_path_factory.mktemp("store")))
        runs = grid(
            {"width": (8, 16), "seed": (0, 1)},
            data=DataSpec("mnist-5k", n_train=16, n_test=0, targets="parity"),
            parametrization="ip-llr",
            depth=3,
            activation="relu",
            loss="mse",
            lr=0.002,
            first_lr=Calibration(),
            batch_size=1,
            steps=2,
            checkpoints=(0, 1, 2),
            probes=(Outputs(inputs=4),),
            precision="float64",
        )
        made = {
            "hp": hajjar.first_step_of(runs, "hp"),
            "without the ratio": hajjar.first_step_of(runs, "hp", ratio=False),
            "hpz": hajjar.first_step_of(runs, "hpz"),
        }
        yield made, hajjar.gaps(runs, made)


def test_hajjar_proposition_15_holds_to_rounding(scalar_runs):
    gaps = scalar_runs[1].set_index("series")["value"]
    assert gaps["hp"].max() < 1e-12
    for other in ("without the ratio", "hpz"):
        assert gaps[other].min() > 1e-6


def test_hajjar_gaps_have_a_row_for_each_run_and_step(scalar_runs):
    made, gaps = scalar_runs
    rows = gaps.query("series == 'hpz'")[["depth", "width", "seed", "step"]]
    every = itertools.product([3], [8, 16], [0, 1], [1, 2])
    assert list(rows.itertuples(index=False, name=None)) == list(every)
    assert len(gaps) == 3 * len(rows) and set(gaps["quantity"]) == {"gap"}
    assert [len(run.first_lr) for run in made["hp"]] == [4] * 4


def test_hajjar_held_rates_are_those_of_the_first_step():
    held, llr = hajjar.held(4), get("ip-llr")
    for role in Role:
        first = llr[role].first(4, 2)
        assert held[role].c == held[role].first(4, 2) == first
    assert held[Role.HIDDEN].c != llr[Role.HIDDEN].c


def test_hajjar_small_runs_are_the_set_up_at_another_size():
    small = hajjar.small("ip-llr", "elu", 1, depth=3)
    images = hajjar.few_images(1)
    assert (images.n_train, images.subset_seed) == (3000, 1)
    sizes = {"depth": 3, "width": 128, "steps": 100, "checkpoints": (100,)}
    assert small == hajjar.experiment("ip-llr", "elu", images, seed=1, **sizes)
    assert hajjar.small("mup", "elu", 0, width=256).width == 256


def test_naive_ip_is_scored_by_the_first_class_where_softmax_ties(tmp_path):
    """At the paper's width all probabilities are equal in float32; narrower not."""
    wide, narrow = (
        frame([run(hajjar.Ties("gelu", 0, n), Store(tmp_path))]).iloc[0]
        for n in (1024, 16)
    )
    assert wide["largest output"] < 2.0**-25 and wide["share of class 0"] == 1
    assert narrow["share of class 0"] < 1
    assert wide["accuracy of softmax"] != wide["accuracy of outputs"]


def test_moves_are_distances_between_checkpoints():
    values = {0: (0.0, 0.0), 1: (3.0, 4.0), 5: (3.0, 5.0)}
    rows = [
        (step, f"output[0,{k}]", value)
        for step, pair in values.items()
        for k, value in enumerate(pair)
    ]
    steps, names, numbers = map(list, zip(*rows, strict=True))
    columns = {"step": steps, "quantity": names, "value": numbers, "layer": [0] * 6}
    spec = hajjar.small("mup", "relu", 3)
    moves = hajjar.moves([Record(spec, columns, None, None, {})])
    assert list(moves["step"]) == [1, 5] and set(moves["seed"]) == {3}
    np.testing.assert_allclose(moves["value"], [math.sqrt(12.5), math.sqrt(0.5)])


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_constant_rates_of_ip_are_mup_with_a_small_read_out(depth, tmp_path):
    tables = (hajjar.constant(depth), hajjar.small_readout(depth), get("ip"))
    constant, readout, naive = (
        frame(
            [
                run(
                    Experiment(
                        data=DataSpec("mnist-5k", n_train=16, n_test=0),
                        parametrization=table,
                        width=8,
                        depth=depth,
                        activation="relu",
                        loss="mse",
                        lr=0.1,
                        steps=5,
                        precision="float64",
                        probes=(Outputs(inputs=4),),
                    ),
                    Store(tmp_path),
                )
            ],
            *(f"output[{i},{k}]" for i in range(4) for k in range(10)),
        ).query("step == 5")["value"]
        for table in tables
    )
    np.testing.assert_allclose(constant, readout, rtol=1e-9)
    assert np.linalg.norm(naive - readout) > 0.1 * np.linalg.norm(readout)


@functools.cache
def tier_of(chapter):
    """The runs of a chapter's tier, and the records of those that have one."""
    wanted = tiers.paper_tier(chapter)
    return wanted, tiers.archive(ROOT, chapter).find(wanted)


@pytest.mark.parametrize("chapter", sorted(tiers.setups()))
def test_stored_records_are_runs_of_their_tier(chapter):
    """A record that no specification asks for would be shown nowhere."""
    wanted, records = tier_of(chapter)
    assert len(set(wanted)) == len(wanted)
    assert records and set(records) <= set(wanted)
    for record in records.values():
        assert record.diverged_at is None
        assert record.provenance["commit"]
        # Computations say in their fields what they read.
        assert (
            not isinstance(record.spec, Experiment) or record.provenance["data_sha256"]
        )


def test_stored_records_are_small():
    files = (ROOT / "results").rglob("*")
    assert sum(file.stat().st_size for file in files if file.is_file()) < 20e6


def test_a_stored_run_comes_out_again(tmp_path):
    """A cheap run of a paper tier, on data of the environment, trained anew.

    Other processors and versions order sums differently, and 1,950 steps let that grow.
    """
    stored = tier_of("01-mup-global-convergence")[1].values()
    (record,) = [r for r in stored if r.spec.data.name == "mnist-5k"]
    again = run(record.spec, Store(tmp_path))
    for name in ("step", "layer", "quantity"):
        assert again.columns[name] == record.columns[name]
    assert again.provenance["data_sha256"] == record.provenance["data_sha256"]
    early = [step <= 30 for step in record.columns["step"]]
    old, new = (np.array(r.columns["value"], float) for r in (record, again))
    np.testing.assert_allclose(new[early], old[early], rtol=1e-3, atol=1e-6)
    final, before = (
        frame([r], "loss")["value"].tail(50).mean() for r in (again, record)
    )
    assert abs(final - before) < 0.05 * before
