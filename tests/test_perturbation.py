"""Starts moved by one unit in the last place, where a variable asks for it."""

import jax
import numpy as np
import pytest
from test_experiment import spec
from widthlab import flow, perturbation
from widthlab.canonical import digest
from widthlab.papers.hajjar2023symmetries import population
from widthlab.probes import Features
from widthlab.runs.archive import Archive, ArchiveError
from widthlab.runs.executors import Processes
from widthlab.runs.flows import FlowRun
from widthlab.runs.provenance import record_key
from widthlab.runs.store import Store
from widthlab.runs.sweep import OtherCodeError, sweep
from widthlab.training import ensemble

VARIABLE = perturbation.PERTURB_VARIABLE


@pytest.fixture
def perturbed(monkeypatch):
    def choose(number):
        if number is None:
            monkeypatch.delenv(VARIABLE, raising=False)
        else:
            monkeypatch.setenv(VARIABLE, str(number))

    choose(None)
    return choose


@pytest.mark.parametrize("said", ["0", "-1", "1.5", "yes"])
def test_a_perturbation_is_a_number_from_1_up(said, perturbed):
    assert perturbation.chosen() is None and perturbation.in_key() == {}
    perturbed("")
    assert perturbation.chosen() is None
    perturbed(said)
    with pytest.raises(ValueError, match=r"WIDTHLAB_PERTURB is .* from 1 up"):
        perturbation.chosen()


def test_a_key_names_the_perturbation_and_is_what_it_was_without(
    perturbed, monkeypatch
):
    monkeypatch.delenv("XLA_FLAGS")  # which the tests set, and keys have
    said = {"spec": {"width": 64}, "data": "0" * 64, "code": "1" * 64}
    keys = [record_key(*said.values())]
    assert keys == [digest(said)]
    for number in (1, 2):
        perturbed(number)
        keys.append(record_key(*said.values()))
    assert len({*keys}) == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_move_by_one_unit_in_the_last_place(dtype):
    rng = np.random.default_rng(0)
    old = rng.standard_normal((1, 10_000)).astype(dtype)
    old[0, :3] = 0, np.inf, np.nan
    new = perturbation.moved({"a": old, "n": np.arange(3)}, 1)
    assert new["a"].dtype == dtype and new["n"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(new["a"][0, :3], old[0, :3])
    steps = new["a"][0, 3:], old[0, 3:]
    units = np.subtract(*(v.view(dtype.replace("float", "int")) for v in steps))
    assert set(units.tolist()) == {-1, 1}
    share = (new["a"] > old).mean()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(old.size)


def test_members_move_alike_and_numbers_of_perturbations_differ():
    old = np.ones((3, 50))
    one, two = perturbation.moved(old, 1), perturbation.moved(old, 2)
    np.testing.assert_array_equal(one[0], one[2])
    np.testing.assert_array_equal(one[:1], perturbation.moved(old[:1], 1))
    assert (one != two).any()


def test_arrays_stay_where_they_are():
    device = jax.devices()[-1]
    old = jax.device_put(np.ones((1, 4), "float32"), device)
    new = perturbation.moved(old, 1)
    assert new.devices() == {device} and new.dtype == old.dtype


def values(records):
    return [np.asarray(record.columns["value"]) for record in records]


def test_training_begins_at_moved_weights(perturbed, tmp_path):
    """Unset it is what it was; the programs are the same; each number is one run."""
    specs = [spec(seed=s, width=64, probes=(Features(),)) for s in (0, 1)]
    store, key = Store(tmp_path), specs[0].key
    plain = values(sweep(specs, store))
    traced = ensemble.trace_counts()
    found = {}
    for number in (1, 2):
        perturbed(number)
        assert specs[0].key != key
        records = sweep(specs, store)
        assert records[0].provenance["perturbed"] == number
        found[number] = values(records)
    assert ensemble.trace_counts() == traced
    assert len(store.keys()) == 6
    for one, two, old in zip(found[1], found[2], plain, strict=True):
        assert (one != old).any() and (one != two).any()
        np.testing.assert_allclose(one, old, rtol=1e-3, atol=1e-5)
    perturbed(None)
    again = sweep(specs, Store(tmp_path / "again"))
    assert specs[0].key == key and "perturbed" not in again[0].provenance
    for new, old in zip(values(again), plain, strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_network_differs_by_the_rounding_of_its_weights(perturbed, tmp_path):
    probes = (Features(inputs=8, spectra=False),)
    one, outputs = spec(precision="float64", probes=probes), {}
    for number in (None, 1):
        perturbed(number)
        outputs[number] = values(sweep([one], Store(tmp_path)))[0]
    assert (outputs[1] != outputs[None]).any()
    np.testing.assert_allclose(outputs[1], outputs[None], rtol=1e-12)


def test_flows_begin_at_moved_arrays(perturbed):
    rng = np.random.default_rng(0)
    signs = np.repeat([1.0, -1.0], 8)
    flows = [
        population.gaussian_norm(rng.standard_normal((16, 4)), signs, 2)
        for _ in range(2)
    ]
    run = FlowRun(flows[1], (0.0, 2.0))
    key, loss = run.key, {}
    for number in (None, 1, 2, None):
        perturbed(number)
        assert (run.key == key) == (number is None)
        solved = flow.solve(flows, [0.0, 2.0])
        new = np.array([one.observed["loss"] for one in solved])
        np.testing.assert_array_equal(loss.setdefault(number, new), new)
    assert (loss[1] != loss[None]).any() and (loss[1] != loss[2]).any()
    np.testing.assert_allclose(loss[1], loss[None], rtol=1e-9)


def test_a_worker_moves_starts_if_its_caller_does(perturbed, tmp_path):
    with Processes(1) as pool:
        assert len(sweep([spec()], Store(tmp_path), executor=pool)) == 1
        perturbed(1)  # workers that run already do not see it
        with pytest.raises(OtherCodeError, match="WIDTHLAB_PERTURB is not the same"):
            sweep([spec()], Store(tmp_path), executor=pool)


def test_no_perturbed_run_is_kept_with_the_book(perturbed, tmp_path):
    perturbed(1)
    with pytest.raises(ArchiveError, match="WIDTHLAB_PERTURB is set"):
        Archive(tmp_path).run([spec()])
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
