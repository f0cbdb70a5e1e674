"""The checker of annotations that the tests themselves run under."""

from pathlib import Path

import jax.numpy as jnp
import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError
from widthlab import files, machine
from widthlab.training import losses


def test_lengths_that_differ_are_refused():
    """Each of the two would do by itself."""
    with pytest.raises(TypeCheckError, match="targets"):
        losses.mean_squared_error(jnp.ones((2, 3)), jnp.ones((1, 3)))


def test_other_types_are_refused():
    with pytest.raises(BeartypeCallHintViolation, match="text=3"):
        files.write_text(Path("never"), 3)


def test_what_is_returned_is_checked_too(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: "all", raising=False)
    with pytest.raises(BeartypeCallHintViolation, match="return"):
        machine.own_cores()
