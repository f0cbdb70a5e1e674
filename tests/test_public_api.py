"""`import widthlab`: its names, and what it does not load."""

import importlib
import subprocess
import sys

import pytest
import widthlab
from widthlab._later import later


def test_names():
    assert sorted(widthlab.__all__) == list(widthlab.__all__)
    assert set(widthlab.__all__) == {
        *("Check", "Claim", "DataSpec", "Experiment", "Parametrization", "Record"),
        *("Prediction", "Role", "by_seed", "frame", "grid", "paired", "run", "select"),
        "sweep",
    }
    for name in widthlab.__all__:
        assert getattr(widthlab, name).__doc__


def test_import_leaves_heavy_packages_alone():
    """And starts no JAX backend, so that the number of devices can still be chosen."""
    heavy = (
        *("matplotlib", "seaborn", "sklearn", "pooch", "mlxtend", "nbclient"),
        *("pandas", "scipy.optimize", "scipy.stats", "tqdm", "jupyter_book"),
    )
    code = f"""
import sys
import widthlab
print("jax" in sys.modules or "numpy" in sys.modules)
assert [getattr(widthlab, name) for name in widthlab.__all__]
print([name for name in {heavy!r} if name in sys.modules])
from jax._src import xla_bridge
print(xla_bridge.backends_are_initialized())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split("\n")[:3] == ["False", "[]", "False"]


def test_a_module_that_does_not_load_says_why(monkeypatch):
    def broken(name):
        raise AttributeError("module 'jax' has no attribute 'new'")

    monkeypatch.setattr(importlib, "import_module", broken)
    get, _ = later("widthlab", {"claims": ("Claim",)})
    for name in ("Claim", "limit"):
        with pytest.raises(ImportError, match="cannot be loaded: module 'jax' has no"):
            get(name)
    with pytest.raises(AttributeError, match=r"no attribute 'a\.b'"):
        get("a.b")


def test_names_and_modules_are_there_before_anyone_imports_them():
    code = """
import widthlab, widthlab.runs
from widthlab.runs import Archive, Experiment, FlowRun, grid, sweep
assert callable(grid) and callable(sweep) and grid is widthlab.grid
assert widthlab.plots.theme and "Experiment" in dir(widthlab)
assert set(widthlab.__all__) <= set(dir(widthlab))
assert set(widthlab.runs.__all__) <= set(dir(widthlab.runs))
for module in (widthlab, widthlab.runs):
    for name in ("missing", "_missing"):
        try:
            getattr(module, name)
        except AttributeError as error:
            assert f"has no attribute {name!r}" in str(error)
        else:
            raise AssertionError(name)
print("there")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "there\n", done.stderr
