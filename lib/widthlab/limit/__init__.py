r"""The limit of infinite width itself, computed and not extrapolated.

`canonical` reads off a parametrization what its limit depends on, or says why it has
none; `Problem` is what is trained, of one's own or of an experiment (`Problem.of`); and
`solve` returns the `Trajectory`: outputs, loss and Gram matrices of every layer at
every step, with errors. Where features move it trains particles (`particles`), hidden
matrices being known by what they do (`weights`); where they stay it is gradient descent
with the tangent kernel (`kernel`).

Outputs and losses of the first kind are those of every wide network; of the second they
are means over networks, whose outputs at the start are random at every width
(`Problem.centred` takes them off).

Draws and products are NumPy in float64 on the host, activations and losses compiled
functions of JAX: how many directions a hidden matrix acts on is known at run time only,
and a compiled program of it all would be padded to the most there can be.
"""

from widthlab.limit.problem import Problem
from widthlab.limit.run import LimitRun, solve
from widthlab.limit.tables import LimitError, canonical

__all__ = [
    "LimitError",
    "LimitRun",
    "Problem",
    "canonical",
    "solve",
]
