"""The run-time type checker of the tests, named in conftest.py's import hook."""

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception

# As static checkers do, accept an int where a float is expected.
_typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function):
    """Apply beartype, except to a method annotated with `Self`.

    jaxtyping's hook decorates methods one by one, and beartype understands `Self` only
    where it decorates the whole class.
    """
    try:
        return _typechecked(function)
    except BeartypeDecorHintPep673Exception:
        return function
