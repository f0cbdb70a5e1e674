"""Tables of exponents: the literature's, the algebra of their classes, and scales."""

import dataclasses
import json
import math
from fractions import Fraction as F

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from widthlab import parametrization as module
from widthlab.parametrization import (
    Exponents,
    Parametrization,
    Role,
    catalogue,
    get,
    table,
)
from widthlab.parametrization.exponents import Growth, Linear, ParametrizationError

HALF = F(1, 2)
NAMES = tuple(catalogue())

# Chen et al. 2025, Table 1, in effective form: exponents of the standard deviation and
# of the learning rate of the matrices themselves (input, hidden, output).
# std = n^-s, lr = eta n^e.
EFFECTIVE = {
    "sp": ((0, HALF, HALF), (0, 0, 0)),
    "sp-lr/n": ((0, HALF, HALF), (-1, -1, -1)),
    "ntk": ((0, HALF, HALF), (0, -1, -1)),
    "ip": ((0, 1, 1), (1, 0, -1)),
    "ip-llr": ((0, 1, 1), (1, 0, -1)),
    "ip-bias": ((0, 1, 1), (1, 0, -1)),
    "ip-non-centred": ((0, 1, 1), (1, 0, -1)),
    "mup": ((0, HALF, 1), (1, 0, -1)),
    "hp": ((0, HALF, 1), (1, 0, -1)),
    "hpz": ((0, HALF, 1), (1, 0, -1)),
    # At constant width; where widths grow, see test_nup_where_widths_grow.
    "nup": ((0, HALF, 1), (1, 0, -1)),
    "nup-normalised": ((0, HALF, 1), (1, 0, -1)),
}
# Tensor Programs IV, Table 1, and Hajjar et al. 2024: a, b and c as printed.
PRINTED = {
    "sp": ((0, 0), (0, HALF), (0, HALF), (0, 0, 0)),
    "sp-lr/n": ((0, 0), (0, HALF), (0, HALF), (1, 1, 1)),
    "ntk": ((0, 0), (HALF, 0), (HALF, 0), (0, 0, 0)),
    "ip": ((0, 0), (1, 0), (1, 0), (-1, -2, -1)),
    "ip-llr": ((0, 0), (1, 0), (1, 0), (-1, -2, -1)),
    "ip-bias": ((0, 0), (1, 0), (1, 0), (-1, -2, -1)),
    "ip-non-centred": ((0, 0), (1, 0), (1, 0), (-1, -2, -1)),
    "mup": ((-HALF, HALF), (0, HALF), (HALF, HALF), (0, 0, 0)),
    "hp": ((-HALF, HALF), (0, HALF), (HALF, HALF), (0, 0, 0)),
    "hpz": ((-HALF, HALF), (0, HALF), (HALF, HALF), (0, 0, 0)),
    "nup": ((-HALF, HALF), (0, HALF), (HALF, HALF), (0, 0, 0)),
    "nup-normalised": ((-HALF, HALF), (0, HALF), (HALF, HALF), (0, 0, 0)),
}
# Tensor Programs IVb, Section 2: in effective form an entrywise-normalised update of a
# matrix is n^-e, so that features (input, hidden) and output (output) move by n^-r and
# n^0. With Gaussian output weights n^-s the change n^-r of features reaches the output
# as n^(1-s-r), which must be 1: r = 0 for muP (s = 1) and r = 1/2 for NTP (s = 1/2).
ADAM = {"mup": (0, 1, 1), "ntk": (HALF, F(3, 2), 1)}

fractions = st.fractions(-3, 3, max_denominator=6)
thetas = st.fixed_dictionaries({role: fractions for role in Role})


def size(role, width):
    """Fan-in and fan-out of a layer of this role."""
    fan_in = 17 if role is Role.INPUT else width
    return {"fan_in": fan_in, "fan_out": 5 if role is Role.OUTPUT else width}


@pytest.mark.parametrize("name", EFFECTIVE)
def test_effective_exponents_are_those_of_the_paper(name):
    std, lr = EFFECTIVE[name]
    found = get(name).canonical()
    for role, s, e in zip(Role, std, lr, strict=True):
        assert (found[role].a, found[role].b, -found[role].c) == (0, s, e), role


@pytest.mark.parametrize("name", PRINTED)
def test_printed_exponents_are_those_of_the_literature(name):
    *pairs, c = PRINTED[name]
    found = get(name)
    for role, (a, b), rate in zip(Role, pairs, c, strict=True):
        assert (found[role].a, found[role].b, found[role].c) == (a, b, rate), role


def test_the_catalogue_has_exactly_the_tables_checked_here():
    assert {*EFFECTIVE, "mean-field"} == set(NAMES)
    assert all(get(name).name == name and get(name).source for name in NAMES)


def test_mean_field_is_mup_at_one_hidden_layer():
    for role in (Role.INPUT, Role.OUTPUT):
        here, there = (get(n)[role].effective() for n in ("mean-field", "mup"))
        assert (here.b, here.c) == (there.b, there.c)
    mean_field = get("mean-field")
    assert (mean_field[Role.INPUT].a, mean_field[Role.OUTPUT].a) == (0, 1)
    assert mean_field[Role.INPUT].c == mean_field[Role.OUTPUT].c == -1


def test_what_tells_the_tables_apart():
    def differences(one, other):
        pairs = [(get(one)[r].effective(), get(other)[r].effective()) for r in Role]
        return [[x for x in "bc" if getattr(p, x) != getattr(q, x)] for p, q in pairs]

    assert differences("ip", "mup") == [[], ["b"], []]
    assert differences("ntk", "sp-lr/n") == [["c"], [], []]
    assert differences("mup", "ntk") == [["c"], ["c"], ["b"]]


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 7])
def test_first_step_of_large_learning_rates(depth):
    for layer in range(1, depth + 2):
        found = [get("ip-llr")[role].first(depth, layer) for role in Role]
        assert found == [-F(depth + 1, 2), -F(depth + 2, 2), -F(depth + 1, 2)]
        rows = [get("mup")[role] for role in Role]
        assert all(row.first(depth, layer) == row.c for row in rows)
    later = [get("ip-llr")[role].c for role in Role]
    assert later == [get("ip")[role].c for role in Role] == [-1, -2, -1]


def roles(depth):
    return list(
        enumerate([Role.INPUT] + [Role.HIDDEN] * (depth - 1) + [Role.OUTPUT], 1)
    )


# Hajjar et al. 2024, Section 6: c of the first step, layers 1 to L + 1.
FIRST_WITH_BIASES = {
    3: (("-2", "-5/2", "-2", "-1"), ("-2", "-3/2", "-1", "0")),
    6: (
        ("-7/2", "-4", "-7/2", "-3", "-5/2", "-2", "-1"),
        ("-7/2", "-3", "-5/2", "-2", "-3/2", "-1", "0"),
    ),
}


@pytest.mark.parametrize("depth", FIRST_WITH_BIASES)
def test_exponents_of_ip_bias(depth):
    table = get("ip-bias")
    rows = [(layer, table[role], table.biases(role)) for layer, role in roles(depth)]
    matrices, biases = FIRST_WITH_BIASES[depth]
    assert [w.first(depth, layer) for layer, w, _ in rows] == [F(c) for c in matrices]
    assert [b.first(depth, layer) for layer, _, b in rows] == [F(c) for c in biases]
    # Then naive, with biases that have no multiplier and start at order one.
    assert [w.c for _, w, _ in rows] == [-1, *[-2] * (depth - 1), -1]
    assert [b.c for _, _, b in rows] == [*[-1] * depth, 0]
    assert [(w.a, w.b) for _, w, _ in rows] == [(0, 0), *[(1, 0)] * depth]
    assert {(b.a, b.b) for _, _, b in rows} == {(0, 0)}


@pytest.mark.parametrize("width", [1, 16, 256])
def test_biases_are_trained_with_their_own_exponents(width):
    depth, table = 6, get("ip-bias")
    for layer, role in roles(depth):
        sizes = {**size(role, width), "depth": depth, "layer": layer}
        found = table.scales(role, bias=True, lr=0.5, gain=3.0, **sizes)
        first, later = F(FIRST_WITH_BIASES[depth][1][layer - 1]), layer <= depth
        # Behind the output there are as many as outputs, whatever the width.
        n = width if layer <= depth else 1
        assert dataclasses.astuple(found) == pytest.approx(
            (3.0, 0.0, 1.0, 0.5 * n**later, 0.5 * n ** -float(first), 1.0)
        )


@pytest.mark.parametrize("name", [n for n in NAMES if n != "ip-bias"])
def test_biases_are_those_of_the_input_by_default(name):
    table = get(name)
    assert table.bias is None
    for role in (Role.INPUT, Role.HIDDEN):
        assert table.biases(role) == table[Role.INPUT].effective()
    depth = 1 if name == "mean-field" else 3
    for width in (8, 512):
        found = table.scales(Role.OUTPUT, **size(Role.OUTPUT, width), bias=True)
        assert dataclasses.astuple(found) == (1.0, 0.0, 1.0, 1.0, 1.0, 1.0)
        # A vector of biases is a column of the input layer's matrix.
        here, there = (
            table.scales(role, fan_in=4, fan_out=width, depth=depth, bias=bias)
            for role, bias in ((Role.HIDDEN, True), (Role.INPUT, False))
        )
        std = there.std * there.multiplier
        assert here.std * here.multiplier == pytest.approx(std)
        assert here.lr == pytest.approx(there.lr * there.multiplier**2)


def test_non_centred_weights_are_naive_but_for_their_mean():
    naive, table = get("ip"), get("ip-non-centred")
    assert [table[role].mean for role in Role] == [0, 1, 1]
    assert all(get(n)[r].mean == 0 for n in NAMES if n != table.name for r in Role)
    for role in Role:
        assert attrs.evolve(table[role], mean=F(0)) == naive[role]


@pytest.mark.parametrize("base", [1, 16, 64])
@pytest.mark.parametrize("width", [16, 64, 1024])
def test_the_mean_in_the_forward_pass_is_one_over_the_width(base, width):
    """Not a matter of the base width: a mean adds up over all inputs of a neuron."""
    for role, mean in zip(Role, (0.0, 1 / width, 1 / width), strict=True):
        for gain in (1.0, 2.0):
            found = get("ip-non-centred").scales(
                role, **size(role, width), base_width=base, gain=gain
            )
            assert found.mean * found.multiplier == pytest.approx(mean)


@pytest.mark.parametrize("name", ["hp", "hpz"])
def test_hybrids_are_mup_but_for_the_hidden_weights_that_stay(name):
    mup, table = get("mup"), get(name)
    for role in Role:
        assert attrs.evolve(table[role], retained=F(0)) == mup[role]
    kept = {"hp": HALF, "hpz": None}[name]
    assert [table[role].retained for role in Role] == [0, kept, 0]
    others = [get(n) for n in NAMES if n not in ("hp", "hpz")]
    assert all(p[role].retained == 0 for p in others for role in Role)


@pytest.mark.parametrize("base", [1, 64])
@pytest.mark.parametrize("width", [64, 100, 4096])
def test_what_hybrids_keep_of_the_initial_weights(width, base):
    """HP: what integrable weights are at that width. HPZ: nothing. Hidden ones only."""
    for role in Role:
        hp, hpz, mup, ip = (
            get(name).scales(role, **size(role, width), base_width=base, depth=3)
            for name in ("hp", "hpz", "mup", "ip")
        )
        if role is not Role.HIDDEN:
            assert hp == hpz == mup and mup.retained == 1.0
            continue
        there = ip.std * ip.multiplier
        assert hp.multiplier * hp.std * hp.retained == pytest.approx(there)
        assert hpz.retained == 0.0
        assert dataclasses.replace(hp, retained=1.0) == mup


@pytest.mark.parametrize("name", ADAM)
def test_adam_exponents(name):
    for role, expected in zip(Role, ADAM[name], strict=True):
        row = get(name)[role]
        assert row.c_adam + row.a == expected, role
    std = [get(name)[role].a + get(name)[role].b for role in Role]
    r = min(ADAM[name][0], ADAM[name][1] - 1)
    assert std[-1] + r == ADAM[name][2] == 1


# --- the equivalence class -------------------------------------------------------


@given(st.sampled_from(NAMES), thetas)
def test_shifting_stays_in_the_class(name, theta):
    original = get(name)
    moved = original.shifted(theta)
    assert moved.equivalent(original)
    assert moved.canonical() == original.canonical()
    # A shift spells out what the biases are, since they do not move with the input row.
    back = moved.shifted({role: -t for role, t in theta.items()})
    assert back == original.shifted({})
    assert back == attrs.evolve(original, bias=original.biases(Role.INPUT))
    for role in Role:
        old, new = original[role], moved[role]
        assert (new.a, new.b, new.c) == (
            old.a + theta[role],
            old.b - theta[role],
            old.c - 2 * theta[role],
        )


@given(st.sampled_from(NAMES), thetas, st.integers(1, 6))
def test_the_class_keeps_biases_and_the_first_step(name, theta, depth):
    original = get(name)
    for moved, by in (
        (original.shifted(theta), theta),
        (original.canonical(), {role: -original[role].a for role in Role}),
    ):
        for layer, role in roles(depth):
            assert moved.biases(role) == original.biases(role)
            assert moved[role].mean == original[role].mean
            assert moved[role].retained == original[role].retained
            assert (
                moved[role].first(depth, layer)
                == original[role].first(depth, layer) - 2 * by[role]
            )


def test_biases_tell_classes_apart():
    table = get("ip-bias")
    assert not attrs.evolve(table, bias=None).equivalent(table)
    spelt = attrs.evolve(get("ip"), bias=get("ip").biases(Role.INPUT))
    assert spelt.equivalent(get("ip"))


@given(st.sampled_from(NAMES), thetas, thetas)
def test_shifts_add_up(name, one, other):
    both = {role: one[role] + other[role] for role in Role}
    assert get(name).shifted(one).shifted(other) == get(name).shifted(both)


@pytest.mark.parametrize("name", NAMES)
def test_canonical_form(name):
    canonical = get(name).canonical()
    assert canonical.canonical() == canonical
    assert all(canonical[role].a == 0 for role in Role)


def test_classes_of_the_catalogue_are_distinct():
    deep = [get(name) for name in NAMES if name != "mean-field"]
    same = [(p.name, q.name) for p in deep for q in deep if p.equivalent(q)]
    assert same == [(p.name, p.name) for p in deep]


@pytest.mark.parametrize("letter", ["a", "b", "c"])
@pytest.mark.parametrize("role", list(Role))
def test_a_mutated_exponent_leaves_the_class(role, letter):
    old = get("mup")
    new = old.mutated(role, **{letter: getattr(old[role], letter) + HALF})
    assert not new.equivalent(old)
    assert new.name != old.name and letter in new.name and str(role) in new.name
    assert [r for r in Role if new[r] != old[r]] == [role]


# --- scales ----------------------------------------------------------------------


@given(
    st.sampled_from(NAMES),
    thetas,
    st.sampled_from([1, 16, 64]),
    st.integers(1, 4096),
    st.integers(1, 6),
    st.booleans(),
)
def test_what_training_sees_is_the_same_all_over_a_class(
    name, theta, base, width, depth, bias
):
    """Init of the product and its SGD step; under Adam, the step of the product."""
    depth = 1 if name == "mean-field" else depth
    for layer, role in roles(depth):
        sizes = {**size(role, width), "depth": depth, "layer": layer, "bias": bias}
        old, new = (
            p.scales(role, **sizes, base_width=base)
            for p in (get(name), get(name).shifted(theta))
        )
        assert old.retained == new.retained
        for invariant in (
            lambda s: s.std * s.multiplier,
            lambda s: s.mean * s.multiplier,
            lambda s: s.lr * s.multiplier**2,
            lambda s: s.first_lr * s.multiplier**2,
        ):
            assert math.isclose(invariant(old), invariant(new), rel_tol=1e-9)
        if (get(name).biases(role) if bias else get(name)[role]).c_adam is None:
            continue
        old, new = (
            p.scales(role, **sizes, base_width=base, adam=True)
            for p in (get(name), get(name).shifted(theta))
        )
        assert math.isclose(
            old.lr * old.multiplier, new.lr * new.multiplier, rel_tol=1e-9
        )


@pytest.mark.parametrize("name", EFFECTIVE)
@pytest.mark.parametrize("width", [1, 8, 1024])
def test_scales_are_powers_of_the_width(name, width):
    std, lr = EFFECTIVE[name]
    for role, s, e in zip(Role, std, lr, strict=True):
        scales = get(name).scales(role, **size(role, width), lr=0.3, gain=2.0, depth=2)
        assert math.isclose(scales.std * scales.multiplier, 2.0 * width ** -float(s))
        assert math.isclose(scales.lr * scales.multiplier**2, 0.3 * width ** float(e))


@pytest.mark.parametrize("adam", [False, True])
def test_all_coincide_at_the_base_width(adam):
    tables = [
        get(n) for n in NAMES if not adam or get(n)[Role.HIDDEN].c_adam is not None
    ]
    assert len(tables) > 2
    for role in Role:
        std = 1.0 if role is Role.INPUT else 64**-0.5
        for p in tables:
            scales = p.scales(role, **size(role, 64), lr=0.5, base_width=64, adam=adam)
            # But for a mean, and for initial weights that are taken out.
            mean = float(p[role].mean) / 64
            kept = 0.0 if p[role].retained is None else 1.0
            assert dataclasses.astuple(scales) == (std, mean, 1.0, 0.5, 0.5, kept)


def test_base_width_only_moves_constants():
    for role in Role:
        for name in EFFECTIVE:
            ratios = [
                (
                    lambda a, b: (
                        a.std / b.std,
                        a.lr / b.lr,
                        a.multiplier / b.multiplier,
                    )
                )(
                    get(name).scales(role, **size(role, 512), base_width=base, depth=3),
                    get(name).scales(role, **size(role, 128), base_width=base, depth=3),
                )
                for base in (1, 64)
            ]
            assert ratios[0] == pytest.approx(ratios[1])


def test_depth_rules_and_first_step():
    row = Exponents(F(0), F(0), F(0), depth_multiplier=HALF, depth_lr=F(1))
    deep = Parametrization("x", "x", tuple((role, row) for role in Role))
    scales = deep.scales(Role.HIDDEN, fan_in=9, fan_out=9, depth=4, lr=2.0)
    assert (scales.multiplier, scales.lr, scales.first_lr) == (0.5, 0.5, 0.5)
    scales = get("ip-llr").scales(Role.HIDDEN, fan_in=16, fan_out=16, depth=4)
    assert (scales.lr, scales.first_lr) == (16.0**2, 16.0**3)


@pytest.mark.parametrize("base", [1, 16])
def test_growth_is_a_matter_of_ratios_alone(base):
    row = get("mup")[Role.HIDDEN]
    growth = Growth(F(1, 3), F(1, 2), F(-2))
    grown = get("mup").mutated(Role.HIDDEN, growth=growth)
    sizes = {"fan_in": 48, "fan_out": 96, "base_width": base, "depth": 3}
    assert get("mup")[Role.HIDDEN].growth == row.growth == Growth()
    for first, r_in, r_out in ((None, 1, 1), (96, 1 / 2, 1), (16, 3, 6)):
        here, there = (
            table.scales(Role.HIDDEN, first_width=first, **sizes)
            for table in (grown, get("mup"))
        )
        assert here.std / there.std == pytest.approx(r_in ** (-1 / 3))
        rate = r_in**-0.5 * r_out**2
        for name in ("lr", "first_lr"):
            assert getattr(here, name) / getattr(there, name) == pytest.approx(rate)
        assert (here.multiplier, here.retained) == (there.multiplier, there.retained)


def test_sizes_that_are_no_widths_do_not_grow():
    """Those of the data; biases act on the constant 1."""
    row = Exponents(F(0), F(0), F(0), growth=Growth(F(1), F(1), F(10)))
    table = Parametrization("x", "x", tuple((role, row) for role in Role), bias=row)
    for role, bias, std, lr in (
        (Role.INPUT, False, 1, 2**-10),
        (Role.OUTPUT, False, 1 / 3, 1 / 3),
        (Role.HIDDEN, False, 1 / 3, 2**-10 / 3),
        (Role.HIDDEN, True, 1, 2**-10),
        (Role.OUTPUT, True, 1, 1),
    ):
        found = table.scales(role, fan_in=12, fan_out=8, first_width=4, bias=bias)
        assert (found.std, found.lr) == pytest.approx((std, lr)), (role, bias)


@given(st.sampled_from(["nup", "nup-normalised"]), thetas)
def test_a_class_keeps_growth(name, theta):
    original = get(name)
    moved = original.shifted(theta)
    assert [moved[role].growth for role in Role] == [
        original[role].growth for role in Role
    ]
    assert moved.equivalent(original)
    assert not moved.equivalent(get("mup"))
    rows = tuple((r, attrs.evolve(e, growth=Growth())) for r, e in get(name).exponents)
    mup = get("mup").exponents
    assert [attrs.evolve(e, c_adam=None) for _, e in mup] == [e for _, e in rows]


@pytest.mark.parametrize("name", ["mup", "ip-bias", "nup"])
def test_slowed_tables(name):
    table, q = get(name), F(3, 2)
    slow = table.slowed(q)
    assert (slow.name, slow.label) == (
        f"{name}[lr L^-3/2]",
        f"{table.label}, lr L^-3/2",
    )
    assert Parametrization.from_json(slow.to_json()) == slow
    assert slow.slowed(-q).exponents == table.exponents
    assert not slow.equivalent(table)
    for role, bias in ((r, b) for r in Role for b in (False, True)):
        sizes = {"fan_in": 12, "fan_out": 8, "first_width": 4, "depth": 4, "bias": bias}
        here, there = (t.scales(role, **sizes) for t in (slow, table))
        for one, other in ((here.lr, there.lr), (here.first_lr, there.first_lr)):
            assert one == pytest.approx(other / 8)
        same = {"lr": 0.0, "first_lr": 0.0}
        assert dataclasses.replace(here, **same) == dataclasses.replace(there, **same)
    with pytest.raises(ParametrizationError, match=r"q is 1\.5; exponents are exact"):
        # Past the type checker of the tests.
        Parametrization.slowed.__wrapped__(table, 1.5)


def test_the_width_of_a_layer():
    assert [role.width(3, 7) for role in Role] == [7, 3, 3]


# --- text and JSON ---------------------------------------------------------------


@given(st.sampled_from(NAMES), thetas)
def test_json_round_trip(name, theta):
    original = get(name).shifted(theta)
    text = json.dumps(original.to_json())
    assert Parametrization.from_json(json.loads(text)) == original


@pytest.mark.parametrize("name", NAMES)
def test_json_round_trip_of_the_catalogue(name):
    table = get(name)
    data = json.loads(json.dumps(table.to_json()))
    assert Parametrization.from_json(data) == table
    assert (data["bias"] is None) == (name != "ip-bias")


def test_what_json_may_leave_out():
    data = get("ip-llr").to_json()
    del data["bias"]
    assert not any("growth" in row for row in data["exponents"].values())
    for row in data["exponents"].values():
        del row["mean"], row["retained"]
        row["c_first"] = row["c_first"][:2]
    assert Parametrization.from_json(data) == get("ip-llr")


@pytest.mark.parametrize("retained", [F(2, 5), None])
def test_json_keeps_depth_rules(retained):
    row = Exponents(
        F(1, 3),
        F(-2, 7),
        F(0),
        Linear(F(1, 9), F(-1), F(2, 3)),
        F(5),
        F(1, 2),
        F(3, 2),
        F(-7, 4),
        retained,
        Growth(F(1, 5), F(-3), F(7, 2)),
    )
    rows = tuple((role, row) for role in Role)
    deep = Parametrization("x", "y", rows, bias=row, max_depth=3)
    assert Parametrization.from_json(json.loads(json.dumps(deep.to_json()))) == deep


@pytest.mark.parametrize(
    ("const", "depth", "layer", "expected"),
    [
        (F(5, 3), F(0), F(0), F(5, 3)),
        (-HALF, -HALF, F(0), F(-7, 2)),
        (F(-2), -HALF, HALF, F(-4)),
    ],
)
def test_linear_exponents(const, depth, layer, expected):
    assert Linear(const, depth, layer).at(6, 2) == expected
    assert Linear(const).at(6, 2) == const


def test_the_printed_table_has_one_line_for_each_name():
    lines = table().splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [
        get(name).label for name in NAMES
    ]
    mup = lines[1 + NAMES.index("mup")]
    assert "(-1/2, 1/2, 0)    (0, 1/2, 0)       (1/2, 1/2, 0)" in mup


# --- what is refused -------------------------------------------------------------


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ParametrizationError, match="'muP'") as refusal:
        get("muP")
    assert all(name in str(refusal.value) for name in NAMES)


@pytest.mark.parametrize(
    "wrong", ["fan_in", "fan_out", "base_width", "depth", "first_width"]
)
@pytest.mark.parametrize("value", [0, -3])
def test_sizes_must_be_positive(wrong, value):
    sizes = {"fan_in": 4, "fan_out": 4, "base_width": 1, "depth": 1, wrong: value}
    with pytest.raises(ParametrizationError, match=f"{wrong} is {value}.*at least 1"):
        get("mup").scales(Role.HIDDEN, **sizes)


@pytest.mark.parametrize(
    "roles", [[Role.INPUT, Role.OUTPUT], [], [*Role, Role.OUTPUT], [*Role][::-1]]
)
def test_a_table_needs_each_role_once(roles):
    row = get("mup")[Role.HIDDEN]
    with pytest.raises(ParametrizationError, match="exactly one row for each") as error:
        Parametrization("mine", "mine", tuple((role, row) for role in roles))
    assert "'mine'" in str(error.value) and "hidden" in str(error.value)


@pytest.mark.parametrize(
    "name", ["a", "b", "c", "depth_multiplier", "depth_lr", "mean"]
)
@pytest.mark.parametrize("value", [0.5, 1])
def test_exponents_are_exact(name, value):
    with pytest.raises(ParametrizationError, match=f"{name} is {value}.*Fraction"):
        attrs.evolve(get("mup")[Role.HIDDEN], **{name: value})


@pytest.mark.parametrize("name", ["b", "c_in", "c_out"])
def test_growth_is_exact(name):
    with pytest.raises(ParametrizationError, match=f"{name} is 0.5.*Fraction"):
        Growth(**{name: 0.5})


def test_mean_field_is_shallow():
    with pytest.raises(ParametrizationError, match=r"at most 1 hidden.*not 2.*'ip'"):
        get("mean-field").scales(Role.OUTPUT, fan_in=4, fan_out=1, depth=2)


@pytest.mark.parametrize("name", ["ip", "ip-llr", "ip-bias", "ip-non-centred", "nup"])
def test_no_adam_without_exponents(name):
    with pytest.raises(ParametrizationError, match="Adam") as error:
        get(name).scales(Role.HIDDEN, fan_in=4, fan_out=4, adam=True)
    assert "mup" in str(error.value) and f"'{name}'" in str(error.value)


def test_roles_are_what_json_holds():
    assert json.loads(json.dumps(list(module.Role))) == ["input", "hidden", "output"]


@pytest.mark.parametrize("name", NAMES)
def test_output_biases_have_no_width_to_scale_with(name):
    row = get(name).biases(Role.OUTPUT)
    assert (row.a, row.b, row.c, row.c_adam) == (0, 0, 0, 0)


def test_rows_that_one_hidden_layer_does_not_reach_are_those_of_deeper_networks():
    assert get("mean-field")[Role.HIDDEN] == get("ip")[Role.HIDDEN]


def test_a_layer_is_the_first_of_one_unless_it_is_said():
    sizes = {"fan_in": 16, "fan_out": 16}
    for name in ("ip-llr", "ip-bias", "mup"):
        for bias in (False, True):
            found = get(name).scales(Role.HIDDEN, **sizes, bias=bias)
            said = {**sizes, "bias": bias, "depth": 1, "layer": 1, "base_width": 1}
            said |= {"lr": 1.0, "gain": 1.0, "adam": False, "first_width": None}
            assert found == get(name).scales(Role.HIDDEN, **said)


def test_equal_scales_are_one_in_a_set():
    sizes = {"fan_in": 16, "fan_out": 16}
    assert len({get("mup").scales(Role.HIDDEN, **sizes) for _ in range(2)}) == 1


def test_adam_of_mean_field_is_that_of_mup_and_of_sp_constant_in_width():
    for role in (Role.INPUT, Role.OUTPUT):
        here, there = (get(n)[role].effective() for n in ("mean-field", "mup"))
        assert here.c_adam == there.c_adam
    assert [get("sp")[role].c_adam for role in Role] == [0, 0, 0]
