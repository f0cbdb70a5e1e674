"""The coordinate check: sound models pass, broken ones are found; and transfer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from flax import nnx
from scaling_models import convolutional, of_classes, perceptron, transformer
from widthlab import scaling
from widthlab.claims.check import Outcome
from widthlab.claims.estimates import ClaimError
from widthlab.runs import Store
from widthlab.scaling.errors import integers, seeds_of
from widthlab.scaling.judge import judge, verdict_of
from widthlab.scaling.trained import TrainedWidth

WIDTHS = (32, 64, 128)
MLP = perceptron()
pytestmark = pytest.mark.usefixtures("as_users_do")


def of_tokens(model, batch):
    logits = model(batch[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()


@pytest.fixture(scope="module")
def vectors():
    x, y = (jax.random.key(seed) for seed in (0, 1))
    return jax.random.normal(x, (16, 8)), jax.random.randint(y, (16,), 0, 3)


@pytest.fixture(scope="module")
def tokens():
    return jax.random.randint(jax.random.key(0), (4, 9), 0, 16)


def check(build, batch, loss=of_classes, **options):
    options = {"widths": WIDTHS, "seeds": 6, "control": None, **options}
    return scaling.coordinate_check(build, batch=batch, loss=loss, **options)


@pytest.fixture(scope="module")
def sound(vectors):
    return check(MLP, vectors, control="sp")


def test_a_sound_model_passes_and_the_control_fails(sound):
    # At three small widths an interval may be too wide to pass, but none may fail.
    assert sound.outcome is not Outcome.FAIL and sound.wrong is None
    assert any(j.fails for j in sound.control)
    assert [j.name for j in sound.judgements][:2] == ["layers.0", "layers.1"]
    head = next(j for j in sound.judgements if j.name == "layers.2")
    assert (head.start.predicted, head.change.predicted) == (-0.5, 0.0)
    hidden = next(j for j in sound.judgements if j.name == "layers.1")
    assert hidden.outcome is Outcome.PASS
    assert f"outcome: {sound.outcome}" in str(sound) and "layers.1" in str(sound)


def test_what_a_layer_changes_of_its_own_leaves_out_what_reaches_it(sound):
    table = sound.frame.pivot_table(
        "value", ["parametrization", "width", "seed"], ["module", "quantity"]
    )
    first, second = table["layers.0"], table["layers.1"]
    np.testing.assert_allclose(first["own"], first["change"], rtol=1e-5)
    assert (abs(second["own"] / second["change"] - 1) > 1e-3).all()
    assert "own" not in table["model"]  # it has no parameters of its own
    hidden = next(j for j in sound.judgements if j.name == "layers.1")
    assert hidden.own.predicted == 0.0 and hidden.own.outcome() is Outcome.PASS


def test_some_of_the_seeds_are_judged_alone(sound):
    part = sound.of((0, 2, 4))
    assert {*part.frame["seed"]} == {0, 2, 4}
    assert [j.name for j in part.judgements] == [j.name for j in sound.judgements]
    assert part.judgements[1].change.estimate.seeds == 3 and part.control
    assert sound.of(range(6)).judgements == sound.judgements
    for wrong in ((0,), (0, 99)):
        with pytest.raises(scaling.ScalingError, match="two or more of those"):
            sound.of(wrong)


def test_what_is_zero_or_no_number_at_one_width_alone_is_wrong(sound):
    for value in (0.0, np.nan):
        frame = sound.frame.query("parametrization == 'mup'").copy()
        frame.loc[
            (frame["width"] == 128) & (frame["module"] == "layers.1"), "value"
        ] = value
        judged = judge(frame, sound.rules)
        assert [j.name for j in judged if j.fails] == ["layers.1"]


def test_its_figure_has_a_panel_for_each_innermost_module(sound):
    drawn = [ax for ax in sound.figure().axes if ax.lines]
    # What the model returns is what its last layer does.
    assert len(drawn) == 3 and "model" in {j.name for j in sound.judgements}


@pytest.mark.parametrize(
    ("build", "roles", "wrong"),
    [
        (MLP, {"layers.1.kernel": "fixed"}, "layers.1"),
        (perceptron(depth=1), {"layers.1.kernel": "fixed"}, "layers.1"),
        (perceptron(depth=3, middle=24), None, "layers.1"),
    ],
    ids=["standard layer", "unscaled read-out", "constant width"],
)
def test_a_layer_broken_on_purpose_is_named(build, roles, wrong, vectors):
    found = check(build, vectors, roles=roles)
    assert found.outcome is Outcome.FAIL and found.wrong == wrong


def test_a_forgotten_embedding_is_named(tokens):
    roles = {"embed.embedding": "fixed"}
    found = check(transformer(layers=0), tokens, of_tokens, roles=roles)
    assert found.outcome is Outcome.FAIL and found.wrong == "embed"


def test_a_tied_embedding_without_a_multiplier_is_named(tokens):
    build = transformer(tied=True, scaled=False, layers=0)
    found = check(build, tokens, of_tokens, tied=False)
    assert found.outcome is Outcome.FAIL and found.wrong == "embed.attend"


def test_a_tied_embedding_with_its_multiplier_is_not_accused(tokens):
    found = check(transformer(tied=True, layers=0), tokens, of_tokens)
    assert found.wrong is None


def test_a_transformer_is_not_accused(tokens):
    found = check(transformer(layers=1), tokens, of_tokens)
    assert found.wrong is None
    names = {j.name for j in found.judgements}
    assert {"blocks.0.attention.query", "blocks.0.up", "norm", "head"} <= names


def test_a_convolutional_network_with_groups_is_not_accused():
    # Groups of growing size normalise over more and more: no exponent changes.
    x = jax.random.normal(jax.random.key(0), (4, 5, 5, 1))
    found = check(convolutional(groups=8), (x, jnp.arange(4)), widths=(16, 32, 64))
    assert found.wrong is None


class Pooled(nnx.Module):
    """A norm whose groups are single channels at the least width; then a mean.

    It sows something that no exponent is known of.
    """

    def __init__(self, width, rngs):
        self.stem = nnx.Linear(1, width, rngs=rngs)
        self.norm = nnx.GroupNorm(width, num_groups=32, rngs=rngs)
        self.head = nnx.Linear(width, 4, rngs=rngs)

    def __call__(self, x):
        x = self.norm(self.stem(x))
        self.sow(nnx.Intermediate, "scores", (x**2).sum(-1) ** 2)
        return self.head(x.mean((1, 2)))


def test_groups_of_single_channels_are_found_and_scores_not_decided():
    # With k channels in a group the mean behind the norm is √(1 - 1/k) of what it was.
    x = jax.random.normal(jax.random.key(0), (4, 5, 5, 1))
    found = check(Pooled, (x, jnp.arange(4)))
    assert found.wrong == "head"
    scores = next(j for j in found.judgements if j.name == "scores")
    assert scores.start.outcome() is Outcome.FAIL  # as n², not level
    assert not scores.decided and scores.outcome is Outcome.OPEN
    assert any(line.endswith("undecided") for line in str(found).splitlines())


def test_a_check_that_cannot_tell_is_refused(vectors):
    for option, said in (
        ({"widths": (32, 64)}, "three widths"),
        ({"seeds": 1}, "give two or more"),
        ({"together": 0}, "an integer from 1 on"),
        ({"margin": -1.0}, "a number above 0"),
        ({"undecided": "scores"}, r'\("scores",\)'),
    ):
        with pytest.raises(scaling.ScalingError, match=said):
            check(perceptron(), vectors, **option)
    with pytest.raises(scaling.ScalingError, match="nothing is predicted for 'ip'"):
        check(perceptron(), vectors, parametrization="ip", optimizer="sgd",
              tx=optax.sgd(0.1))  # fmt: skip


class Dropping(nnx.Module):
    """What it puts out is random as long as it is trained."""

    def __init__(self, width, rngs, rate=0.5):
        self.first = nnx.Linear(8, width, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.last = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.first(x))))


def test_noise_is_not_taken_for_what_training_changes(vectors):
    with pytest.raises(scaling.ScalingError, match=r"'drop.rngs' draws random"):
        check(Dropping, vectors)

    def off(width, rngs):
        model = Dropping(width, rngs)
        model.eval()
        return model

    def again(model, batch):  # its counts are written again, unchanged
        return nnx.remat(of_classes)(model, batch)

    assert check(off, vectors, again, widths=(8, 16, 32), seeds=2).judgements


def test_a_cell_in_a_loop_that_cannot_be_watched_is_refused(vectors):
    def build(width, rngs):
        return nnx.RNN(nnx.LSTMCell(4, width, rngs=rngs))

    def loss(model, batch):
        return model(batch[0].reshape(16, 2, 4)).mean()

    with pytest.raises(scaling.ScalingError, match="write that loop in Python"):
        check(build, vectors, loss)


class Shifted(nnx.Module):
    """A network whose inputs a constant is added to, held in some way."""

    def __init__(self, width, rngs, hold, wrap):
        self.shift = hold(np.linspace(0, 1, 8, dtype="float32"))
        inner = nnx.Linear(8, width, rngs=rngs)
        self.inner = nnx.WeightNorm(inner, rngs=rngs) if wrap else inner
        self.outer = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.outer(nnx.relu(self.inner(x + self.shift[...])))


@pytest.mark.parametrize(
    ("hold", "wrap", "place"),
    [
        (lambda v: nnx.Variable(jnp.asarray(v)), False, None),
        (lambda v: v, False, None),
        (jnp.asarray, False, "shift, of a Shifted"),
        (lambda v: v, True, "inner.scales, of a WeightNorm"),
    ],
    ids=["variable", "numpy", "bare", "weight-norm"],
)
def test_an_array_that_is_no_variable_is_refused_where_it_is_lost(
    hold, wrap, place, vectors
):
    def build(width, rngs):
        return Shifted(width, rngs, hold, wrap)

    options = {"widths": (16, 32, 64), "seeds": 2}
    if place is None:
        assert len(check(build, vectors, **options).frame)
        return
    with pytest.raises(
        scaling.ScalingError, match=f"{place}, is an array and no variable"
    ):
        check(build, vectors, **options)


def test_a_loss_that_shows_no_output_is_refused(vectors):
    for loss in (
        lambda model, batch: jnp.float32(1.0),
        lambda model, batch: model.layers[0].kernel[...].mean(),
    ):
        with pytest.raises(scaling.ScalingError, match="no module's output was seen"):
            check(perceptron(), vectors, loss)


def test_what_judges_nothing_is_open(sound):
    judged, failing = sound.judgements, sound.control
    passing = judged[1]
    assert verdict_of([passing], failing) is Outcome.PASS
    assert verdict_of([passing], [passing]) is Outcome.OPEN  # it could not have told
    for nothing in ([], [passing._replace(decided=False)]):
        assert verdict_of(nothing, ()) is Outcome.OPEN
        assert verdict_of(nothing, failing) is Outcome.OPEN
    still = passing._replace(change=None)
    assert verdict_of([still], ()) is Outcome.OPEN  # nothing was trained
    assert verdict_of([still, passing], ()) is Outcome.PASS
    with pytest.raises(scaling.ScalingError, match="each once"):
        scaling.coordinate_check(
            perceptron(), widths=WIDTHS, batch=None, loss=of_classes, seeds=(0, 0)
        )


# Transfer


def batch_of(key, step):
    x = jax.random.normal(jax.random.fold_in(key, step), (16, 8))
    return x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0).astype(int)


SETTING = {
    "data": batch_of,
    "loss": of_classes,
    "lrs": (0.001, 0.004, 0.016, 0.064, 0.256),
    "steps": 12,
    "seeds": 3,
    "parametrizations": ("mup",),
    "progress": False,
}


def test_transfer_trains_each_width_once(monkeypatch):
    found = scaling.transfer(perceptron(), widths=(8, 16, 32), **SETTING)
    assert len(found.frame) == 3 * 5 * 3
    best = found.optima("mup")
    assert best["value"].between(0.001, 0.256).all()
    drift, cost = found.drift("mup"), found.cost("mup")
    assert abs(drift.value) < 0.75 and cost.high >= 0

    def never(self):
        raise AssertionError("was trained again")

    monkeypatch.setattr(TrainedWidth, "run", never)
    again = scaling.transfer(perceptron(), widths=(8, 16, 32), **SETTING)
    pd.testing.assert_frame_equal(again.frame, found.frame)
    assert str(again).startswith("mup: best rate ~ width^")


def test_what_decides_on_the_losses_is_in_the_key():
    args = (
        perceptron(),
        batch_of,
        of_classes,
        optax.adam,
        ("mup",),
        8,
        8,
        (0.1,),
        (0,),
    )
    one = TrainedWidth(*args, 3, "adam")
    assert one == TrainedWidth(perceptron(), *args[1:], 3, "adam")
    assert one != TrainedWidth(perceptron(depth=3), *args[1:], 3, "adam")
    assert one != TrainedWidth(*args, 4, "adam")


def curve(optimum):
    rates = 2.0 ** np.arange(-6, 0)
    return [
        {"parametrization": "mup", "width": width, "seed": seed, "lr": lr,
         "loss": 1 + (np.log2(lr) - optimum(width) - 0.1 * seed) ** 2}
        for width in (64, 128, 256) for seed in (0, 1) for lr in rates
    ]  # fmt: skip


def test_optimum_drift_and_cost_of_a_known_curve():
    # The optimum halves with each doubling of the width.
    found = scaling.Transfer(pd.DataFrame(curve(lambda n: 3.5 - np.log2(n))))
    best = found.optima("mup").query("width == 64 and seed == 0")["value"].item()
    assert best == pytest.approx(2**-2.5)
    assert found.drift("mup").value == pytest.approx(-1)
    # Two octaves off; the curve is interpolated between rates.
    assert found.cost("mup").value == pytest.approx(4, rel=0.1)


def test_an_optimum_at_the_end_of_the_rates_is_none():
    found = scaling.Transfer(pd.DataFrame(curve(lambda n: -9)))
    with pytest.raises(ClaimError, match="at the low end"):
        found.drift("mup")
    assert "give more of them" in str(found)
    with pytest.raises(scaling.ScalingError, match="three or more"):
        scaling.transfer(perceptron(), widths=(8, 16), **SETTING)
    with pytest.raises(scaling.ScalingError, match="'foo' was not trained"):
        found.drift("foo")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0}, "steps is 0; it must be an integer from 1 on"),
        ({"lrs": (-1.0, 0.1, 0.2)}, "above 0"),
        ({"lrs": (0.0, 0.1, 0.2)}, "above 0"),
        ({"parametrizations": ("mup", "mup")}, "each once"),
        ({"parametrizations": "mup"}, "a sequence of names"),
        ({"seeds": (0, 0)}, "each once"),
        ({"seeds": 0}, "give one or more"),
    ],
)
def test_a_transfer_that_makes_no_sense_is_refused(wrong, said):
    with pytest.raises(scaling.ScalingError, match=said):
        scaling.transfer(perceptron(), widths=(8, 16, 32), **{**SETTING, **wrong})


class Sowing(nnx.Module):
    """It notes what its first layer puts out."""

    def __init__(self, width, rngs):
        self.up = nnx.Linear(8, width, rngs=rngs)
        self.head = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        h = self.up(x)
        self.sow(nnx.Intermediate, "noted", h)
        return self.head(jnp.tanh(h))


# What flax says of a model that sows wherever it runs.
@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
def test_widths_are_trained_in_threads_and_not_watched(monkeypatch, tmp_path):
    def watched(*_, **__):
        raise AssertionError("flax changes classes, for all threads, while it watches")

    monkeypatch.setattr(nnx, "capture", watched)
    setting = {**SETTING, "store": Store(tmp_path)}
    found = scaling.transfer(Sowing, widths=(8, 16, 32), **setting)
    assert found.frame["loss"].notna().all()


def test_numbers_of_numpy_are_integers_and_others_are_none():
    found = integers("widths", (np.int64(16), 8))
    assert found == (16, 8) and {*map(type, found)} == {int}
    assert seeds_of(2) == (0, 1)
    for wrong in ((8, True), (8.0,), (0,), ("8",), (2**32,), 8):
        with pytest.raises(scaling.ScalingError, match="each must be an integer"):
            integers("widths", wrong)
