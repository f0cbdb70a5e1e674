r"""Deep networks at the edge of chaos: angles at the start, and one step of training.

At the edge of chaos the weights of a bias-free MLP have the gain
$g = E[\varphi'(z)^2]^{-1/2}$, which keeps the sizes of signals and gradients whatever
the depth. For an (a, b)-ReLU two numbers tell the rest: its bend
$\Delta = (b - a)^2 / (2 (a^2 + b^2))$, and
$\kappa_4 = E\varphi'^4 / (E\varphi'^2)^2 = 1 + 4 \Delta (1 - \Delta)$.

- The angle between two inputs falls like $3\pi / (2 \Delta k)$ over layers $k$.
- One step of gradient descent moves the pre-activations of layer $k$ by the sum of what
  it does to the layers below. In networks of constant width that grows with depth, and
  where widths grow it need not: `one_step_law`.

The laws are derived here and hold for no particular paper's figures. They are what the
parametrization "nup" is built on, a reconstruction of that of Terjék 2025, "MLPs at the
EOC", whose abstract says that growing hidden layers keep pre-activations regular.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from widthlab import activations
from widthlab.kernels.closed import AbRelu
from widthlab.kernels.dual import rule
from widthlab.model import AnyArray, Scales, Shape

# --- angles -----------------------------------------------------------------------


def bend(activation: str) -> float:
    r"""Return $\Delta$ of an (a, b)-ReLU: 0 if linear, 1/2 for ReLU, 1 for `abs`.

    Raises:
        ValueError: the activation is no (a, b)-ReLU.

    Example:
        >>> [bend(name) for name in ("linear", "relu", "abs")]
        [0.0, 0.5, 1.0]
    """
    moments = rule(activation)
    if not isinstance(moments, AbRelu):
        raise ValueError(
            f"the activation is {activation!r}; only (a, b)-ReLUs have a bend: 'relu', "
            "'abs', 'linear' or 'abrelu(a,b)'"
        )
    a, b = moments.a, moments.b
    return (b - a) ** 2 / (2 * (a**2 + b**2))


_ROUNDINGS = 1024


def correlation_map(
    rho: Float[AnyArray, " ..."], bend: float
) -> Float[np.ndarray, " ..."]:
    r"""Return the correlation of two inputs behind one more layer, at infinite width.

    $$\rho' = \rho + \frac{2\Delta}{\pi}
        \big(\sqrt{1 - \rho^2} - \rho \arccos \rho\big)$$

    It is $g^2$ times the arc-cosine kernel of an (a, b)-ReLU (Cho and Saul 2009).

    Raises:
        ValueError: a correlation is beyond one by more than rounding.

    Example:
        >>> correlation_map(np.array([-1.0, 0.0, 1.0]), bend("abs")).round(6).tolist()
        [1.0, 0.63662, 1.0]
    """
    rho = np.asarray(rho)
    rho = rho.astype(np.result_type(rho.dtype, np.float32))
    # A correlation of two arrays is beyond one by a few roundings now and then.
    if np.any(np.abs(rho) > 1 + _ROUNDINGS * np.finfo(rho.dtype).eps):
        raise ValueError(
            f"rho goes from {np.min(rho):g} to {np.max(rho):g}; correlations lie "
            "between -1 and 1"
        )
    rho = np.clip(rho, -1, 1)
    away = np.sqrt(1 - rho**2) - rho * np.arccos(rho)
    return np.asarray(rho + 2 * bend / np.pi * away)


def angles(
    start: float | Float[AnyArray, " ..."], layers: int, bend: float
) -> Float[np.ndarray, "layers_and_start ..."]:
    r"""Return the angles of two inputs in layers 0 to `layers`, at infinite width.

    `correlation_map` in the angle $\theta = \arccos \rho$, which is accurate where
    $\rho$ rounds to one. Since $\sin\theta - \theta\cos\theta \approx \theta^3 / 3$,

    $$\theta_{k+1} \approx \theta_k - \frac{2\Delta}{3\pi} \theta_k^2, \qquad
      \theta_k \to \frac{3\pi}{2 \Delta k}.$$

    Example:
        >>> angle = angles(1.0, 1000, bend("relu"))
        >>> bool(abs(angle[-1] * 1000 / (3 * np.pi) - 1) < 0.03)
        True
    """
    theta = np.asarray(start, np.float64)
    out = [theta]
    for _ in range(layers):
        fall = 2 * bend / np.pi * (np.sin(theta) - theta * np.cos(theta))
        half = np.sin(theta / 2) ** 2 - fall / 2
        theta = 2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
        out.append(theta)
    return np.stack(out)


# --- the one-step law -------------------------------------------------------------


def one_step_law(
    widths: Sequence[int], kappa: float, updates: Sequence[float] | None = None
) -> Float[np.ndarray, " layers"]:
    r"""Return how far one step moves each layer, where layers are wide.

    On one input of norm one let $z_1 = A_1 x$,
    $z_k = g m_{k-1}^{-1/2} A_k \varphi(z_{k-1})$ and $f = \gamma z_l$, with standard
    normal $A_k$ and learning rates $\eta \nu_k / \gamma^2$. With the error $\chi$ an
    infinitesimal step moves

    $$\Delta z_k = -\frac{\eta\chi}{\gamma^2} K_k\, \partial_{z_k} f, \qquad
      K_k = \nu_k q_{k-1} I + B_k K_{k-1} B_k^\top, \qquad
      B_k = g m_{k-1}^{-1/2} A_k \operatorname{diag} \varphi'(z_{k-1}),$$

    where $q_k = g^2 |\varphi(z_k)|^2 / m_k \approx 1$. The gradient behind $z_k$ has
    covariance $\gamma^2 m_k^{-1} I$, so the mean of $|\Delta z_k|^2 / m_k$ is
    $(\eta\chi/\gamma)^2 t_k$ with $t_k = E \operatorname{tr}(K_k^2) / m_k^2$. On
    average $K_k = N_k I$ with $N_k = \nu_1 + \dots + \nu_k$, and Gaussian integration
    over $A_k$ gives $t_k = N_k^2 / m_k + T_{k-1}$, where
    $T_k = t_k + (\kappa_4 - 1) N_k^2 / m_k$ is the same trace behind the activation:
    two slopes are independent but for those on the diagonal. So

    $$t_k = \frac{N_k^2}{m_k} + \kappa_4 \sum_{i<k} \frac{N_i^2}{m_i}$$

    up to a relative error of order $\sum_i 1 / m_i$, which `finite_width_law` contains.
    With $\nu = 1$ and constant width it is cubic in $k$: the rate $l^{-3/2}$ of Jelassi
    et al. 2023.

    Args:
        widths: $m_1, m_2, \dots$; add a last 1 for the output $z_l$.
        kappa: $\kappa_4$, `Activation.derivative_kurtosis`.
        updates: $\nu_1, \nu_2, \dots$; by default all 1.

    Returns:
        $t_k$ of every layer.

    Example:
        >>> one_step_law([1, 1, 1, 1], 1.0).tolist()
        [1.0, 5.0, 14.0, 30.0]
        >>> one_step_law([1, 2, 3, 4], 1.0).tolist()
        [1.0, 3.0, 6.0, 10.0]
    """
    widths, updates = _layers(widths, updates)
    terms = np.cumsum(updates) ** 2 / np.asarray(widths)
    return terms + kappa * (np.cumsum(terms) - terms)


class _Second(NamedTuple):
    r"""Means of second order behind an activation, over all draws of the weights.

    With $M = g^2 D K D$, $D = \operatorname{diag} \varphi'(z)$, $v = g m^{-1/2}
    \varphi(z)$, $q = |v|^2$ and $\tau = \operatorname{tr} M / m$.
    """

    width: int
    qq: float  # q^2
    qt: float  # q tau
    tt: float  # tau^2
    mm: float  # tr(M^2) / m^2
    vmv: float  # v' M v


def finite_width_law(
    widths: Sequence[int], kappa: float, updates: Sequence[float] | None = None
) -> Float[np.ndarray, " layers"]:
    r"""Return `one_step_law` for finite widths, as an exact mean over initialisations.

    For an (a, b)-ReLU nothing in the derivation has to be approximate. Flipping the
    sign of a row of $A_k$ flips a slope and leaves $z_i^2$, $K_{ii}$, $K_{ij}^2$ and
    $z_i K_{ij} z_j$ as they are, so slopes are independent of these, and the means of
    $q^2$, $q\tau$, $\tau^2$, $\operatorname{tr}M^2$ and $v^\top M v$ (see `_Second`)
    obey a linear recursion by Isserlis' theorem. Fluctuations of $q$ and
    $\operatorname{tr}K$ add up over layers: at a given width the mean exceeds
    `one_step_law`, the more so the deeper the network and the larger $\kappa_4$.

    Arguments as in `one_step_law`.

    Example:
        >>> finite_width_law([24] * 4, 1.0).round(2).tolist()
        [0.04, 0.21, 0.62, 1.36]
        >>> round(float(finite_width_law([2400] * 4, 1.0)[-1] * 2400), 2)
        30.03
    """
    widths, updates = _layers(widths, updates)
    below, out = _Second(1, 1.0, 0.0, 0.0, 0.0, 0.0), []
    for width, nu in zip(widths, updates, strict=True):
        trace, below = _next(below, width, nu, kappa - 1)
        out.append(trace)
    return np.array(out)


def _next(s: _Second, n: int, nu: float, excess: float) -> tuple[float, _Second]:
    """Return t of a layer of n neurons, and the means behind its activation."""
    linear = nu * s.qq + s.qt  # E[q K_ii], before fluctuations
    square = nu * nu * s.qq + 2 * nu * s.qt + s.tt  # E[K_ii^2], likewise
    trace = square / n + (n + 1) / n * s.mm
    form = linear + (n + 1) / s.width * s.vmv  # z' K z / n
    zk = linear + 2 * s.vmv / s.width  # z_i^2 K_ii
    kk = square + 2 * s.mm  # K_ii^2
    return trace, _Second(
        width=n,
        qq=s.qq * (1 + (2 + 3 * excess) / n),
        qt=linear + (2 * s.vmv / s.width + excess * zk) / n,
        tt=square + (2 * s.mm + excess * kk) / n,
        mm=trace + excess * kk / n,
        vmv=form + excess * zk,
    )


def _layers(
    widths: Sequence[int], updates: Sequence[float] | None
) -> tuple[list[int], list[float]]:
    given = [1.0] * len(widths) if updates is None else [float(u) for u in updates]
    if len(given) != len(widths) or not len(widths) or min(widths) < 1:
        raise ValueError(
            f"widths are {list(widths)} and there are {len(given)} updates; give at "
            "least one width, all of them 1 or more, and one update for each"
        )
    return list(widths), given


def mean_square_response(
    shape: Shape, scales: Scales, *, exact: bool = True
) -> Float[np.ndarray, " layers"]:
    r"""Return the mean over initialisations of squares of `response.first_response`.

    Any table of exponents gives one of the networks of `one_step_law`. There
    $\gamma^2 = E f^2$, and with the effective learning rate $\eta_k$ of matrix $k$,
    $\nu_k \eta / \gamma^2$ is $\eta_k E|x_{k-1}|^2$, for the output matrix divided by
    $\gamma^2$. The gain is part of the initial weights here, not of a multiplier, so
    for ReLU "nup" has $\nu_1 = 1$ and $\nu_k = 1 / g^2 = 1/2$ behind.

    Args:
        shape: sizes of a network without biases and with one output.
        scales: its scales, at the edge of chaos.
        exact: take `finite_width_law`, not `one_step_law`.

    Returns:
        $E|\Delta z_k|^2 / m_k$ for the hidden layers, then $E(\Delta f)^2$.

    Raises:
        ValueError: the law does not hold for such a network.

    Example:
        >>> from widthlab import parametrization
        >>> shape = Shape(8, (24, 48, 72, 96), 1, "abs")
        >>> scales = shape.scales(parametrization.get("nup"), lr=1.0, dtype="float64")
        >>> mean_square_response(shape, scales, exact=False).round(6).tolist()
        [1.0, 3.0, 6.0, 10.0, 25.416667]
    """
    rates, variance = _law_of(shape, scales)
    kappa = activations.get(shape.activation).derivative_kurtosis
    law = finite_width_law if exact else one_step_law
    response = variance * law((*shape.widths, 1), kappa, rates)
    response[-1] *= variance
    return response


def _law_of(shape: Shape, scales: Scales) -> tuple[list[float], float]:
    """Return the eta nu / gamma^2 of every matrix, and gamma^2."""
    bend(shape.activation)  # refuses other activations
    if shape.biases != "none" or shape.output_dim != 1 or np.any(scales.mean):
        raise ValueError(
            f"biases are {shape.biases!r}, outputs {shape.output_dim} and means of "
            f"weights {np.asarray(scales.mean).tolist()}; the one-step law is for "
            "networks without biases, with one output and centred weights"
        )
    columns = (scales.std, scales.multiplier, scales.lr)
    std, multiplier, lr = (np.asarray(v, np.float64) for v in columns)
    second_moment = activations.get(shape.activation).second_moment
    rates, variances, size = [], [], 1.0
    for matrix, width in enumerate((*shape.widths, 1)):
        rates.append(float(lr[matrix] * multiplier[matrix] ** 2 * size))
        variances.append(float((std[matrix] * multiplier[matrix]) ** 2 * size))
        size = width * second_moment * variances[-1]
    *hidden, output = variances
    rates[-1] /= output  # the law is for z in f = gamma z
    if not np.allclose(hidden, 1, rtol=1e-5):
        raise ValueError(
            f"pre-activations have variances {np.round(hidden, 6).tolist()}; at the "
            "edge of chaos all are 1: give Shape.scales gains=(1, g, g) with g the "
            "critical_gain of the activation"
        )
    return rates, output
