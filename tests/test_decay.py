"""Adam beside widths: weight decay that transfers, and an ε that stays small."""

import numpy as np
import pytest
from reference import draw, gradients
from test_experiment import spec
from test_parametrization import NAMES
from widthlab.canonical import canonical_json
from widthlab.model import Shape
from widthlab.parametrization import Role, get
from widthlab.probes import Updates
from widthlab.runs import Experiment, Store, sweep
from widthlab.training.epsilon import EpsilonWarning, gradient_sizes
from widthlab.training.optimizer import Optimizer

OF_ADAM = [name for name in NAMES if get(name)[Role.HIDDEN].c_adam is not None]
WIDTHS = (16, 64)


# --- decay


def shares(decay, store):
    """Share that hidden weights lose in a step in which they have no gradient."""
    optimizer = Optimizer("adamw", weight_decay=0.5, decay=decay)
    # Behind a read-out of zeros there is no gradient.
    still = {"gains": (1, 1, 0), "probes": (Updates(),), "checkpoints": (0, 1)}
    common = {"depth": 2, "steps": 1, "lr": 0.25, "base_width": WIDTHS[0], **still}
    specs = [spec(optimizer=optimizer, width=width, **common) for width in WIDTHS]
    return [r.series("relative_update", layer=2)[-1] for r in sweep(specs, store)]


@pytest.mark.parametrize(
    ("decay", "expected"),
    [("base", [0.125, 0.125]), ("layer", [0.125, 0.125 / 4])],
)
def test_a_step_takes_the_same_share_at_every_width(
    decay, expected, tmp_path, as_users_do
):
    """The control is what optax does: the share shrinks as the layer's rate does."""
    np.testing.assert_allclose(shares(decay, Store(tmp_path)), expected, rtol=1e-5)


OPTIMIZERS = [
    Optimizer(name, weight_decay=omega, decay=decay)
    for name in ("sgd", "adam", "adamw")
    for omega in ((0.0, 0.1) if name == "adamw" else (0.0,))
    for decay in ("base", "layer")
]


def test_a_decay_that_would_not_be_taken_is_refused():
    with pytest.raises(ValueError, match=r"'adam' has no weight decay, .* 'adamw'"):
        Optimizer("adam", weight_decay=0.1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_decay_comes_back_from_json(optimizer):
    assert Optimizer.from_json(optimizer.to_json()) == optimizer
    one = spec(optimizer=optimizer)
    assert Experiment.from_json(one.to_json()) == one


def test_every_optimizer_has_a_json_of_its_own():
    assert len({canonical_json(o.to_json()) for o in OPTIMIZERS}) == len(OPTIMIZERS)


@pytest.mark.parametrize(("omega", "meant"), [(0.0, "base"), (0.1, "layer")])
def test_what_was_written_before_there_was_a_choice_means_what_it_did(omega, meant):
    old = Optimizer("adamw", weight_decay=omega, decay=meant)
    fields = old.to_json()
    assert "decay" not in fields
    assert Optimizer.from_json(fields) == old


def test_a_rule_without_its_base_rate_says_so():
    with pytest.raises(ValueError, match="base learning rate, which is not given"):
        Optimizer("adamw", weight_decay=0.1).transform(1.0, 1.0, 1.0)


# --- ε


def measured(shape, scales, examples=8):
    """Root mean square of each matrix's first gradient, by another implementation."""
    rng = np.random.default_rng(0)
    sizes = (shape.input_dim, *shape.widths, shape.output_dim)
    x = rng.standard_normal((examples, shape.input_dim))
    y = rng.standard_normal((examples, shape.output_dim))
    effective = scales.std * scales.multiplier
    grads = gradients(draw(rng, sizes, effective), x, y, "tanh")[1]
    pairs = zip(grads, scales.multiplier, strict=True)
    return np.array([m * np.sqrt(np.mean(g**2)) for g, m in pairs])


@pytest.mark.parametrize("name", OF_ADAM)
def test_sizes_of_gradients_follow_the_width(name):
    """In order of magnitude at each width, and in how they change with it."""
    shapes = [Shape(4, (width,) * 3, 3, "tanh") for width in (16, 256)]
    scales = [s.scales(get(name), lr=1.0, adam=True, dtype="float64") for s in shapes]
    expected = np.array(
        [gradient_sizes(*pair) for pair in zip(shapes, scales, strict=True)]
    )
    found = np.array([measured(*pair) for pair in zip(shapes, scales, strict=True)])
    assert np.all(np.abs(np.log10(expected / found)) < 1.3)
    change = np.log(expected[1] / expected[0]) - np.log(found[1] / found[0])
    np.testing.assert_allclose(change / np.log(16), 0, atol=0.3)


def adam(eps, **changes):
    return spec(optimizer=Optimizer("adam", eps=eps), **changes)


def test_an_epsilon_beside_the_gradients_is_warned_of():
    adam(1e-8)
    with pytest.warns(
        EpsilonWarning, match=r"eps is 0.1, .* weights of layer \d .*eps"
    ):
        adam(0.1)
    spec(optimizer=Optimizer("sgd", eps=0.1))  # which has none


def test_the_same_epsilon_is_small_at_one_width_and_not_at_another():
    adam(1e-3, width=16)
    with pytest.warns(EpsilonWarning):
        adam(1e-3, width=4096)
