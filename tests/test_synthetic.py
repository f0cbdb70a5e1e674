"""Synthetic tasks: what they are drawn from, and that a draw stays what it was."""

import dataclasses
import json

import numpy as np
import pytest
from widthlab.data.synthetic import TASKS, Synthetic

SIZES = {"n_train": 3000, "n_test": 1000, "dim": 6}


def task(name, **changes):
    return Synthetic(**({"task": name, "seed": 2} | SIZES | changes))


def arrays(sample):
    fields = (f.name for f in dataclasses.fields(sample))
    return {name: getattr(sample, name) for name in fields if name != "sha256"}


def assert_mean(values, expected, sigmas=5):
    """The mean is within so many of its own standard errors."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(axis=0) - expected) <= sigmas * error)


@pytest.mark.parametrize("name", TASKS)
def test_a_specification_is_one_draw(name):
    first, again = (arrays(task(name).load()) for _ in range(2))
    for key, array in first.items():
        np.testing.assert_array_equal(array, again[key])
        assert array.dtype == np.float64 and np.isfinite(array).all()
    assert [a.shape for a in first.values()] == [(3000, 6), (3000,), (1000, 6), (1000,)]
    others = [task(name, seed=3), task(name, dim=7)]
    others += [task(n) for n in TASKS if n != name]
    for other in others:
        changed = arrays(other.load())
        for key in ("x_train", "x_test"):
            assert not np.array_equal(changed[key], first[key])


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("n", "k"), [(1, 0), (7, 1), (500, 1500)])
def test_a_smaller_set_is_a_prefix_and_the_splits_do_not_see_each_other(name, n, k):
    large, small = task(name).load(), task(name, n_train=n, n_test=k).load()
    assert len(small.x_train) == len(small.y_train) == n
    assert len(small.x_test) == len(small.y_test) == k
    for key, array in arrays(small).items():
        both = min(len(array), len(getattr(large, key)))
        np.testing.assert_array_equal(array[:both], getattr(large, key)[:both])


@pytest.mark.parametrize("name", TASKS)
def test_training_and_test_inputs_are_different_draws(name):
    sample = task(name, dim=40, n_train=50, n_test=50).load()
    seen = {row.tobytes() for row in sample.x_train}
    assert len(seen) == 50 and not seen & {row.tobytes() for row in sample.x_test}


@pytest.mark.parametrize("split", ["train", "test"])
def test_noise_is_a_sphere_with_targets_that_know_nothing_of_it(split):
    sample = arrays(task("noise").load())
    x, y = sample[f"x_{split}"], sample[f"y_{split}"]
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-14)
    assert_mean(x, 0)
    assert_mean(x[:, :, None] * x[:, None, :], np.eye(6) / 6)
    # A coordinate of the sphere has E x^4 = 3 / (d (d + 2)).
    assert_mean(x**4, 3 / (6 * 8))
    assert_mean(np.stack([y, y**2, y**3, y**4], axis=1), [0, 1, 0, 3])
    assert_mean(x * y[:, None], 0)
    assert_mean(x[:, :1] * x[:, 1:] * y[:, None], 0)


@pytest.mark.parametrize("split", ["train", "test"])
def test_xor_is_a_product_of_signs(split):
    sample = arrays(task("xor").load())
    x, y = sample[f"x_{split}"], sample[f"y_{split}"]
    np.testing.assert_array_equal(np.abs(x), 1 / np.sqrt(6))
    np.testing.assert_array_equal(y, np.sign(x[:, 0]) * np.sign(x[:, 1]))
    np.testing.assert_allclose(y, 6 * x[:, 0] * x[:, 1], rtol=1e-14)
    assert_mean(x, 0)
    # No coordinate alone tells anything, nor does any other pair.
    assert_mean(x * y[:, None], 0)
    pairs = (x[:, :, None] * x[:, None, :] * y[:, None, None])[:, *np.triu_indices(6)]
    assert_mean(np.delete(pairs, 1, axis=1), 0)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_relu_neuron_reads_one_coordinate(split):
    sample = arrays(task("relu-neuron").load())
    x, y = sample[f"x_{split}"], sample[f"y_{split}"]
    np.testing.assert_allclose(y, np.sqrt(6) * np.maximum(x[:, 0], 0), rtol=1e-14)
    assert_mean(x, 0)
    assert_mean(x[:, :, None] * x[:, None, :], np.eye(6) / 6)
    assert_mean(np.stack([y, y**2], axis=1), [1 / np.sqrt(2 * np.pi), 1 / 2])
    assert_mean((x**2).sum(axis=1), 1)


@pytest.mark.parametrize("name", TASKS)
def test_a_target_scale_multiplies_targets_alone(name):
    plain, scaled = task(name).load(), task(name, target_scale=-2.5).load()
    np.testing.assert_array_equal(scaled.x_train, plain.x_train)
    np.testing.assert_array_equal(scaled.y_train, -2.5 * plain.y_train)
    np.testing.assert_array_equal(scaled.y_test, -2.5 * plain.y_test)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "parity"}, r"'parity'.*noise.*xor.*relu-neuron"),
        ({"n_train": 0}, "n_train is 0.*from 1 on"),
        ({"n_test": -1}, "n_test is -1.*from 0 on"),
        ({"dim": 0}, "dim is 0.*from 1 on"),
        ({"task": "xor", "dim": 1}, "dim is 1.*at least 2"),
        ({"seed": -1}, "seed is -1.*from 0 to"),
        ({"n_train": True}, "n_train is True.*integer"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Synthetic(**({"task": "noise"} | SIZES | changes))


def test_all_fields_are_json_and_make_the_same_task_again():
    spec = task("xor", target_scale=0.5)
    fields = json.loads(json.dumps(spec.to_json()))
    assert fields == {"task": "xor", "seed": 2, "target_scale": 0.5} | SIZES
    again = Synthetic(**fields)
    assert again == spec and hash(again) == hash(spec)
    np.testing.assert_array_equal(again.load().x_train, spec.load().x_train)
