"""The network: initial moments, roles, features, scales spread by role, refusals."""

import itertools
import math

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import TypeCheckError
from reference import forward
from widthlab import activations
from widthlab.model import MLP, Multiplier, Shape, by_tensor
from widthlab.parametrization import Role, catalogue, get

SHAPE = Shape(input_dim=40, widths=(48, 64, 56), output_dim=30, activation="tanh")


def build(name="mup", shape=SHAPE, seed=0, **settings):
    scales = shape.scales(get(name), lr=0.1, **settings)
    return MLP(shape, scales, key=jax.random.key(seed)), scales


@pytest.mark.parametrize("name", ["sp", "ntk", "ip", "mup"])
def test_variance_at_initialisation(name):
    """Chi-square: the mean square of N normals has standard error sqrt(2/N)."""
    model, scales = build(name, gains=(2.0, 1.5, 0.5))
    for index, layer in enumerate(model.layers):
        kernel = np.asarray(layer.kernel[...], np.float64) / float(scales.std[index])
        count = kernel.size
        assert abs(np.mean(kernel**2) - 1) < 5 * math.sqrt(2 / count)
        assert abs(np.mean(kernel)) < 5 / math.sqrt(count)
    std = [
        get(name).scales(role, fan_in=i, fan_out=o, depth=3, gain=gain).std
        for (role, i, o), gain in zip(SHAPE.layers, (2.0, 1.5, 1.5, 0.5), strict=True)
    ]
    np.testing.assert_allclose(scales.std, std, rtol=1e-6)


def test_non_centred_weights_have_their_mean():
    """The mean of N entries has standard error std / sqrt(N)."""
    model, scales = build("ip-non-centred", gains=(2.0, 1.5, 0.5))
    np.testing.assert_array_equal(scales.mean, [0, 1, 1, 1])
    for index, layer in enumerate(model.layers):
        std = float(scales.std[index])
        kernel = np.asarray(layer.kernel[...], np.float64)
        centred = kernel - float(scales.mean[index])
        assert abs(np.mean(centred)) < 5 * std / math.sqrt(kernel.size)
        spread = np.mean(centred**2) / std**2
        assert abs(spread - 1) < 5 * math.sqrt(2 / kernel.size)


def test_layers_are_independent_draws():
    """Sample correlations of N independent pairs have standard error 1/sqrt(N)."""
    model, _ = build(shape=Shape(32, (32, 32), 32, "tanh"))
    flat = [np.asarray(layer.kernel[...]).ravel() for layer in model.layers]
    for one, other in itertools.combinations(flat, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(one.size)


def test_forward_scale_at_initialisation():
    """With the gain of its activation a wide network keeps second moments of one."""
    width, inputs = 1024, 8
    for name in ("relu", "tanh", "gelu"):
        gain = activations.get(name).gain
        shape = Shape(20, (width,) * 3, 1, name)
        scales = shape.scales(get("sp"), lr=0.1, gains=(1.0, gain, gain))
        x = jax.random.normal(jax.random.key(1), (inputs, 20))
        x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
        seen = [
            np.asarray(MLP(shape, scales, key=jax.random.key(seed)).features(x)[0])
            for seed in range(4)
        ]
        moments = np.mean(np.square(seen), axis=-1)  # seed, layer, input
        error = moments.std(axis=(0, 2)) / math.sqrt(4)  # inputs of a seed correlate
        assert np.all(np.abs(moments.mean(axis=(0, 2)) - 1) < 5 * error + 5 / width)


def test_parameters_carry_role_and_place():
    model, _ = build()
    found = [
        (p.get_metadata()["role"], p.get_metadata()["tensor"])
        for _, p in nnx.iter_graph(model)
        if isinstance(p, nnx.Param)
    ]
    assert sorted(found, key=lambda pair: pair[1]) == [
        (Role.INPUT, 0),
        (Role.HIDDEN, 1),
        (Role.HIDDEN, 2),
        (Role.OUTPUT, 3),
    ]


def test_multipliers_are_not_parameters():
    model, scales = build("ntk")
    _, parameters, multipliers = nnx.split(model, nnx.Param, Multiplier)
    assert len(jax.tree.leaves(parameters)) == len(jax.tree.leaves(multipliers)) == 4
    np.testing.assert_array_equal(
        [layer.multiplier[...] for layer in model.layers], scales.multiplier
    )


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
def test_features_against_numpy(activation):
    shape = Shape(5, (9, 7), 3, activation)
    model, scales = build("ntk", shape)
    x = jax.random.normal(jax.random.key(3), (4, 5))
    weights = [
        np.asarray(layer.kernel[...], np.float64) * float(m)
        for layer, m in zip(model.layers, scales.multiplier, strict=True)
    ]
    before, after, outputs = forward(weights, np.asarray(x, np.float64), activation)
    with jax.default_matmul_precision("highest"):
        seen = model.features(x)
    for one, other in zip(seen.preactivations, before, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for one, other in zip(seen.activations, after[1:], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(seen.output, outputs, atol=1e-5)
    np.testing.assert_array_equal(model(x), model.features(x).output)


# --- biases ------------------------------------------------------------


def with_biases(which):
    return attrs.evolve(SHAPE, biases=which)


@pytest.mark.parametrize("which", ["input", "all"])
def test_biases_are_added_with_their_own_multiplier(which):
    shape = Shape(16, (16, 16), 16, "tanh", which)  # one size: little to compile
    scales = shape.scales(get("ip-bias"), lr=0.1, bias_gains=(2.0, 3.0, 0.5))
    count = len(shape.tensors)
    scales = scales._replace(
        multiplier=(0.5 + np.arange(count) / count).astype("float32"),
        mean=np.where([t.bias for t in shape.tensors], 0.25, 0.0).astype("float32"),
    )
    model = MLP(shape, scales, key=jax.random.key(4))
    x = np.random.default_rng(0).standard_normal((16, 16)).astype("float32")
    after, before = x.astype(np.float64), []
    places = {(t.layer, t.bias): i for i, t in enumerate(shape.tensors)}
    for number, layer in enumerate(model.layers, 1):
        kernel = np.asarray(layer.kernel[...], np.float64)
        h = after @ kernel * scales.multiplier[places[number, False]]
        if (number, True) in places:
            bias = np.asarray(layer.bias[...], np.float64)
            h = h + bias * scales.multiplier[places[number, True]]
        else:
            assert layer.bias is None
        before.append(h)
        after = np.tanh(h)
    with jax.default_matmul_precision("highest"):
        seen = model.features(x)
    for one, other in zip(seen.preactivations, before[:-1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(seen.output, before[-1], rtol=1e-4, atol=1e-4)


def test_biases_start_with_a_spread_of_their_own():
    shape = with_biases("all")
    settings = {"gains": (1.0, 1.5, 0.5), "bias_gains": (2.0, 3.0, 0.25)}
    scales = shape.scales(get("ip-bias"), lr=0.1, **settings)
    assert list(scales.std[4:]) == [2.0, 3.0, 3.0, 0.25]
    model = MLP(shape, scales, key=jax.random.key(0))
    for index, layer in enumerate(model.layers, 4):
        values = np.asarray(layer.bias[...], np.float64) / float(scales.std[index])
        assert abs(np.mean(values)) < 5 / math.sqrt(values.size)
        assert abs(np.mean(values**2) - 1) < 5 * math.sqrt(2 / values.size)


def test_kernels_are_the_same_draws_with_and_without_biases():
    plain = build("mup")[0]
    for which in ("input", "all"):
        for one, other in zip(
            plain.layers, build("mup", with_biases(which))[0].layers, strict=True
        ):
            np.testing.assert_array_equal(one.kernel[...], other.kernel[...])


@pytest.mark.parametrize(
    ("which", "added"), [("none", []), ("input", [1]), ("all", [1, 2, 3, 4])]
)
def test_trained_arrays_are_the_matrices_then_the_biases(which, added):
    shape = with_biases(which)
    matrices, biases = shape.tensors[:4], shape.tensors[4:]
    assert [t[:1] + t[2:] for t in matrices] == [(*s, False) for s in shape.layers]
    assert [t.layer for t in matrices] == [1, 2, 3, 4]
    assert biases == [matrices[layer - 1]._replace(bias=True) for layer in added]
    sizes = {1: 48, 2: 64, 3: 56, 4: 30}
    assert [t.shape for t in biases] == [(sizes[layer],) for layer in added]
    count = 40 * 48 + 48 * 64 + 64 * 56 + 56 * 30 + sum(sizes[a] for a in added)
    assert shape.parameters == count
    # Every parameter of a network knows its own place among them.
    parameters = nnx.split(build(shape=shape)[0], nnx.Param, Multiplier)[1]
    places = by_tensor(parameters, np.arange(float(len(shape.tensors))))
    leaves = jax.tree.leaves(parameters), jax.tree.leaves(places)
    found = {int(place): leaf.shape for leaf, place in zip(*leaves, strict=True)}
    assert found == {i: t.shape for i, t in enumerate(shape.tensors)}


def test_all_parametrizations_are_one_network_at_the_base_width():
    shape = Shape(10, (32, 32), 4, "relu")
    x = jax.random.normal(jax.random.key(0), (6, 10))
    # A mean that is not zero cannot coincide with weights that have none.
    deep = [
        name
        for name, table in catalogue().items()
        if table.max_depth is None and not table[Role.HIDDEN].mean
    ]
    outputs = [build(name, shape, base_width=32)[0](x) for name in deep]
    for other in outputs[1:]:
        np.testing.assert_array_equal(outputs[0], other)


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("base", [1, 16])
def test_nup_where_widths_grow(base, normalised):
    """As the reconstruction has it: standard normal matrices behind their fan-in.

    z_k = g m_{k-1}^(-1/2) A_k phi(z_{k-1}) and f = m_1^(-1/2) z_l; the rate of A_k is
    eta nu_k m_1 with nu_k = 1, or else m_1 / m_k (of the output: m_1 / m_{l-1}).
    """
    widths = (16, 40, 24, 100)
    shape = Shape(7, widths, 3, "abs")
    table = get("nup-normalised" if normalised else "nup")
    found = shape.scales(table, lr=0.3, base_width=base, dtype="float64")
    fans, outs = np.array([1.0, *widths]), np.array([*widths, widths[-1]])
    gamma = np.array([1, 1, 1, 1, 16**-0.5])
    behind = gamma * fans**-0.5
    nu = 16 / outs if normalised else np.ones(5)
    np.testing.assert_allclose(found.std * found.multiplier, _base(behind, base, "std"))
    # Learning rates of matrices are those of A_k by the square of what stands before.
    rates = 0.3 * nu * 16 * behind**2
    effective = found.lr * found.multiplier**2
    np.testing.assert_allclose(effective, _base(rates, base, "lr"))
    np.testing.assert_array_equal(found.lr, found.first_lr)


def _base(values, base, what):
    """All parametrizations coincide at the base width: constants of each matrix."""
    powers = {"std": (0, 0, 0.5), "lr": (-1, 0, 1)}[what]
    exponents = np.array([powers[0], *[powers[1]] * 3, powers[2]])
    return values * float(base) ** exponents


def test_biases_of_nup_learn_like_those_of_the_first_layer():
    """The rate eta nu_k / gamma^2 of a bias that is added to z_k; none in f."""
    widths = (16, 40, 24, 100)
    shape = Shape(7, widths, 3, "abs", "all")
    for name, nu in (("nup", np.ones(4)), ("nup-normalised", 16 / np.array(widths))):
        found = shape.scales(get(name), lr=0.3, dtype="float64")
        np.testing.assert_allclose(found.lr[5:], [*(0.3 * 16 * nu), 0.3])


def test_growth_is_nothing_at_constant_width():
    for widths, same in (((32, 32, 32), True), ((32, 32, 64), False)):
        mup, nup, normalised = (
            Shape(10, widths, 4, "relu", "all").scales(get(name), lr=0.1, base_width=8)
            for name in ("mup", "nup", "nup-normalised")
        )
        for other in (nup, normalised):
            assert same == all(
                np.array_equal(a, b) for a, b in zip(mup, other, strict=True)
            )


def test_keys_decide_the_draw():
    same, again, other = (build(seed=s)[0].layers[1].kernel[...] for s in (0, 0, 1))
    np.testing.assert_array_equal(same, again)
    assert not np.any(same == other)


def test_by_tensor_goes_by_the_parameter_not_its_position():
    model, _ = build()
    _, parameters, _ = nnx.split(model, nnx.Param, Multiplier)
    spread = by_tensor(parameters, np.arange(4.0))
    for kernel, value in zip(
        jax.tree.leaves(parameters), jax.tree.leaves(spread), strict=True
    ):
        assert kernel.shape == SHAPE.layers[int(value)][1:]


@pytest.mark.parametrize("settings", [{}, {"role": Role.INPUT}, {"tensor": 0}])
def test_a_parameter_without_a_role_is_refused(settings):
    bare = {"w": nnx.Param(jnp.ones(3), **settings)}
    with pytest.raises(ValueError, match=r"Param names no role and place.*role=Role"):
        by_tensor(bare, np.ones(1))


def test_a_role_is_not_a_word():
    bare = {"w": nnx.Param(jnp.ones(3), role="input", tensor=0)}
    with pytest.raises(ValueError, match="names no role"):
        by_tensor(bare, np.ones(1))


def test_sizes_and_operations():
    shape = Shape(7, (5, 3), 2, "relu")
    assert shape.depth == 2
    assert shape.layers == [
        (Role.INPUT, 7, 5),
        (Role.HIDDEN, 5, 3),
        (Role.OUTPUT, 3, 2),
    ]
    assert shape.parameters == 7 * 5 + 5 * 3 + 3 * 2
    # Forward everywhere; gradient of each matrix; gradient of each input but the first.
    forward, matrices, inputs = (2 * k for k in (56, 56, 21))
    assert shape.flops == forward + matrices + inputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": ()}, r"widths is \(\); .* at least 1 values, each"),
        ({"widths": (4, 0)}, r"widths is \(4, 0\); .* each an integer from 1 on"),
        ({"widths": (-1,)}, "widths is .*-1"),
        ({"input_dim": 0}, "input_dim is 0"),
        ({"output_dim": 0}, "output_dim is 0"),
        ({"activation": "rleu"}, "no activation is called 'rleu'; there are .*relu"),
        ({"biases": "hidden"}, "biases is 'hidden'; .* one of none, input, all"),
    ],
)
def test_impossible_shapes(change, message):
    fields = {"input_dim": 3, "widths": (4,), "output_dim": 2, "activation": "relu"}
    with pytest.raises(ValueError, match=message):
        Shape(**(fields | change))


def test_inputs_of_the_wrong_size():
    model, _ = build()
    with pytest.raises(TypeCheckError, match="fan_in=41"):
        model(jnp.ones((2, 41)))
    with pytest.raises(TypeCheckError):
        model(jnp.ones(40))
