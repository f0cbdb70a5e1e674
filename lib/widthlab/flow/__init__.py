"""Gradient flows: how they are solved, and the networks and particles that flow."""

from widthlab.flow.integrators import Adaptive, Descent, Flow
from widthlab.flow.networks import PartiallyTrained, Shallow
from widthlab.flow.particles import two_layer, two_layer_outputs
from widthlab.flow.preactivation import progress
from widthlab.flow.rates import explained, windows
from widthlab.flow.solve import solve
from widthlab.flow.trajectory import Trajectory, frame

__all__ = [
    "Adaptive",
    "Descent",
    "Flow",
    "PartiallyTrained",
    "Shallow",
    "Trajectory",
    "explained",
    "frame",
    "progress",
    "solve",
    "two_layer",
    "two_layer_outputs",
    "windows",
]
