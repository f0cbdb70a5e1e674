r"""The gradient flow of one layer, in the pre-activations of the training inputs.

Shallow networks and partially trained three-layer networks (P-3L) are both

$$f(x) = r \sum_{i=1}^m c_i\, \sigma(h_i(x)), \qquad h_i(x) = w_i \cdot \phi(x),$$

with only the rows $w_i$ trained. With the Gram matrix $G$ of the features $\phi$, and
errors $\xi_a = f(x_a) - y_a$ on the $n$ training inputs, gradient flow of
$L = \frac{1}{2n} \sum_a \xi_a^2$ moves pre-activations by

$$\dot h_i(x) = -\frac{v}{n} \sum_a G(x, x_a)\, c_i\, \sigma'(h_i(x_a))\, \xi_a .$$

The right-hand side does not contain the weights, nor does it depend on the number of
features. Hence $h(x, t) = h(x, 0) - v\, G(x, X)\, S(t)$, where $\dot S_{ai} =
\frac1n c_i \sigma'(h_i(x_a)) \xi_a$ is all that is integrated: $n \times m$ numbers,
$2 n^2 m$ multiply-adds, from which $f$ is known exactly at every other input too.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab import activations
from widthlab.model import AnyArray


@functools.partial(
    jax.tree_util.register_dataclass,
    meta_fields=("activation",),
    data_fields=(
        *("gram", "start", "outer", "targets", "readout", "speed"),
        *("test_gram", "test_start", "test_targets"),
    ),
)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preactivations:
    r"""The flow above, for $m$ neurons on $n$ training inputs; a `flow.Flow`.

    Its state is $S$. The arrays of test inputs are there to be observed and do not
    influence the flow.

    Attributes:
        activation: name of $\sigma$.
        gram: $G$ on the training inputs.
        start: $h_i(x_a)$ at time 0.
        outer: the fixed outer weights $c_i$.
        targets: $y_a$.
        readout: $r$, such as $1/m$ (mean field) or $m^{-1/2}$ (NTK).
        speed: $v$, 1 where pre-activations move by $O(1)$ (mean field), $m^{-1/2}$
            where they do not (NTK).
        test_gram: $G$ of test against training inputs.
        test_start: pre-activations of test inputs at time 0.
        test_targets: targets of test inputs.
    """

    activation: str
    gram: Float[AnyArray, "... n n"]
    start: Float[AnyArray, "... n m"]
    outer: Float[AnyArray, "... m"]
    targets: Float[AnyArray, "... n"]
    readout: float | Float[AnyArray, " ..."]
    speed: float | Float[AnyArray, " ..."]
    test_gram: Float[AnyArray, "... k n"]
    test_start: Float[AnyArray, "... k m"]
    test_targets: Float[AnyArray, "... k"]

    def initial(self) -> Float[Array, "n m"]:
        """Return $S = 0$."""
        return jnp.zeros_like(self.start)

    def velocity(self, state: Float[Array, "n m"]) -> Float[Array, "n m"]:
        r"""Return $\dot S_{ai} = \frac1n c_i \sigma'(h_i(x_a)) \xi_a$."""
        values, slopes = self._neurons(state)
        errors = self._output(values) - self.targets
        return jnp.asarray(slopes * self.outer * (errors / errors.size)[:, None])

    def loss(self, state: Float[Array, "n m"]) -> Float[Array, ""]:
        r"""Return $\frac{1}{2n} \sum_a \xi_a^2$."""
        return jnp.mean(jnp.square(self.outputs(state) - self.targets)) / 2

    def preactivations(self, state: Float[Array, "n m"]) -> Float[Array, "n m"]:
        """Return $h_i(x_a)$."""
        return jnp.asarray(self.start) - self.speed * (self.gram @ state)

    def outputs(self, state: Float[Array, "n m"]) -> Float[Array, " n"]:
        """Return $f(x_a)$ on the training inputs."""
        return self._output(self._sigma(self.preactivations(state)))

    def test_outputs(self, state: Float[Array, "n m"]) -> Float[Array, " k"]:
        """Return $f$ on the test inputs."""
        moved = jnp.asarray(self.test_start) - self.speed * (self.test_gram @ state)
        return self._output(self._sigma(moved))

    def kernel(self, state: Float[Array, "n m"]) -> Float[Array, "n n"]:
        r"""Return $K_{ab} = r v\, G_{ab} \sum_i c_i^2 \sigma'(h_{ia}) \sigma'(h_{ib})$.

        It is the tangent kernel of the trained layer, $\dot\xi = -K \xi / n$, and
        $-\frac{d}{dt} \log L = 2 \xi^\top K \xi / (n |\xi|^2)$ is at least
        $2 \lambda_{\min}(K) / n$.
        """
        slopes = self._neurons(state)[1] * self.outer
        scale = self.readout * self.speed
        return jnp.asarray(scale * self.gram * (slopes @ slopes.T))

    def slope_floor(self, state: Float[Array, "n m"]) -> Float[Array, ""]:
        r"""Return $q = \min_a r v \sum_i c_i^2 \sigma'(h_{ia})^2$.

        By Schur's product theorem $\lambda_{\min}(K) \ge \lambda_{\min}(G)\, q$.
        """
        slopes = self._neurons(state)[1] * self.outer
        total = jnp.sum(jnp.square(slopes), axis=1)
        return jnp.asarray(self.readout * self.speed * jnp.min(total))

    def stable_step(self) -> float:
        r"""Return $n / \lambda_{\max}(G)$, for averages over neurons with $|c_i| = 1$.

        Where $|\sigma'| \le 1$, Schur's theorem gives $\lambda_{\max}(K) \le
        \lambda_{\max}(G)$ at all times: gradient descent is stable up to twice this.
        """
        return len(self.targets) / float(np.linalg.eigvalsh(self.gram)[-1])

    def slowest_time(self) -> float:
        r"""Return $n / (2 \lambda_{\min}(K))$ at time 0.

        In this time the slowest mode of the loss falls by $e$.
        """
        return len(self.targets) / (2 * float(self.spectrum()[0]))

    def spectrum(self) -> np.ndarray:
        """Return the eigenvalues of $K$ at time 0, increasing, in float64."""
        with jax.enable_x64(True):
            kernel = self.kernel(jnp.zeros(np.shape(self.start)))
        return np.linalg.eigvalsh(np.asarray(kernel, np.float64))

    def _sigma(self, h: Float[Array, "k m"]) -> Float[Array, "k m"]:
        return activations.get(self.activation)(h)

    def _neurons(self, state: Float[Array, "n m"]) -> tuple[Array, Array]:
        h = self.preactivations(state)
        return jax.jvp(self._sigma, (h,), (jnp.ones_like(h),))

    def _output(self, values: Float[Array, "k m"]) -> Float[Array, " k"]:
        return jnp.asarray(self.readout * (values @ self.outer))


def progress(flow: Preactivations, state: Float[Array, "n m"]) -> dict[str, Array]:
    r"""Observe what the rate of convergence is made of.

    `loss`; `kernel_rate` $2 \lambda_{\min}(K) / n$, which the rate is at least;
    `gradient_rate` $2 \xi^\top K \xi / (n |\xi|^2)$, which it is where the flow is
    differentiable; and `bound` $2 \lambda_{\min}(G)\, q / n$, which needs no kernel.
    """
    kernel, errors = flow.kernel(state), flow.outputs(state) - flow.targets
    size = errors.size
    lowest = jnp.linalg.eigvalsh(jnp.asarray(flow.gram))[0]
    return {
        "loss": flow.loss(state),
        "kernel_rate": 2 * jnp.linalg.eigvalsh(kernel)[0] / size,
        "gradient_rate": 2 * (errors @ kernel @ errors) / (errors @ errors) / size,
        "bound": 2 * jnp.maximum(lowest, 0) * flow.slope_floor(state) / size,
    }


def learning(flow: Preactivations, state: Float[Array, "n m"]) -> dict[str, Array]:
    r"""Observe what was learnt.

    `loss`; `movement`, the root mean square of $h_t - h_0$ on the training inputs;
    `relative_movement` $\|h_t - h_0\|_F / \|h_0\|_F$; `alignment` of the kernel
    with the targets, $y^\top K y / (\|K\|_F |y|^2)$; `kernel_change`
    $\|K_t - K_0\|_F / \|K_0\|_F$, which vanishes with width where training is lazy;
    on test inputs the mean squared error in units of the targets' mean square, and the
    share of right signs.
    """
    kernel, first = flow.kernel(state), flow.kernel(jnp.zeros_like(state))
    moved = flow.speed * (jnp.asarray(flow.gram) @ state)
    targets, test = flow.targets, flow.test_targets
    outputs = flow.test_outputs(state)
    right = jnp.sign(outputs) == jnp.sign(test)
    size = jnp.linalg.norm(kernel) * (targets @ targets)
    return {
        "loss": flow.loss(state),
        "movement": jnp.sqrt(jnp.mean(jnp.square(moved))),
        "relative_movement": jnp.linalg.norm(moved) / jnp.linalg.norm(flow.start),
        "alignment": (targets @ kernel @ targets) / size,
        "kernel_change": jnp.linalg.norm(kernel - first) / jnp.linalg.norm(first),
        "test_error": jnp.mean(jnp.square(outputs - test)) / jnp.mean(jnp.square(test)),
        "test_accuracy": jnp.mean(right, dtype=outputs.dtype),
    }
