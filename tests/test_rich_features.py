"""What theory expects of the experiments of Chen et al. 2025."""

import numpy as np
import pytest
from widthlab.data import DataSpec
from widthlab.papers import chen2025global as chen


def few(variant):
    """Few enough images, not centred, that without partners they are independent."""
    return DataSpec(
        "digits",
        n_train=16,
        n_test=0,
        preprocess="raw01",
        targets="centred-one-hot",
        variant=variant,
    )


def test_only_mup_moves_every_layer_by_an_amount_that_width_does_not_change():
    change = chen.relative_change(depth=3)
    level = {name for name, _ in change}
    level -= {name for (name, _), exponent in change.items() if exponent != 0}
    assert level == {"mup"}
    assert all(change["ip", layer] == (layer - 1) / 2 for layer in (1, 2, 3))


@pytest.mark.parametrize("variant", ["antipodal", "duplicate"])
def test_linear_networks_reach_the_error_that_pairs_must_leave(variant):
    data = few(variant)
    assert chen.error_of_pairs(data) > 0.1
    np.testing.assert_allclose(
        chen.linear_error(data), chen.error_of_pairs(data), rtol=1e-5
    )


def test_independent_inputs_leave_no_error_and_are_no_pairs():
    assert chen.linear_error(few("plain")) < 1e-5
    with pytest.raises(ValueError, match="'plain' are not paired"):
        chen.error_of_pairs(few("plain"))
