"""One name for one content: canonical JSON and its hash, and the hash of arrays."""

import hashlib
import json
import math
import numbers
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np


def canonical_json(obj: object) -> str:
    """Return JSON text that depends on the value alone: the input of every spec hash.

    Keys are sorted, there is no white space, floats are written by `repr` (and -0.0 as
    0.0), fractions as "p/q", tuples as lists; an object with a `to_json` method is
    replaced by what that returns. Note that 1 and 1.0 differ.

    Raises:
        ValueError: If a number is NaN or infinite.
        TypeError: If there is something JSON cannot hold, or a key is not a string.

    Examples:
        >>> canonical_json({"b": (1, 0.1), "a": Fraction(-1, 2)})
        '{"a":"-1/2","b":[1,0.1]}'
    """
    return _dumps(_plain(obj, "spec", finite=True))


def digest(obj: object) -> str:
    """Return the SHA-256, in hex, of the canonical JSON of `obj`.

    Examples:
        >>> digest({"lr": 0.1})[:12]
        '9c9ba942d8bb'
    """
    return hashlib.sha256(canonical_json(obj).encode()).hexdigest()


def _dumps(plain: object) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def _plain(obj: Any, where: str, *, finite: bool) -> Any:
    """`obj` in terms of JSON's own types; NaN and infinity only where not `finite`."""
    if obj is None or isinstance(obj, bool | str):
        return str.__str__(obj) if isinstance(obj, str) else obj
    if isinstance(obj, numbers.Integral):  # NumPy's integers are registered too
        return int(obj)
    if isinstance(obj, Fraction):
        return f"{obj.numerator}/{obj.denominator}"
    if isinstance(obj, numbers.Real):
        number = float(obj)
        if finite and not math.isfinite(number):
            raise ValueError(f"{where} is {number}: a specification must be finite")
        return number + 0.0 if finite else number
    if isinstance(obj, np.generic | np.ndarray) or _is_of_jax(obj):
        return _plain(obj.tolist(), where, finite=finite)
    if isinstance(obj, list | tuple):
        return [_plain(v, f"{where}[{i}]", finite=finite) for i, v in enumerate(obj)]
    if isinstance(obj, Mapping):
        if wrong := [key for key in obj if not isinstance(key, str)]:
            raise TypeError(f"{where} has keys that are not strings: {wrong}")
        return {
            str(k): _plain(v, f"{where}.{k}", finite=finite) for k, v in obj.items()
        }
    if hasattr(obj, "to_json"):
        return _plain(obj.to_json(), where, finite=finite)
    raise TypeError(
        f"{where} is a {type(obj).__module__}.{type(obj).__name__}, which JSON cannot "
        f"hold; allowed: None, bool, int, float, Fraction, str, list, "
        f"tuple, dict, objects with to_json()"
    )


def plain_value(obj: object, where: str = "value") -> Any:
    """Return a value in terms of JSON's own types, with NaN and infinity as they are.

    Raises:
        TypeError: there is something JSON cannot hold, and `where` it is.
    """
    return _plain(obj, where, finite=False)


def _is_of_jax(obj: Any) -> bool:
    """Whether it is an array of JAX, which is not imported for that."""
    return hasattr(obj, "__jax_array__") or (
        type(obj).__module__.partition(".")[0] in ("jax", "jaxlib")
        and hasattr(obj, "tolist")
    )


def content_sha256(*arrays: np.ndarray) -> str:
    """Return the SHA-256 over dtype, shape and bytes of arrays, little-endian."""
    digest = hashlib.sha256()
    for array in arrays:
        portable = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{portable.dtype.str}{portable.shape}".encode())
        digest.update(portable.tobytes())
    return digest.hexdigest()
