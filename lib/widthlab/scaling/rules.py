r"""Factors on initial size and learning rate, from exponents and the update rule.

All are for the matrix itself: the multiplier of a table is absorbed by the equivalence
$(a, b, c) \to (0, a + b, c + 2a)$, or $c + a$ where an update does not see the size of
the gradient (Yang and Hu 2021, Tensor Programs IV, and IVb).
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from widthlab.parametrization import Parametrization, Role
from widthlab.scaling.errors import ScalingError


class UpdateRule(NamedTuple):
    """What an optimizer's update is like, as far as widths are concerned.

    Attributes:
        update: "gradient", whose size it has; "entry", where each entry is of order
            one; "relative", an entry times the size of the parameter; "spectral", where
            singular values are of order one.
        source: where that is from.
    """

    update: str
    source: str


RULES = {
    "sgd": UpdateRule("gradient", "the tables' c"),
    "momentum": UpdateRule("gradient", "the tables' c: a sum of gradients"),
    "adam": UpdateRule(
        "entry", "the tables' c for Adam, Tensor Programs IVb, Section 2.4"
    ),
    "adamw": UpdateRule("entry", "as Adam; its decay is multiplied by the same factor"),
    "lion": UpdateRule("entry", "as Adam: an update is a sign"),
    "adafactor": UpdateRule(
        "relative", "as Adam, over the parameter's size, by which optax multiplies"
    ),
    "muon": UpdateRule(
        "spectral", "spectral condition, Yang, Simon and Bernstein 2023; others as Adam"
    ),
}
"""What is known of each optimizer."""

REFUSED = {
    "adagrad": "its update shrinks with a sum over time, for which no table has c",
    "lamb": "it multiplies by a norm over the norm of the update, a rule of its own",
    "lars": "it multiplies by a norm over the norm of the gradient",
    "shampoo": "its preconditioners have a width law that no table here covers",
    "sophia": "its update divides by a curvature, whose width law no table covers",
}
"""Optimizers without a rule, with the reason."""

PARTIAL = {
    "ip-llr": "its first step has exponents that count layers of an MLP",
    "ip-bias": "its first step has exponents that count layers of an MLP",
    "ip-non-centred": "its weights start with a mean, so that it is no rescaling",
    "nup": "it compares layers with the first hidden one, which an MLP has",
    "nup-normalised": "it compares layers with the first hidden one",
}
"""Tables that say something about MLPs alone."""

_UNEQUAL = {
    # powers of r_out and of 1 / r_in in the learning rate of a hidden matrix
    ("mup", "gradient"): (Fraction(1), Fraction(1)),
    ("mup", "entry"): (Fraction(0), Fraction(1)),
    ("ntk", "gradient"): (Fraction(0), Fraction(1)),
    ("sp", "gradient"): (Fraction(0), Fraction(0)),
    ("sp", "entry"): (Fraction(0), Fraction(0)),
}


def rule_of(optimizer: str) -> UpdateRule:
    """Return the rule of an optimizer.

    Raises:
        ScalingError: there is none, with the reason where there is one.
    """
    if optimizer in RULES:
        return RULES[optimizer]
    why = REFUSED.get(optimizer, "its name is not known here")
    raise ScalingError(
        f"no rule for the optimizer {optimizer!r}: {why}; there are rules for "
        f"{', '.join(RULES)}"
    )


def usable(parametrization: Parametrization, rule: UpdateRule, hidden: bool) -> None:
    """Refuse what a table does not say about any model.

    Raises:
        ScalingError: the table is for MLPs alone, or for one hidden layer, or has no
            exponents for such an update.
    """
    name = parametrization.name
    if (why := PARTIAL.get(name.partition("[")[0])) is not None:
        raise ScalingError(f"{name!r} cannot scale a model of one's own: {why}")
    if parametrization.max_depth is not None and hidden:
        raise ScalingError(
            f"{name!r} is defined for {parametrization.max_depth} hidden layer(s), and "
            "this model has a parameter between two axes that grow"
        )
    if rule.update == "spectral" and name != "mup":
        raise ScalingError(
            f"the spectral rule of Muon is that of 'mup'; {name!r} has none"
        )
    if rule.update != "gradient":
        for role, row in parametrization.exponents:
            if row.c_adam is None and (hidden or role is not Role.HIDDEN):
                raise ScalingError(
                    f"no exponents for Adam are known for {name!r}; use SGD, or a "
                    "table whose rows give c_adam, such as 'mup' or 'ntk'"
                )


class Factors(NamedTuple):
    """What a parameter's size and learning rate at the base width are multiplied by.

    Attributes:
        size: of the size at which it starts.
        lr: of the learning rate.
        retained: share of the initial values that is left after the first step.
    """

    size: float
    lr: float
    retained: float = 1.0


def factors(
    parametrization: Parametrization,
    rule: UpdateRule,
    role: Role,
    r_in: float,
    r_out: float,
    *,
    bias: bool = False,
) -> Factors:
    r"""Return the factors of a parameter whose fans grew by $r_{in}$ and $r_{out}$.

    With the row's exponents where $a = 0$, and $s$ the ratio that counts for the role,
    they are $s^{-b}$ and $s^{-c}$. A hidden matrix whose two fans grow by different
    ratios has learning rate $r_{out} / r_{in}$ under μP's SGD (the spectral condition
    of Yang, Simon and Bernstein 2023), and $1 / r_{in}$ under Adam and NTP's SGD.

    Raises:
        ScalingError: different ratios under a table for which no such rule is known.

    Example:
        >>> from widthlab.parametrization import get
        >>> factors(get("mup"), RULES["adam"], Role.HIDDEN, 4.0, 4.0).lr
        0.25
    """
    row = (
        parametrization.biases(Role.INPUT)
        if bias
        else parametrization[role].effective()
    )
    s = r_out if role is Role.INPUT else r_in
    size = s ** -float(row.b)
    kept = 0.0 if row.retained is None else s ** -float(row.retained)
    if rule.update == "gradient" or row.c_adam is None:
        update, c = "gradient", row.c
    else:
        update, c = "entry", row.c_adam
    if role is Role.HIDDEN and r_in != r_out:
        lr = _unequal(parametrization, update, r_in, r_out)
    else:
        lr = s ** -float(c)
    if rule.update == "relative":
        # The update is multiplied by the size, which has this factor already.
        lr /= size
    return Factors(size, lr, kept)


def spectral(base: tuple[int, int], shape: tuple[int, int]) -> float:
    r"""Return the factor for a matrix whose update is orthogonal (Muon).

    A layer moves by order one if $\|\Delta W\|_2 \sim \sqrt{n_{out} / n_{in}}$; optax
    gives $\max(1, \sqrt{n_{out} / n_{in}})$, so that where both grow alike nothing
    is left to do.
    """

    def missing(fan_in: int, fan_out: int) -> float:
        return min(1.0, (fan_out / fan_in) ** 0.5)

    return missing(*shape) / missing(*base)


def tied_multiplier(
    parametrization: Parametrization, rule: UpdateRule, r: float
) -> float:
    r"""Return the factor on the logits of an embedding that is the read-out too.

    The embedding scales as the input, with exponents $b_1, c_1$, and the read-out needs
    $b_2, c_2$: the multiplier $r^{-(b_2 - b_1)}$ gives the first, and the second too if
    $c_2 - c_1$ is twice (or under Adam once) as much.

    Raises:
        ScalingError: it is not.
    """
    first = parametrization[Role.INPUT].effective()
    last = parametrization[Role.OUTPUT].effective()
    a = last.b - first.b
    if rule.update == "gradient" or first.c_adam is None or last.c_adam is None:
        fits = last.c - first.c == 2 * a
    else:
        fits = last.c_adam - first.c_adam == a
    # SP is the control, in which learning rates do not follow: sizes alone do.
    if not fits and parametrization.name != "sp":
        raise ScalingError(
            f"under {parametrization.name!r} the learning rates of an embedding and of "
            "the read-out that it is tied to cannot both be right; untie them"
        )
    return r ** -float(a)


def scores_exponent(parametrization: Parametrization) -> Fraction:
    r"""Return the power of $1/r$ on attention scores where the size of a head grows.

    μP divides by $d$ and not by $\sqrt d$ (Tensor Programs V, Definition 4.1), since
    queries and keys align in training.
    """
    return Fraction(1, 2) if parametrization.name == "mup" else Fraction(0)


def _unequal(
    parametrization: Parametrization, update: str, r_in: float, r_out: float
) -> float:
    powers = _UNEQUAL.get((parametrization.name, update))
    if powers is None:
        raise ScalingError(
            f"a hidden parameter's fans grow by {r_in:g} and {r_out:g}, and "
            f"{parametrization.name!r} says nothing of that; let all widths grow by "
            "the same ratio, or use 'mup'"
        )
    return r_out ** float(powers[0]) * r_in ** -float(powers[1])
