"""Sums of squares on the device, in single precision, that do not underflow.

Vectors of wide networks may have coordinates of size $n^{-L/2}$ and less, whose squares
leave the range of float32. Numbers are divided by the largest one before.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def scaled(
    values: Float[Array, "*shape"],
) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
    """Return the values over their largest magnitude, and that magnitude."""
    largest = jnp.max(jnp.abs(values))
    return values / jnp.where(largest == 0, 1.0, largest), largest


def device_rms(values: Float[Array, "*shape"]) -> Float[Array, ""]:
    r"""Return the root mean square of all entries.

    $v (\frac1N \sum_i (v_i / v)^2)^{1/2}$ with the largest magnitude $v$ taken out.
    """
    unit, largest = scaled(values)
    return largest * jnp.sqrt(jnp.mean(unit**2))
