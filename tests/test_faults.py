"""No fault while records are written loses one or leaves half of it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "library" / "scale.md"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What was injected and survived, in a process that can be forked."""
    command = [
        sys.executable,
        ROOT / "tests" / "faults.py",
        tmp_path_factory.mktemp("f"),
    ]
    env = os.environ | {"PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return json.loads(done.stdout)


def test_every_fault_is_survived(found):
    assert found["wrong"] == []
    assert all(
        injected == survived > 0 for injected, survived in found["counts"].values()
    )


def test_a_careless_writer_does_not_survive(found):
    """The control: it would be noticed."""
    injected, survived = found["control"]
    assert 0 < survived < injected


def test_the_page_says_how_many(found):
    rows = re.findall(
        r"^\| ([a-z, -]+?) \|.*\| (\d+) \| (\d+) \|$", PAGE.read_text("utf-8"), re.M
    )
    said = {name: (int(injected), int(survived)) for name, injected, survived in rows}
    assert set(said) == set(found["counts"])
    for name, (injected, survived) in said.items():
        # Other versions of Python and filelock may take a call more.
        assert injected == survived == pytest.approx(found["counts"][name][0], rel=0.25)
