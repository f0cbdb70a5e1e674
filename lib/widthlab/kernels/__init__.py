r"""The kernels of wide networks: NNGP and NTK, and what they predict.

`mlp` is the limit of infinite width in closed form, from the Gaussian `moment` and
`derivative_moment` of an activation. `empirical` is the tangent kernel of a finite
`widthlab.model.MLP`, `jacobian_kernel` that of any function. `regression` and
`KernelFlow` predict with either.
"""

from widthlab.kernels.dual import derivative_moment, moment
from widthlab.kernels.finite import empirical
from widthlab.kernels.infinite import mlp
from widthlab.kernels.jacobian import jacobian_kernel
from widthlab.kernels.prediction import KernelFlow, regression

__all__ = [
    "KernelFlow",
    "derivative_moment",
    "empirical",
    "jacobian_kernel",
    "mlp",
    "moment",
    "regression",
]
