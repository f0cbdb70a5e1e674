r"""A Flax model of one's own under a parametrization: scaled, checked, transferred.

Which axes of a model grow is found by evaluating it at several widths without numbers,
what each parameter does follows from its layer, and what its initialiser does is
measured. From these and a table of exponents come two factors a parameter, on its
initial values and on its learning rate, and nothing else of the model changes.
"""

from widthlab.scaling.check import CoordinateCheck, coordinate_check
from widthlab.scaling.deep_check import depth_check
from widthlab.scaling.depths import Depth
from widthlab.scaling.errors import ScalingError
from widthlab.scaling.fans import Fan
from widthlab.scaling.scaled import Scaled, parametrize
from widthlab.scaling.tied import Multiplier
from widthlab.scaling.transfers import Transfer, transfer

__all__ = [
    "CoordinateCheck",
    "Depth",
    "Fan",
    "Multiplier",
    "Scaled",
    "ScalingError",
    "Transfer",
    "coordinate_check",
    "depth_check",
    "parametrize",
    "transfer",
]
