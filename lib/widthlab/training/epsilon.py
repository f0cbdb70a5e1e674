r"""Adam's $\varepsilon$ beside the gradients that a parametrization starts with."""

from __future__ import annotations

import math
import warnings

from widthlab.model import Scales, Shape
from widthlab.training.optimizer import Optimizer

_SHARE = 0.01
# An update g / (|g| + ε) falls short by ε / |g|. Gradients of a batch are up to some
# ten times smaller than one example's, so this share may come to a tenth.


class EpsilonWarning(UserWarning):
    """Adam's ε is not small beside gradients: updates do not follow the table."""


def gradient_sizes(shape: Shape, scales: Scales) -> list[float]:
    r"""Return the order of magnitude of each tensor's first gradient, entry by entry.

    $$|g^l| \approx m_l\, |x^{l-1}|\, |\partial f / \partial h^l|, \qquad
      |h^l| = m_l \sqrt{n_{l-1} (\sigma_l^2 + n_{l-1} u_l^2)}\, |x^{l-1}|$$

    with inputs and the loss's derivative of size one, nonlinearities of slope one, and
    backward the same product with $n_l$ in the place of $n_{l-1}$.
    """
    count = shape.depth + 1
    matrices = shape.tensors[:count]
    rows = [[float(v[i]) for v in scales[:3]] for i in range(len(shape.tensors))]
    inputs = [1.0]  # the size of each matrix's input
    for tensor, (std, mean, multiplier) in zip(matrices, rows, strict=False):
        fan = tensor.fan_in
        inputs.append(inputs[-1] * multiplier * math.hypot(std * fan**0.5, mean * fan))
    errors = [1.0]  # the size of the derivative by each matrix's output, from the last
    for tensor, (std, mean, multiplier) in zip(
        matrices[:0:-1], rows[count - 1 : 0 : -1], strict=True
    ):
        fan = tensor.fan_out
        errors.append(errors[-1] * multiplier * math.hypot(std * fan**0.5, mean * fan))
    errors.reverse()
    return [
        multiplier
        * errors[tensor.layer - 1]
        * (1.0 if tensor.bias else inputs[tensor.layer - 1])
        for tensor, (*_, multiplier) in zip(shape.tensors, rows, strict=True)
    ]


def warn_of_epsilon(optimizer: Optimizer, shape: Shape, scales: Scales) -> None:
    """Warn where Adam's ε would keep updates below what the table says.

    Layers whose gradients start at zero, behind weights that do, are left out.
    """
    if not optimizer.normalises:
        return
    sizes = gradient_sizes(shape, scales)
    small = [(size, t) for size, t in zip(sizes, shape.tensors, strict=True) if size]
    size, tensor = min(small, key=lambda pair: pair[0], default=(math.inf, None))
    if tensor is not None and optimizer.eps > _SHARE * size:
        what = "biases" if tensor.bias else f"{tensor.role.value} weights"
        warnings.warn(
            f"eps is {optimizer.eps:g}, and gradients of the {what} of layer "
            f"{tensor.layer} ({tensor.fan_in} x {tensor.fan_out}) start at about "
            f"{size:.1g} an entry: updates of {optimizer.name} fall short of what the "
            "parametrization says, by a share that depends on the width. Give an eps "
            f"below {_SHARE * size:.1g}",
            EpsilonWarning,
            stacklevel=4,
        )
