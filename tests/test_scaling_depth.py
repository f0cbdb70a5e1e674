"""Depth: factors of the papers, the absorbed multiplier, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scaling_models import Deep, DeepStack, Transformer, deep, of_classes
from widthlab import scaling
from widthlab.claims.check import Outcome
from widthlab.scaling import plans
from widthlab.scaling.blocks import blocks_of, of_depth
from widthlab.scaling.depths import deepened
from widthlab.scaling.laws import measure
from widthlab.scaling.places import places_of
from widthlab.scaling.programs import Program
from widthlab.scaling.rules import RULES
from widthlab.scaling.scaled import start
from widthlab.scaling.signals import traced
from widthlab.scaling.tables import show

BASE, NOW, WIDTH = 1, 4, 16
S = NOW / BASE
ENDS = ("blocks.*.down",)
pytestmark = pytest.mark.usefixtures("as_users_do")


def depth(exponent=1.0, *, now=NOW, base=BASE, ends=ENDS):
    return scaling.Depth(now=now, base=base, ends=ends, exponent=exponent)


@pytest.fixture(scope="module")
def known():
    """Looked at and measured once: exponents and optimizers differ."""
    sizes = measure(of_depth(deep(), BASE), WIDTH)
    return {"sizes": sizes, "deep": deepened(deep(), WIDTH, depth())}


def plan(optimizer="adam", exponent=1.0, *, build=None, width=WIDTH, known=None, **at):
    return plans.plan(
        build or deep(), "mup", width=width, base_width=WIDTH, optimizer=optimizer,
        depth=depth(exponent, **at), **(known or {}),
    )  # fmt: skip


# Written with the multiplier in front of each branch, as the papers do: exponents of
# the depth in the multiplier, and in the learning rates of what is inside a block.
# Adam: Dey et al. 2025 (arXiv 2505.01618), Table 1, as their code has it for matrices,
# biases and norms; for α = 1/2 Yang et al. 2023 (arXiv 2310.02244), Depth-μP.
# SGD: Depth-μP, whose rate is constant; for α = 1 derived in widthlab.scaling.depths.
PAPERS = {
    (0.5, "adam"): (-0.5, -0.5),
    (1.0, "adam"): (-1.0, 0.0),
    (0.5, "sgd"): (-0.5, 0.0),
    (1.0, "sgd"): (-1.0, 1.0),
}


@pytest.mark.parametrize(("exponent", "optimizer"), [*PAPERS])
def test_factors_are_those_of_the_papers(exponent, optimizer, known):
    multiplier, rate = PAPERS[exponent, optimizer]
    # Absorbed, a rate is multiplied by the multiplier, under SGD by its square.
    ends = rate + multiplier * (2 if optimizer == "sgd" else 1)
    for row in plan(optimizer, exponent, known=known).rows:
        layer = row.tensor.path[-2]
        inside, end = row.tensor.path[0] == "blocks", layer == "down"
        want = S**ends if end else S**rate if inside else 1.0
        assert row.lr == pytest.approx(want), row.tensor.name
        assert row.init == pytest.approx(S**multiplier if end else 1.0)
        assert row.why.endswith("; depth") == ((row.init, row.lr) != (1.0, 1.0))


@pytest.mark.parametrize("optimizer", ["momentum", "lion", "adamw", "muon"])
def test_other_rules_are_as_their_updates_size(optimizer):
    like = "sgd" if optimizer == "momentum" else "adam"
    for end in (False, True):
        found, known = (
            depth(0.5).rate(RULES[name], end=end) for name in (optimizer, like)
        )
        assert found == known


def test_a_relative_update_follows_the_size_that_was_absorbed(known):
    rows = {r.tensor.name: r for r in plan("adafactor", 0.5, known=known).rows}
    kernels = [rows[f"blocks.2.{layer}.kernel"] for layer in ("up", "down")]
    assert [row.lr for row in kernels] == pytest.approx([S**-0.5] * 2)


def test_a_relative_update_of_what_starts_at_zero_follows_no_size(known):
    """Its floor is a size that nothing has absorbed."""
    rows = {r.tensor.name: r for r in plan("adafactor", 1.0, known=known).rows}
    assert rows["blocks.2.down.bias"].lr == pytest.approx(1 / S)
    assert rows["blocks.2.up.bias"].lr == pytest.approx(1.0)


def test_at_the_base_width_nothing_is_scaled_whatever_was_measured():
    def build(width, rngs):
        return nnx.Linear(width, 1, rngs=rngs)

    sizes = measure(build, WIDTH)
    lawless = sizes._replace(exponents=dict.fromkeys(sizes.exponents))
    for width, same in ((WIDTH, True), (4 * WIDTH, False)):
        made = plans.plan(build, "mup", width=width, base_width=WIDTH, sizes=lawless)
        (kernel,) = [row for row in made.rows if row.tensor.path[-1] == "kernel"]
        assert (kernel.init == 1.0) == same


def test_small_arrays_keep_their_size():
    """Their sizes differ by chance, of which no factor is made."""

    def narrow(width, depth, rngs):
        model = Deep(width, depth, rngs)
        model.head = nnx.Linear(width, 1, rngs=rngs)
        return model

    for row in plan(build=narrow, now=6, base=2).rows:
        assert row.init == pytest.approx(1 / 3 if row.tensor.path[-2] == "down" else 1)


def test_width_and_depth_multiply(known):
    wide = {row.tensor.name: row for row in plan(width=4 * WIDTH, known=known).rows}
    assert wide["blocks.3.up.kernel"].lr == pytest.approx(1 / 4)
    assert wide["blocks.3.down.kernel"].lr == pytest.approx(1 / 4 / S)
    assert wide["head.kernel"].lr == pytest.approx(1 / 4)
    assert wide["stem.kernel"].lr == 1.0


def test_layers_in_one_array_have_the_same_factors(known):
    single = {
        row.tensor.path[2:]: row
        for row in plan(known=known).rows
        if len(row.tensor.path) > 2
    }
    made = plan(build=DeepStack, ends=("blocks.down",))
    stacked = {
        row.tensor.path[1:]: row for row in made.rows if len(row.tensor.path) > 2
    }
    assert {*single} == {*stacked} and len(single) == 5
    for path, row in single.items():
        assert (row.init, row.lr) == (stacked[path].init, stacked[path].lr)


def test_an_initialiser_that_knows_the_depth_is_measured_and_undone():
    def init(depth):  # that of GPT-2
        return nnx.initializers.normal(0.1 / (2 * depth) ** 0.5)

    rows = {row.tensor.name: row for row in plan(build=deep(init=init)).rows}
    assert rows["blocks.0.down.kernel"].init == S**-0.5
    assert rows["blocks.0.up.kernel"].init == 1.0


def odd(width, depth, rngs):
    """Its last block starts at zero."""
    model = Deep(width, depth, rngs)
    kernel = model.blocks[-1].down.kernel
    kernel[...] = jnp.zeros_like(kernel[...])
    return model


def falling(width, depth, rngs):
    """Its blocks start smaller the later they are."""
    model = Deep(width, depth, rngs)
    for i, block in enumerate(model.blocks):
        block.up.kernel[...] = block.up.kernel[...] / (i + 1) ** 0.5
    return model


@pytest.mark.parametrize(
    ("build", "base", "named"),
    [(odd, 1, "blocks.3.down"), (falling, 1, "blocks.3.up"), (falling, 2, "1.up")],
    ids=["zero", "falling", "falling at the base"],
)
def test_blocks_that_start_differently_are_refused(build, base, named):
    with pytest.raises(scaling.ScalingError, match=rf"{named}.kernel' starts at anoth"):
        plan(build=build, base=base)


def bottlenecks(width, depth, rngs):
    """Every other block is four times as wide inside: Flax starts it smaller."""
    model = Deep(width, depth, rngs)
    for block in model.blocks[::2]:
        block.up = nnx.Linear(width, 4 * width, rngs=rngs)
        block.down = nnx.Linear(4 * width, width, rngs=rngs)
    return model


def test_blocks_of_several_shapes_start_as_their_shapes_say():
    rows = {r.tensor.name: r for r in plan(build=bottlenecks, now=8, base=2).rows}
    shapes = {rows[f"blocks.{i}.down.kernel"].tensor.shape for i in range(8)}
    assert len(shapes) == 2
    assert len({rows[f"blocks.{i}.down.kernel"].init for i in range(8)}) == 1


@pytest.mark.parametrize("build", [deep(), DeepStack], ids=["list", "stack"])
def test_at_the_base_the_network_is_the_users_own(build):
    ends = ENDS if build is not DeepStack else ("blocks.down",)
    made = plan(build=build, now=BASE, ends=ends)
    ours, own = (
        nnx.state(model, nnx.Param)
        for model in (
            start(build, made, nnx.Rngs(3)), build(WIDTH, BASE, nnx.Rngs(3))
        )
    )  # fmt: skip
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(own), strict=True):
        np.testing.assert_array_equal(a, b)
    assert {(row.init, row.lr) for row in made.rows} == {(1.0, 1.0)}


def trained(model, tx, steps=6):
    x = jax.random.normal(jax.random.key(1), (12, 8))
    y = jax.random.normal(jax.random.key(2), (12, 3))
    graph, *parts = nnx.split(model, nnx.Param, ...)
    values, rest = map(nnx.as_pure, parts)

    def of(values):
        output = nnx.merge(graph, values, rest)(x)
        return ((output - y) ** 2).mean(), output

    @Program
    def step(values, state):
        (_, output), grads = jax.value_and_grad(of, has_aux=True)(values)
        updates, state = tx.update(grads, state, values)
        return optax.apply_updates(values, updates), state, output

    state, outputs = tx.init(values), []
    for _ in range(steps + 1):
        values, state, output = step(values, state)
        outputs.append(np.asarray(output))
    return np.stack(outputs)


@pytest.mark.parametrize(("exponent", "optimizer"), [(1.0, "sgd"), (0.5, "adam")])
def test_the_absorbed_multiplier_trains_as_the_one_in_front(optimizer, exponent, known):
    """With weight decay, too: by a share, it is the same for both."""
    with jax.enable_x64(True):
        multiplier, rate = (S**power for power in PAPERS[exponent, optimizer])
        tx = optax.sgd(0.2) if optimizer == "sgd" else optax.adam(0.02, eps=0.0)
        made = plan(optimizer, exponent, known=known)
        scaled = scaling.Scaled(start(deep(), made, nnx.Rngs(1)), made)
        found = trained(doubled(scaled.model), scaled.optimizer(tx, decay=0.01))
        front = Deep(WIDTH, NOW, nnx.Rngs(1), multiplier=multiplier)
        rates = optax.chain(tx, inside_times(rate), shrink(0.01))
        expected = trained(doubled(front), rates)
    assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()
    assert np.abs(found[-1] - found[0]).max() > 1e-3


def doubled(model):
    """The model in float64."""
    graph, state = nnx.split(model)
    floats = jax.tree.map(
        lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x,
        state,
    )
    return nnx.merge(graph, floats)


def inside_times(rate):
    """Multiply the updates of all that is inside blocks."""

    def one(keys, update):
        return update * rate if str(keys[0].key) == "blocks" else update

    return optax.stateless(lambda u, p: jax.tree_util.tree_map_with_path(one, u))


def shrink(share):
    return optax.stateless(lambda u, p: jax.tree.map(lambda a, b: a - share * b, u, p))


def test_the_table_says_how_deep(known):
    title = show(plan(known=known)).splitlines()[0]
    assert title.endswith("from depth 1 to 4, branches × 0.25")


# The check


@pytest.fixture(scope="module")
def vectors():
    x, y = (jax.random.key(seed) for seed in (0, 1))
    return jax.random.normal(x, (16, 8)), jax.random.randint(y, (16,), 0, 3)


def check(build, batch, **options):
    options = {"width": 32, "depths": (2, 4, 6), "seeds": 4, "ends": ENDS, **options}
    options = {"control": False, **options}
    return scaling.depth_check(build, batch=batch, loss=of_classes, **options)


@pytest.fixture(scope="module")
def complete(vectors):
    return check(deep(), vectors, control=True)


def test_a_sound_model_is_not_accused_and_one_without_a_rule_is(complete):
    assert complete.wrong is None and complete.outcome is not Outcome.FAIL
    failed = {j.name for j in complete.control if j.fails}
    assert {"blocks.half.up", "blocks.half.down", "norm"} <= failed
    assert "blocks.half" in failed and "stem" not in failed
    assert "depths 2, 4, 6 over 1" in str(complete)
    assert complete.figure().axes[-2].get_xlabel() in ("depth", "")
    assert {*complete.of((0, 1, 2)).frame["seed"]} == {0, 1, 2}


def test_depth_mup_is_lazy_inside_a_branch_and_completep_is_not(complete, vectors):
    # At depth 1 nothing reaches the block in the middle: its own change is what counts.
    found = check(deep(), vectors, exponent=0.5, depths=(1, 2, 3))
    for result, exponent in ((found, -0.5), (complete, 0.0)):
        up = next(j for j in result.judgements if j.name == "blocks.half.up")
        assert up.own.predicted == exponent and up.own.outcome() is Outcome.PASS
        assert up.change.predicted == 0.0


def test_a_norm_behind_a_branch_undoes_the_multiplier_and_is_found(vectors):
    found = check(deep(behind=True), vectors, depths=(1, 2, 3))
    assert found.outcome is Outcome.FAIL
    assert found.wrong.startswith(("behind", "norm", "blocks.half"))


def test_half_way_may_be_between_two_blocks():
    """The second branch of a block is later than the first, by half a block."""

    def build(width, depth, rngs):
        return Transformer(width, rngs, layers=depth)

    ends = ("blocks.*.attention.out", "blocks.*.down")
    tokens = jnp.zeros((1, 4), jnp.int32)
    blocks = blocks_of(build, 16, 4, 1, ends)
    found = traced(of_depth(build, 4), (tokens, tokens), of_classes, 16)
    places = places_of(found, ends, blocks)
    for layer, weights in (
        ("norm1", {2: 1.0}),
        ("attention.query", {2: 1.0}),
        ("attention", {2: 1.0}),
        ("attention.out", {2: 1.0}),
        ("norm2", {1: 0.5, 2: 0.5}),
        ("up", {1: 0.5, 2: 0.5}),
        ("down", {1: 0.5, 2: 0.5}),
    ):
        here = {n: p for n, p in places.items() if p.name == f"blocks.half.{layer}"}
        assert {int(n.split(".")[1]): p.weight for n, p in here.items()} == weights
    kinds = {place.name: place.kind for place in places.values()}
    assert kinds["blocks.half.attention"] == kinds["blocks.half.down"] == "added"
    assert kinds["blocks.half.up"] == "inside" and kinds["blocks.last"] == "stream"
    assert kinds["embed"] == kinds["head"] == "outside"
    assert "blocks.3" in places and "blocks.2" not in places


def test_a_check_that_cannot_tell_is_refused(vectors):
    with pytest.raises(scaling.ScalingError, match="three depths"):
        check(deep(), vectors, depths=(2, 4))
    with pytest.raises(scaling.ScalingError, match=r"width is .*; models that are"):
        check(deep(), vectors, width={"d": 16})
    with pytest.raises(scaling.ScalingError, match="ends is 'blocks"):
        check(deep(), vectors, ends="blocks.*.down")
    with pytest.raises(scaling.ScalingError, match="no list of blocks"):
        scaling.depth_check(
            DeepStack, ends=("blocks.down",), depths=(1, 2, 4), width=16,
            batch=vectors, loss=of_classes,
        )  # fmt: skip


# What is refused


def odd(make):
    """A build whose list of blocks is made by a function of the depth."""

    def build(width, depth, rngs):
        model = nnx.Module()
        model.blocks = nnx.List(
            [nnx.Linear(width, width, rngs=rngs) for _ in range(make(depth))]
        )
        model.head = nnx.Linear(width, 2, rngs=rngs)
        return model

    return build


def wider(width, depth, rngs):
    return nnx.Sequential(nnx.Linear(3, depth * depth * width, rngs=rngs))


def named(width, depth, rngs):
    model = nnx.Module()
    for i in range(depth):
        setattr(model, f"block{i}", nnx.Linear(width, width, rngs=rngs))
    return model


def one_for_all(width, depth, rngs):
    """Every block has a norm of its own, and all have one last layer."""
    model = Deep(width, depth, rngs)
    for block in model.blocks:
        block.down = model.blocks[0].down
    return model


def one_block(width, depth, rngs):
    """Beside a list of blocks, one block as often as the model is deep."""
    model = Deep(width, depth, rngs)
    model.others = nnx.List([nnx.Linear(width, width, rngs=rngs)] * depth)
    return model


def of_all_layers(width, depth, rngs):
    model = Deep(width, depth, rngs)
    model.head = nnx.Linear(depth * width, 3, rngs=rngs)
    return model


def raw(width, depth, rngs):
    """Blocks that are arrays, and no layers."""
    model = Deep(width, depth, rngs)
    for block in model.blocks:
        block.up = block.down = block.norm = None
        block.w1, block.w2 = (nnx.Param(jnp.ones((width, width))) for _ in "12")
    return model


LINEAR = ("blocks.*",)
BAD = {
    "shared": (one_for_all, {}, "'blocks.0.down.*' and 'blocks.1.down.*' are one"),
    "one block": (one_block, {}, "'others.0.* and 'others.1.* are one parameter"),
    "all layers": (of_all_layers, {}, "grows with the depth and with the width"),
    "arrays": (raw, {"ends": LINEAR}, "has w1, w2: a branch is ended by a layer"),
    "one of them": (deep(), {"ends": ("blocks.0.down",)}, r"write \* in place of"),
    "ignored": (odd(lambda d: 2), {"ends": LINEAR}, "at 1 and at 4 all are the same"),
    "one more": (odd(lambda d: d + 1), {"ends": LINEAR}, r"\[2, 3, 5\] layers at"),
    "no list": (named, {"ends": ("block0",)}, "put the blocks into a list"),
    "wider": (wider, {"ends": ("layers.0",)}, r"nothing else may depend"),
    "bounded": (
        odd(lambda d: min(d, 8)), {"ends": LINEAR, "now": 16},
        "and 8 at 16; it must be proportional",
    ),
    "no layer": (deep(), {"ends": ("blocks.*.dwon",)}, r"these are blocks.\*.down, "),
    "outside": (deep(), {"ends": ("head",)}, "no layer inside a block"),
    "without depth": (
        lambda width, rngs: nnx.Linear(3, width, rngs=rngs), {},
        r"build\(width, depth, rngs\)",
    ),
    "no block": (deep(), {"now": 0}, "now is 0; it must be an integer from 1 on"),
    "no base": (deep(), {"base": 0}, "base is 0; it must be an integer from 1 on"),
    "too much": (deep(), {"exponent": 2.0}, "must be from 1/2"),
    "too little": (deep(), {"exponent": 0.25}, "of at least 0.5"),
    "nothing ends": (deep(), {"ends": ()}, "ends is"),
}  # fmt: skip


@pytest.mark.parametrize("case", [*BAD])
def test_what_cannot_be_scaled_is_an_error_that_says_why(case):
    build, options, match = BAD[case]
    with pytest.raises(scaling.ScalingError, match=match):
        plan(build=build, **options)


def test_an_adapter_cannot_absorb():
    def build(width, depth, rngs):
        model = nnx.Module()
        model.blocks = nnx.List(
            [nnx.LoRALinear(width, width, lora_rank=2, rngs=rngs) for _ in range(depth)]
        )
        return model

    with pytest.raises(scaling.ScalingError, match="not linear in all of them"):
        plan(build=build, ends=LINEAR)


@pytest.mark.parametrize("norm", [nnx.WeightNorm, nnx.SpectralNorm])
def test_an_end_that_is_divided_by_its_own_size_is_refused(norm):
    def build(width, depth, rngs):
        model = Deep(width, depth, rngs)
        for block in model.blocks:
            block.down = norm(block.down, rngs=rngs)
        return model

    with pytest.raises(scaling.ScalingError, match="undoes every factor"):
        plan(build=build, ends=("blocks.*.down.layer_instance",))


def test_depth_is_for_mup_alone():
    with pytest.raises(scaling.ScalingError, match="for 'mup' alone"):
        plans.plan(deep(), "sp", width=WIDTH, base_width=WIDTH, depth=depth())
