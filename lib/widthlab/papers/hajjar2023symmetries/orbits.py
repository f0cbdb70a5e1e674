r"""Finite groups of orthogonal maps, and what is closed under them.

If $f^*(Tx) = \chi(T) f^*(x)$ with signs $\chi$ for all $T$ of a group, if the inputs'
law is invariant, and if that of the neurons $(a, b)$ of $f(x) = \frac1m \sum_j a_j
\sigma(b_j \cdot x)$ is invariant under $(a, b) \mapsto (\chi(T)\, a, T b)$ at time 0,
then it stays so, and $f(Tx) = \chi(T) f(x)$ at all times (after Hajjar and Chizat
2023, who state it in general; the form with $\chi$ is derived here).

For a finite group this holds exactly at finite width and on a finite sample, where both
are unions of orbits: `close_particles` and `close_data` make them so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.model import AnyArray

Group = Float[np.ndarray, "g d d"]
"""All elements of a finite group of orthogonal matrices, the identity first."""

Signs = Float[np.ndarray, " g"]
r"""A character: $\chi = \pm 1$ for each element, with $\chi(ST) = \chi(S) \chi(T)$."""

_CLOSE = 1e-9


def antipodal(dim: int) -> Group:
    r"""Return $\{I, -I\}$; odd functions have the character $(1, -1)$."""
    return np.stack([np.eye(dim), -np.eye(dim)])


def sign_flips(coordinates: Sequence[int], dim: int) -> Group:
    r"""Return the $2^k$ flips of the signs of $k$ coordinates of $R^d$."""
    chosen = set(coordinates)
    if len(chosen) < len(coordinates) or not chosen <= set(range(dim)):
        raise ValueError(
            f"coordinates are {[*coordinates]}; they are different numbers from 0 to "
            f"{dim - 1}"
        )
    flips = np.array(list(np.ndindex((2,) * len(coordinates))), dtype=float)
    diagonals = np.ones((len(flips), dim))
    diagonals[:, list(coordinates)] = 1 - 2 * flips
    return diagonals[:, :, None] * np.eye(dim)


def sign_character(group: Group, coordinates: Sequence[int]) -> Signs:
    r"""Return $\chi(T) = \prod_{i} T_{ii}$ over some coordinates, for `sign_flips`.

    It is the character of functions that are odd in each of these coordinates and even
    in the others, such as $\prod_i x_i$.

    Example:
        >>> print(sign_character(sign_flips([0, 2], dim=3), [2]))
        [ 1. -1.  1. -1.]
    """
    return np.prod(np.diagonal(group, axis1=1, axis2=2)[:, list(coordinates)], axis=1)


def generated(*generators: Float[np.ndarray, "d d"], most: int = 1000) -> Group:
    """Return the group that orthogonal matrices generate.

    Raises:
        ValueError: one is not orthogonal, or there are more elements than `most`.

    Example:
        >>> turn = np.array([[0.0, -1.0], [1.0, 0.0]])
        >>> len(generated(turn)), len(generated(turn, np.diag([1.0, -1.0])))
        (4, 8)
    """
    elements = [np.eye(len(generators[0]))]
    _check_orthogonal(np.stack(generators))
    for element in elements:  # which grows
        for generator in generators:
            product = generator @ element
            if not _find(product[None], np.stack(elements))[1][0]:
                elements.append(product)
        if len(elements) > most:
            raise ValueError(
                f"these generate more than {most} elements; give other generators, or "
                "a larger `most`"
            )
    return np.stack(elements)


def cyclic(dim: int) -> Group:
    """Return the cyclic shifts of the coordinates."""
    return generated(np.roll(np.eye(dim), 1, axis=0), most=dim)


def close_particles(
    group: Group,
    inner: Float[AnyArray, "m d"],
    outer: Float[AnyArray, " m"],
    character: Signs | None = None,
) -> tuple[Float[np.ndarray, "gm d"], Float[np.ndarray, " gm"]]:
    r"""Return the neurons $(\chi(T)\, a_j, T b_j)$ for all $T$ and $j$.

    They are the same law, averaged over the group. For the antipodal group and odd
    targets these are $(a, b)$ and $(-a, -b)$: that $b$ alone changes sign does not do.

    Args:
        group: the elements $T$.
        inner: $b_j$.
        outer: $a_j$.
        character: $\chi$; 1 by default.

    Raises:
        ValueError: this is no group, or no character of it.
    """
    return _orbits(group, inner, outer, character)


def close_data(
    group: Group,
    x: Float[AnyArray, "n d"],
    y: Float[AnyArray, " n"],
    character: Signs | None = None,
) -> tuple[Float[np.ndarray, "gn d"], Float[np.ndarray, " gn"]]:
    r"""Return the inputs $T x_a$ with the targets $\chi(T)\, y_a$, for all $T$ and $a$.

    Group, character and errors are as in `close_particles`.
    """
    return _orbits(group, x, y, character)


def asymmetry(
    group: Group,
    predict: Callable[[Array], Array],
    x: Float[AnyArray, "n d"],
    character: Signs | None = None,
) -> Float[Array, ""]:
    r"""Return the largest $|f(T x_a) - \chi(T) f(x_a)|$, for `predict`, rows to $f$."""
    chi = np.ones(len(group)) if character is None else character
    moved = jnp.einsum("gij,nj->gni", jnp.asarray(group), jnp.asarray(x))
    outputs = predict(moved.reshape(-1, moved.shape[-1])).reshape(moved.shape[:-1])
    return jnp.max(jnp.abs(outputs - chi[:, None] * predict(jnp.asarray(x))))


def _check(group: Group, chi: np.ndarray) -> None:
    _check_orthogonal(group)
    if chi.shape != (len(group),) or not np.isin(chi, (-1, 1)).all():
        raise ValueError(
            f"the character is {chi} for {len(group)} elements; it is 1 or -1 for each"
        )
    for one, sign in zip(group, chi, strict=True):
        index, is_there = _find(one @ group, group)
        if not is_there.all():
            raise ValueError(
                "a product of two elements is not among the elements, so that orbits "
                "would not be closed; complete them with `generated`"
            )
        if (chi[index] != sign * chi).any():
            raise ValueError(
                f"{chi} is no character: that of a product must be the product of "
                "those of its factors"
            )


def _orbits(
    group: Group, rows: AnyArray, values: AnyArray, character: Signs | None
) -> tuple[np.ndarray, np.ndarray]:
    chi = np.ones(len(group)) if character is None else np.asarray(character)
    _check(group, chi)
    moved = np.einsum("gij,nj->gni", group, np.asarray(rows))
    signed = chi[:, None] * np.asarray(values)
    return moved.reshape(-1, moved.shape[-1]), signed.reshape(-1)


def _find(these: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest element to each, and whether it is equal."""
    # For orthogonal A and B the trace of A'B is d - |A - B|^2 / 2.
    size, dim = len(among), among.shape[-1]
    traces = these.reshape(-1, dim * dim) @ among.reshape(size, -1).T
    return traces.argmax(axis=1), traces.max(axis=1) > dim - _CLOSE


def _check_orthogonal(matrices: np.ndarray) -> None:
    gap = np.abs(matrices @ matrices.swapaxes(-1, -2) - np.eye(matrices.shape[-1]))
    if gap.max() > _CLOSE:
        raise ValueError(
            f"these matrices are not orthogonal: T T' differs from I by {gap.max():g}"
        )
