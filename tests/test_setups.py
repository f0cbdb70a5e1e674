"""Set-ups of papers: their numbers, and the runs of a paper's tier."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from richregime import tiers
from widthlab.papers import hajjar2024training as hajjar
from widthlab.probes import Performance, Rank
from widthlab.runs.experiment import Experiment
from widthlab.runs.record import frame
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


@pytest.mark.parametrize("chapter", sorted(tiers.setups()))
def test_stored_records_are_runs_of_their_tier(chapter):
    """A record that no specification asks for would be shown nowhere."""
    wanted = tiers.paper_tier(chapter)
    assert len(set(wanted)) == len(wanted)
    records = tiers.stored(ROOT, chapter)
    assert records and set(records) <= set(wanted)
    for record in records.values():
        assert record.diverged_at is None
        assert record.provenance["data_sha256"] and record.provenance["commit"]


def test_stored_records_are_small():
    files = (ROOT / "results").rglob("*")
    assert sum(file.stat().st_size for file in files if file.is_file()) < 20e6


def test_a_stored_run_comes_out_again(tmp_path):
    """A cheap run of a paper tier, on data of the environment, trained anew.

    Other processors and versions order sums differently, and 1,950 steps let that grow.
    """
    stored = tiers.stored(ROOT, "01-mup-global-convergence").values()
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
