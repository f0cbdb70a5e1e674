"""Specifications take whatever there is, or refuse it, where nothing checks types."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_fields_take_values_in_one_form_or_refuse_them(tmp_path):
    """Through specification, JSON, store and archive, as in a user's process."""
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    env = os.environ | {
        "PYTHONPATH": str(ROOT / "lib"),
        "WIDTHLAB_STORE": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/whatever.py"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "passed" in done.stdout
