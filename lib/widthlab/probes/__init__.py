r"""What is measured in a network: features, Gram spectra, coordinates, errors, updates.

A probe works in two halves. `measure` runs on the device, inside the compiled program
of an ensemble, and returns arrays that stay small as the width grows. `rows` runs on
the host, in float64, and turns the arrays of all checkpoints into rows of the record's
table: (quantity, layer, value) at each checkpoint. Layers count from 1 to the number of
hidden layers; what concerns the whole network has layer 0. `register` adds a probe of
one's own.
"""

from widthlab.probes.backward import Backward
from widthlab.probes.features import Features, Outputs
from widthlab.probes.progress import Performance, Stationarity, Updates
from widthlab.probes.rank import Rank
from widthlab.probes.registry import register
from widthlab.probes.spread import Spread

__all__ = [
    "Backward",
    "Features",
    "Outputs",
    "Performance",
    "Rank",
    "Spread",
    "Stationarity",
    "Updates",
    "register",
]
