"""The run-time type checker of the tests, named in conftest.py's import hook."""

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep673Exception


def checked(function):
    """Apply beartype, except to a method annotated with `Self`.

    jaxtyping's hook decorates methods one by one, and beartype understands `Self` only
    where it decorates the whole class.
    """
    try:
        return beartype(function)
    except BeartypeDecorHintPep673Exception:
        return function
