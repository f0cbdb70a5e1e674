"""Chapters varied: other seeds, starts moved by rounding, and what this turns."""

import pytest
from richregime.execution import kernel_environment
from richregime.study import Study

FIRST = "WIDTHLAB_FIRST_SEED"


def test_seeds_begin_at_0_or_where_the_variable_says(monkeypatch):
    monkeypatch.delenv(FIRST, raising=False)
    assert Study.seeds(8) == range(8)
    monkeypatch.setenv(FIRST, "")
    assert Study.seeds(3) == range(3)
    monkeypatch.setenv(FIRST, "1000")
    assert Study.seeds(8) == range(1000, 1008)


@pytest.mark.parametrize("said", ["-1", "1.5", "many", "²"])
def test_seeds_refuse_what_is_not_a_number_from_0_up(said, monkeypatch):
    monkeypatch.setenv(FIRST, said)
    with pytest.raises(ValueError, match=r"WIDTHLAB_FIRST_SEED is .*from 0 up"):
        Study.seeds(8)


def test_only_a_variation_sets_the_seeds_of_a_chapter(tmp_path, monkeypatch):
    monkeypatch.setenv(FIRST, "5")
    assert FIRST not in kernel_environment(tmp_path, tmp_path)
    env = kernel_environment(tmp_path, tmp_path, {FIRST: "1000"})
    assert env[FIRST] == "1000"
