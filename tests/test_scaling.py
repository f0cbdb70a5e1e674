"""A model of one's own under a parametrization: factors, starts and updates."""

import inspect
import math
from fractions import Fraction

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scaling_models import convolutional, perceptron, transformer
from widthlab import parametrization, scaling
from widthlab.model import MLP, Shape, by_tensor
from widthlab.parametrization import Role
from widthlab.scaling import plans
from widthlab.scaling.draws import Draw, keys_of, split_keys
from widthlab.scaling.laws import log_sizes, measure
from widthlab.scaling.programs import Program
from widthlab.scaling.rules import PARTIAL, REFUSED
from widthlab.scaling.scaled import PlanNumbers, scale_updates, start
from widthlab.scaling.survey import by_path, parameters
from widthlab.training.optimizer import Optimizer

S = 4  # target over base width, in all tables below
BASE, WIDTH = 16, 64
pytestmark = pytest.mark.usefixtures("as_users_do")


def plan(build, name="mup", optimizer="adam", width=WIDTH, base_width=BASE, **options):
    return plans.plan(
        build, name, width=width, base_width=base_width, optimizer=optimizer, **options
    )


def factors(made):
    """Size against the base's and learning rate, by name."""
    return {
        row.tensor.name: (
            "zero" if row.law.zero else round(row.init * row.law.ratio, 9),
            round(row.lr, 9),
        )
        for row in made.rows
    }


# Tensor Programs V (Yang et al. 2022, arXiv 2203.03466). Written as there: the initial
# variance, the multiplier and the learning rates of SGD and Adam, as powers of the fan
# that grows, of the matrices that layers have. Table 3 has no multipliers, 8 is the one
# that allows tied embeddings, 9 the one of Tensor Programs IV.
TP5 = {
    3: {
        "input": (0, 0, 1, 0),
        "output": (-2, 0, -1, -1),
        "hidden": (-1, 0, 0, -1),
    },
    8: {
        "input": (0, 0, 1, 0),
        "output": (0, -1, 1, 0),
        "hidden": (-1, 0, 0, -1),
    },
    9: {
        "input": (-1, 0.5, 0, -0.5),
        "output": (-1, -0.5, 0, -0.5),
        "hidden": (-1, 0, 0, -1),
    },
}


def absorbed(row):
    """Powers of size, SGD rate and Adam rate of the matrix in front of activations."""
    variance, multiplier, sgd, adam = row
    return variance / 2 + multiplier, sgd + 2 * multiplier, adam + multiplier


@pytest.mark.parametrize("role", ["input", "hidden", "output"])
def test_the_three_tables_of_tensor_programs_v_are_one(role):
    assert absorbed(TP5[3][role]) == absorbed(TP5[8][role]) == absorbed(TP5[9][role])


def expected(role, optimizer):
    size, sgd, adam = absorbed(TP5[3][role])
    return S**size, S ** {"sgd": sgd, "adam": adam}[optimizer]


ROLES = {
    "mlp": (perceptron(depth=2), {"layers.0": "input", "layers.1": "hidden"},
            "layers.2"),
    "cnn": (convolutional(), {"stem": "input", "blocks.0.conv1": "hidden",
                              "blocks.0.conv2": "hidden"}, "head"),
    "transformer": (transformer(layers=1), {
        "embed": "input", "positions": "input",
        **{f"blocks.0.attention.{part}": "hidden"
           for part in ("query", "key", "value", "out")},
        "blocks.0.up": "hidden", "blocks.0.down": "hidden"}, "head"),
}  # fmt: skip


@pytest.fixture(scope="module")
def sizes():
    """Measured once for each model: the tables and optimizers differ."""
    return {name: measure(build, BASE) for name, (build, *_) in ROLES.items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("model", [*ROLES])
def test_factors_are_those_of_tensor_programs_v(model, optimizer, sizes):
    build, roles, head = ROLES[model]
    found = factors(plan(build, optimizer=optimizer, sizes=sizes[model]))
    for layer, role in {**roles, head: "output"}.items():
        kind = "embedding" if f"{layer}.embedding" in found else "kernel"
        name = f"{layer}.{kind}"
        assert found.pop(name) == pytest.approx(expected(role, optimizer)), name
    # "Input weights & all biases"; gains are vectors too. Those of the read-out have a
    # fixed size.
    vector = expected("input", optimizer)[1]
    for name, (size, lr) in found.items():
        assert size in ("zero", 1.0), name
        assert lr == (1.0 if name == f"{head}.bias" else vector), name


def test_a_tied_embedding_has_table_8s_multiplier():
    build = transformer(tied=True, layers=0)
    measured = measure(build, BASE)
    size, multiplier, sgd, adam = TP5[8]["output"]
    for optimizer, power in {"sgd": sgd, "adam": adam}.items():
        made = plan(build, optimizer=optimizer, sizes=measured)
        assert made.multipliers == {"logits": S**multiplier}
        assert factors(made)["embed.embedding"] == (S ** (size / 2), S**power)


def test_what_a_check_draws_is_what_build_makes_and_measures_alike():
    build, draw = perceptron(), Draw(perceptron(), BASE)
    drawn = by_path(draw(keys_of((3, 4))))
    own = dict(parameters(build(BASE, nnx.Rngs(4))))
    found = draw.log_sizes(split_keys(8))
    known = log_sizes(build, BASE)
    assert own.keys() == found.keys() == known.keys()
    for path, variable in own.items():
        np.testing.assert_allclose(drawn[path][1], variable[...], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found[path], known[path], rtol=1e-5)


def test_an_initialisers_own_law_is_measured(sizes):
    made = plan(transformer(layers=1), sizes=sizes["transformer"]).by_path
    # flax starts embeddings at 1 over the root of their size.
    row = made["embed", "embedding"]
    assert row.law.exponent == Fraction(1, 2) and row.init == 2.0
    assert made["head", "kernel"].init == 0.5

    def xavier(width, rngs):
        init = nnx.initializers.xavier_uniform()
        return nnx.Sequential(
            nnx.Linear(60, width, kernel_init=init, rngs=rngs),
            nnx.Linear(width, 3, kernel_init=nnx.initializers.zeros_init(), rngs=rngs),
        )

    row, *_, last = sorted(
        (r for r in plan(xavier).rows if r.tensor.path[-1] == "kernel"),
        key=lambda r: r.tensor.name,
    )
    # 2 / (60 + n) is no power of n: the ratio itself is measured.
    assert row.law.exponent is None
    ratio = math.sqrt((60 + BASE) / (60 + WIDTH))
    assert row.law.ratio == pytest.approx(ratio, rel=0.03)
    assert last.law.zero and last.init == 0.25


@pytest.mark.parametrize("name", ["mup", "sp", "ntk", "ip"])
def test_at_the_base_width_the_network_is_the_users_own(name, sizes):
    model = "transformer" if name == "mup" else "mlp"
    build = ROLES[model][0]
    optimizer = "sgd" if name == "ip" else "adam"
    made = plan(build, name, optimizer, width=BASE, sizes=sizes[model])
    scaled = scaling.Scaled(start(build, made, nnx.Rngs(3)), made)
    ours, own = (nnx.state(m) for m in (scaled.model, build(BASE, nnx.Rngs(3))))
    assert jax.tree.structure(ours) == jax.tree.structure(own)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(own), strict=True):
        if not jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(a, b)
    assert {row.lr for row in scaled.plan.rows} == {1.0}


# Against the library's own MLP


def own_mlp(shape):
    """The MLP of the library in layers of Flax, as a user would write it."""

    def layer(inputs, outputs, std, rngs):
        return nnx.Linear(
            inputs,
            outputs,
            kernel_init=nnx.initializers.normal(std),
            bias_init=nnx.initializers.normal(1.0),
            param_dtype=jnp.float64,
            rngs=rngs,
        )

    def build(width, rngs):
        layers = [layer(shape.input_dim, width, 1.0, rngs), jnp.tanh]
        for _ in range(shape.depth - 1):
            layers += [layer(width, width, width**-0.5, rngs), jnp.tanh]
        layers.append(layer(width, shape.output_dim, width**-0.5, rngs))
        return nnx.Sequential(*layers)

    return build


def library_mlp(shape, scales, start):
    """The library's network, such that its matrices are those of `start`."""
    model = MLP(shape, scales, key=jax.random.key(0))
    linear = [m for m in start.layers if isinstance(m, nnx.Linear)]
    for ours, own in zip(model.layers, linear, strict=True):
        ours.kernel[...] = own.kernel[...] / ours.multiplier[...]
        ours.bias[...] = own.bias[...] / ours.bias_multiplier[...]
    return model


PROGRAMS = {}


def train(model, make, given, x, y, key, steps=8):
    """Train with the optimizer `make(given)`; tables share a program by their key."""
    graph, *parts = nnx.split(model, nnx.Param, ...)
    values, rest = map(nnx.as_pure, parts)
    state = make(given).init(values)

    def of(values, rest, x, y):
        output = nnx.merge(graph, values, rest)(x)
        return ((output - y) ** 2).mean(), output

    def step(values, rest, state, given, x, y):
        (_, output), grads = jax.value_and_grad(of, has_aux=True)(values, rest, x, y)
        updates, state = make(given).update(grads, state, values)
        return optax.apply_updates(values, updates), state, output

    program = PROGRAMS.setdefault((graph, key), Program(step))
    outputs = []
    for _ in range(steps + 1):
        values, state, output = program(values, rest, state, given, x, y)
        outputs.append(np.asarray(output))
    return np.stack(outputs[1:])


CASES = [
    (name, optimizer)
    for optimizer in ("sgd", "adam")
    for name, table in parametrization.catalogue().items()
    if name not in PARTIAL
    and (optimizer == "sgd" or table[Role.INPUT].c_adam is not None)
]


@pytest.fixture(scope="module")
def mlps():
    """Shape, model and its measured initialisers, by depth."""
    found = {}
    with jax.enable_x64(True):
        for depth in (1, 2):
            shape = Shape(5, (WIDTH,) * depth, 2, "tanh", biases="all")
            build = own_mlp(shape)
            found[depth] = shape, build, measure(build, BASE)
    return found


@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_an_mlp_trains_as_the_librarys_own(name, optimizer, mlps):
    table = parametrization.get(name)
    lr = 0.05 if optimizer == "sgd" else 0.02
    shape, build, sizes = mlps[table.max_depth or 2]
    with jax.enable_x64(True):
        made = plan(build, name, optimizer, sizes=sizes)
        scaled = scaling.Scaled(start(build, made, nnx.Rngs(1)), made)
        adam = optimizer == "adam"
        scales = shape.scales(table, lr=lr, base_width=BASE, adam=adam, dtype="float64")
        x = jax.random.normal(jax.random.key(2), (20, 5), jnp.float64)
        y = jax.random.normal(jax.random.key(3), (20, 2), jnp.float64)
        theirs = library_mlp(shape, scales, scaled.model)
        rule = Optimizer(optimizer, eps=0.0) if adam else Optimizer()
        trees = (scales.lr, scales.first_lr, scales.retained)
        params = nnx.state(theirs, nnx.Param)
        spread = [nnx.as_pure(by_tensor(params, jnp.asarray(t))) for t in trees]
        key = shape, optimizer, name if "hp" in name else None
        expected = train(theirs, lambda t: rule.transform(*t), spread, x, y, key)
        tx = optax.adam(lr, eps=0.0) if adam else optax.sgd(lr)
        paths = [row.tensor.path for row in made.rows]

        def ours(rates):
            numbers = PlanNumbers({}, dict(zip(paths, rates, strict=True)), {})
            return scale_updates(tx, made, numbers=numbers)

        rates = [jnp.asarray(row.lr) for row in made.rows]
        found = train(scaled.model, ours, rates, x, y, key)
    assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()
    assert np.abs(found[-1] - found[0]).max() > 1e-4


@pytest.mark.parametrize("name", ["mup", "ntk", "sp-lr/n", "ip"])
def test_initial_sizes_are_the_librarys(name, mlps):
    table = parametrization.get(name)
    shape, build, measured = mlps[2]
    scales = shape.scales(table, lr=1.0, base_width=BASE)
    sizes = scales.std * scales.multiplier
    with jax.enable_x64(True):
        made = plan(build, name, optimizer="sgd", sizes=measured)
    own = {0: 1.0, 2: WIDTH**-0.5, 4: WIDTH**-0.5}
    rows = {row.tensor.path: row for row in made.rows}
    for place, (layer, std) in enumerate(own.items()):
        row = rows["layers", layer, "kernel"]
        assert row.init * std == pytest.approx(float(sizes[place]), rel=1e-6)


# What is refused


@pytest.mark.parametrize("name", [*PARTIAL])
def test_tables_about_mlps_alone_are_refused(name):
    with pytest.raises(scaling.ScalingError, match="cannot scale a model of one's own"):
        plan(perceptron(), name, optimizer="sgd")


def test_other_tables_and_optimizers_are_refused_with_the_reason():
    with pytest.raises(scaling.ScalingError, match="1 hidden layer"):
        plan(perceptron(depth=2), "mean-field", optimizer="sgd")
    with pytest.raises(scaling.ScalingError, match="no exponents for Adam"):
        plan(perceptron(), "ip")
    for name, why in REFUSED.items():
        with pytest.raises(scaling.ScalingError, match=why[:20]):
            plan(perceptron(), optimizer=name)
    with pytest.raises(scaling.ScalingError, match="not known here"):
        plan(perceptron(), optimizer="mine")


class Odd(nnx.Module):
    """A parameter of its own that no rule covers."""

    def __init__(self, width, rngs):
        self.first = nnx.Linear(4, width, rngs=rngs)
        self.table = nnx.Param(jnp.ones((3, width)))


def _random_shapes():
    count = iter(range(1, 1000))
    return lambda width, rngs: nnx.Linear(4, width + next(count), rngs=rngs)


BAD = {
    "ignores": (lambda width, rngs: nnx.Linear(3, 4, rngs=rngs), "grows with"),
    "quadratic": (
        lambda width, rngs: nnx.Linear(3, width**2, rngs=rngs),
        r"axis 0 of 'bias' has sizes \[256, 1024, 4096\]",
    ),
    "offset": (
        lambda width, rngs: nnx.Linear(width + 1, 4, rngs=rngs),
        "either constant or proportional",
    ),
    "random": (_random_shapes(), "two different shapes in two calls"),
    "linen": (lambda width, rngs: flax.linen.Dense(width), "a Linen module"),
    "nothing": (lambda width, rngs: None, "it must return a flax.nnx.Module"),
    "fails": (
        lambda width, rngs: nnx.Linear(width, 0 // 0, rngs=rngs),
        "fails: ZeroDivisionError",
    ),
    "layers": (
        lambda width, rngs: nnx.List(
            [nnx.Linear(width, width, rngs=rngs) for _ in range(width // 8)]
        ),
        "other parameters at another width",
    ),
    "uncovered": (Odd, r"roles={'table': 'input'}"),
    "vocabulary": (
        lambda width, rngs: nnx.Embed(width, 8, rngs=rngs),
        "must be fixed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", [*BAD])
def test_a_build_that_cannot_be_scaled_is_an_error_that_says_why(case):
    build, match = BAD[case]
    with pytest.raises(scaling.ScalingError, match=match):
        plan(build)


def test_the_line_that_the_error_shows_is_enough():
    made = plan(Odd, optimizer="sgd", roles={"table": "input"})
    assert factors(made)["table"] == (1.0, 4.0)
    with pytest.raises(scaling.ScalingError, match="which the model has not"):
        plan(Odd, roles={"tables": "input"})
    with pytest.raises(scaling.ScalingError, match="it must be one of"):
        plan(Odd, roles={"table": "vector"})
    with pytest.raises(scaling.ScalingError, match="of its axes 1 grow"):
        plan(Odd, roles={"table": "hidden"})


def test_bad_widths_are_refused():
    for width, base in ((0, 16), ({"a": 1}, 16), ({"a": 1}, {"b": 1})):
        with pytest.raises(scaling.ScalingError, match="width"):
            plan(perceptron(), width=width, base_width=base)


def test_a_tied_embedding_without_a_multiplier_is_refused():
    with pytest.raises(scaling.ScalingError, match=r'scaling.Multiplier\("logits"\)'):
        plan(transformer(tied=True, scaled=False, layers=1))
    with pytest.raises(scaling.ScalingError, match="take it out"):
        plan(transformer(tied=True, layers=1), tied=False)


class Transposed(nnx.Module):
    """An embedding that is read out with by hand."""

    def __init__(self, width, rngs):
        self.embed = nnx.Embed(5, width, rngs=rngs)
        self.mix = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x):
        return self.mix(self.embed(x)) @ self.embed.embedding[...].T


def test_what_reads_out_by_hand_has_to_be_said():
    with pytest.raises(scaling.ScalingError, match=r"unless 'embed.embedding' does"):
        plan(Transposed)
    with pytest.raises(scaling.ScalingError, match=r'scaling.Multiplier\("logits"\)'):
        plan(Transposed, tied=True)
    assert plan(Transposed, tied=False).multipliers == {}


@pytest.mark.parametrize(
    ("size", "width"),
    [(lambda n: min(n, 64), 256), (lambda n: n // 16 * 16, 40),
     (lambda n: 8 if n == 48 else n, 48)],
    ids=["bounded", "rounded", "odd one"],
)  # fmt: skip
def test_a_width_at_which_sizes_do_not_follow_is_refused(size, width):
    def build(n, rngs):
        return perceptron()(size(n), rngs)

    assert plan(build, width=64).width == 64
    with pytest.raises(scaling.ScalingError, match=r"axis 0 of 'layers.0.bias'"):
        plan(build, width=width)


def test_no_generator_is_an_error_that_says_so():
    plainly = inspect.unwrap(scaling.parametrize)  # users' types are not checked
    with pytest.raises(scaling.ScalingError, match=r"give nnx.Rngs\(seed\)"):
        plainly(perceptron(), "mup", width=32, base_width=16, rngs=0)


# Layers


class Layers(nnx.Module):
    """One of each kind."""

    def __init__(self, width, rngs):
        n = width
        self.up = nnx.ConvTranspose(n, n, (2,), rngs=rngs)
        self.back = nnx.ConvTranspose(
            n, 3, (2,), transpose_kernel=True, use_bias=False, rngs=rngs
        )
        self.depthwise = nnx.Conv(n, n, (3,), feature_group_count=n, rngs=rngs)
        self.groups = nnx.Conv(n, n, (3,), feature_group_count=4, rngs=rngs)
        self.einsum = nnx.Einsum("bi,ihk->bhk", (n, n // 8, 8), (n // 8, 8), rngs=rngs)
        self.general = nnx.LinearGeneral((2, n), (n, 3), axis=(-2, -1), rngs=rngs)
        self.lstm = nnx.OptimizedLSTMCell(5, n, rngs=rngs)
        self.gru = nnx.GRUCell(n, n, rngs=rngs)
        self.lora = nnx.LoRALinear(n, n, lora_rank=2, rngs=rngs)
        self.batch = nnx.BatchNorm(n, rngs=rngs)
        self.prelu = nnx.PReLU()
        self.bottleneck = nnx.Linear(n, 6, rngs=rngs)


@pytest.fixture(scope="module")
def layers():
    return {row.tensor.name: row for row in plan(Layers, optimizer="sgd").rows}


@pytest.mark.parametrize(
    ("name", "role", "lr"),
    [
        ("up.kernel", "hidden", 1),
        ("back.kernel", "output", 1 / 4),
        ("depthwise.kernel", "input", 4),  # each channel has a filter of its own
        ("groups.kernel", "hidden", 1),
        ("einsum.kernel", "hidden", 1),
        ("einsum.bias", "input", 4),
        ("general.kernel", "hidden", 1),
        ("general.bias", "input", 4),
        ("lstm.dense_i.kernel", "input", 4),
        ("lstm.dense_h.kernel", "hidden", 1),
        ("gru.dense_h.kernel", "hidden", 1),
        ("lora.kernel", "hidden", 1),
        ("lora.lora.lora_a", "output", 1 / 4),
        ("lora.lora.lora_b", "input", 4),
        ("batch.scale", "input", 4),
        ("prelu.negative_slope", "fixed", 1),
        ("bottleneck.kernel", "output", 1 / 4),
        ("bottleneck.bias", "fixed", 1),
    ],
)
def test_layers_have_the_role_of_their_axes(layers, name, role, lr):
    assert (layers[name].role, layers[name].lr) == (role, lr)


class Stacked(nnx.Module):
    """Layers in one array, applied one after another."""

    def __init__(self, width, rngs):
        @nnx.vmap(in_axes=0, out_axes=0)
        def make(rngs):
            return nnx.Linear(width, width, rngs=rngs)

        self.first = nnx.Linear(4, width, rngs=rngs)
        self.stack = make(rngs.split(3))
        self.last = nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x, layer):
            return jnp.tanh(layer(x))

        return self.last(run(self.first(x), self.stack))


def test_stacked_layers_scale_as_single_ones():
    made = plan(Stacked).by_path
    assert made["stack", "kernel"].role == "hidden"
    assert made["stack", "kernel"].lr == 0.25 and made["stack", "bias"].lr == 1.0


def test_several_widths_have_factors_of_their_own():
    def build(width, rngs):
        return nnx.Sequential(
            nnx.Linear(3, width["model"], rngs=rngs),
            nnx.Linear(width["model"], width["inner"], rngs=rngs),
            nnx.Linear(width["inner"], width["model"], rngs=rngs),
        )

    base, width = {"model": 16, "inner": 32}, {"model": 32, "inner": 256}
    for optimizer, rates in (("sgd", (2, 8 / 2, 2 / 8)), ("adam", (1, 1 / 2, 1 / 8))):
        made = plan(build, optimizer=optimizer, width=width, base_width=base)
        kernels = [made.by_path["layers", i, "kernel"] for i in range(3)]
        assert [row.lr for row in kernels] == list(rates)
        # lecun's law for each fan-in, which here grows by another number
        sizes = [row.init * row.law.ratio for row in kernels]
        assert sizes == pytest.approx([1, 2**-0.5, 8**-0.5], rel=0.05)
    with pytest.raises(scaling.ScalingError, match="says nothing of that"):
        plan(build, "sp-lr/n", "sgd", width=width, base_width=base)


@pytest.mark.parametrize("norm", [False, True])
def test_where_heads_grow_queries_absorb_that_scores_are_divided_by_d(norm):
    def build(width, rngs):
        return nnx.MultiHeadAttention(
            num_heads=2, in_features=width, normalize_qk=norm, decode=False, rngs=rngs
        )

    made = {row.tensor.name: row for row in plan(build).rows}
    if norm:
        row = made["query_ln.scale"]
        assert row.init == 0.5 and row.lr == 0.5
        assert made["query.kernel"].lr == 0.25
    else:
        assert made["query.kernel"].init == 0.5
        assert made["query.kernel"].lr == 0.125
        assert made["query.bias"].lr == 0.5
    assert made["key.kernel"].init == 1.0
    plain = {row.tensor.name: row for row in plan(build, "sp").rows}
    assert plain["query.kernel"].init == 1.0


# Optimizers


def adafactor():
    return optax.adafactor(0.01, min_dim_size_to_factor=8)


MADE = {
    "sgd": lambda scaled: optax.sgd(0.1),
    "momentum": lambda scaled: optax.sgd(0.1, momentum=0.9),
    "adam": lambda scaled: optax.adam(0.01),
    "adamw": lambda scaled: optax.adamw(0.01),
    "lion": lambda scaled: optax.lion(0.01),
    "adafactor": lambda scaled: adafactor(),
    "muon": lambda scaled: optax.contrib.muon(
        0.01, muon_weight_dimension_numbers=scaled.matrices
    ),
}


@pytest.fixture(scope="module")
def scaled_mlp():
    build = perceptron()
    sizes, model = measure(build, BASE), build(WIDTH, nnx.Rngs(0))
    return {
        name: scaling.Scaled(model, plan(build, optimizer=name, sizes=sizes))
        for name in MADE
    }


@pytest.mark.parametrize("name", [*MADE])
def test_every_optimizers_update_is_multiplied(scaled_mlp, name):
    scaled = scaled_mlp[name]
    params = nnx.as_pure(nnx.state(scaled.model, nnx.Param))
    grads = jax.tree.map(jnp.ones_like, params)
    tx, own = scaled.optimizer(MADE[name](scaled)), MADE[name](scaled)
    found, _ = tx.update(grads, tx.init(params), params)
    plain, _ = own.update(grads, own.init(params), params)
    for path, row in scaled.plan.by_path.items():
        a, b = found, plain
        for key in path:
            a, b = a[key], b[key]
        np.testing.assert_allclose(a, row.lr * b, rtol=1e-6)
    hidden = scaled.plan.by_path["layers", 1, "kernel"].lr
    others = {"sgd": 1, "momentum": 1, "adafactor": 0.5, "muon": 1}
    assert hidden == others.get(name, 0.25)


@pytest.mark.parametrize(
    ("said", "given"),
    [("sgd", "adam"), ("adam", "sgd"), ("adamw", "lion"), ("muon", "adam"),
     ("adam", "adafactor"), ("sgd", "momentum"), ("sgd", "rmsprop"),
     ("sgd", "adagrad"), ("momentum", "adadelta")],
)  # fmt: skip
def test_another_optimizer_than_the_plans_is_refused(scaled_mlp, said, given):
    scaled = scaled_mlp[said]
    make = MADE.get(given, lambda scaled: getattr(optax, given)(0.1))
    tx = scaled.optimizer(make(scaled_mlp["muon"]))
    with pytest.raises(scaling.ScalingError, match=f"was scaled for '{said}'"):
        tx.init(nnx.state(scaled.model, nnx.Param))


def test_a_schedule_and_clipping_are_no_other_optimizer(scaled_mlp):
    rates = optax.linear_schedule(0.1, 0.0, 10)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rates))
    scaled = scaled_mlp["sgd"]
    scaled.optimizer(tx).init(nnx.state(scaled.model, nnx.Param))


@pytest.mark.parametrize("decay", [-1.0, 1.0, float("nan")])
def test_a_decay_that_is_no_share_is_refused(scaled_mlp, decay):
    with pytest.raises(scaling.ScalingError, match="from 0 to below 1"):
        scaled_mlp["sgd"].optimizer(optax.sgd(0.1), decay=decay)


def test_muon_on_all_matrices_is_refused(scaled_mlp):
    scaled = scaled_mlp["muon"]
    params = nnx.state(scaled.model, nnx.Param)
    with pytest.raises(scaling.ScalingError, match=r"scaled\.matrices"):
        scaled.optimizer(optax.contrib.muon(0.1)).init(params)


def test_decay_is_coupled_or_independent(scaled_mlp):
    scaled = scaled_mlp["adamw"]
    params = nnx.as_pure(nnx.state(scaled.model, nnx.Param))
    zeros = jax.tree.map(jnp.zeros_like, params)
    kernel = params["layers"][1]["kernel"]

    def moved(tx):
        return tx.update(zeros, tx.init(params), params)[0]["layers"][1]["kernel"]

    coupled = moved(scaled.optimizer(optax.adamw(0.1, weight_decay=0.5)))
    np.testing.assert_allclose(coupled, -0.1 * 0.5 * 0.25 * kernel, rtol=1e-5)
    apart = moved(scaled.optimizer(optax.adam(0.1), decay=0.02))
    np.testing.assert_allclose(apart, -0.02 * kernel, rtol=1e-5)


def test_the_table_says_what_is_done_to_each_parameter(scaled_mlp):
    text = str(scaled_mlp["adam"])
    assert text.splitlines()[0].startswith("μP from width 16 to 64; adam:")
    row = next(line for line in text.splitlines() if line.startswith("layers.2.kernel"))
    assert row.split() == [
        "layers.2.kernel", "64×3", "0:", "width", "output", "s^-1/2", "0.5", "0.25",
        "μP,", "output",
    ]  # fmt: skip


def test_plain_flax_goes_on_working():
    scaled = scaling.parametrize(
        Stacked, "mup", width=32, base_width=16, rngs=nnx.Rngs(0)
    )
    assert type(scaled.model) is Stacked
    graph, state = nnx.split(scaled.model)
    again = nnx.merge(graph, jax.tree.map(jnp.array, state))
    x = jnp.ones((2, 4))
    np.testing.assert_array_equal(nnx.jit(lambda m, x: m(x))(again, x), again(x))
