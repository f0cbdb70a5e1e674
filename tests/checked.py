"""The run-time type checker of the tests, which conftest.py installs."""

from types import FunctionType
from typing import Self, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception

# As static checkers do, accept an int where a float is expected.
_typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
_with_shapes = jaxtyping.jaxtyped


def install(package):
    """From now on, check the annotations of a package's modules as they are imported.

    jaxtyping's hook binds the arguments of every call anew, to know which lengths they
    have in common. Only functions of arrays need that; the others are left to beartype,
    which takes a twentieth of the time.
    """
    jaxtyping.jaxtyped = _jaxtyped
    jaxtyping.install_import_hook(package, "checked.checked")


def checked(function):
    """Apply beartype, except to a method annotated with `Self`.

    jaxtyping's hook decorates methods one by one, and beartype understands `Self` only
    where it decorates the whole class.
    """
    try:
        return _typechecked(function)
    except BeartypeDecorHintPep673Exception:
        return function


def _jaxtyped(fn=None, *, typechecker):
    if fn is None:
        return lambda fn: _jaxtyped(fn, typechecker=typechecker)
    if isinstance(fn, FunctionType) and _is_without_arrays(fn):
        return _typechecked(fn)
    return _with_shapes(fn, typechecker=typechecker)


def _is_without_arrays(function):
    """Whether all annotations are known by now, and none is of jaxtyping or `Self`."""
    try:
        kinds = [
            eval(kind, function.__globals__) if isinstance(kind, str) else kind
            for kind in function.__annotations__.values()
        ]
    except NameError:  # a class that is not there yet, or for static checkers only
        return False
    return not any(map(_is_of_arrays, kinds))


def _is_of_arrays(kind):
    if isinstance(kind, str):
        return True  # a name within a name: not looked up
    return (
        kind is Self
        or getattr(kind, "__module__", "").startswith("jaxtyping")
        or any(_is_of_arrays(one) for one in _parts(kind))
    )


def _parts(kind):
    for one in get_args(kind):
        yield from one if isinstance(one, list) else [one]
