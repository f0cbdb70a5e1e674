"""What a machine, a shell or a terminal brings along: understood, or said in a line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_experiment import spec
from widthlab.runs import Archive, Store, sweep
from widthlab.training.devices import MEMORY_VARIABLE, memory_given, memory_limit

ROOT = Path(__file__).parents[1]
LIBRARY = os.pathsep.join([str(ROOT / "lib"), str(ROOT / "tests")])


def python(*arguments, **environment):
    env = os.environ | {"PYTHONPATH": LIBRARY} | environment
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True
    )


# --- memory ------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "amount"),
    [
        *[("8e9", 8e9), ("8000000000", 8e9), ("8GB", 8e9), ("8 gb", 8e9), ("8G", 8e9)],
        *[("7.5GiB", 7.5 * 2**30), ("512MiB", 2**29), ("512 MB", 512e6), ("1T", 1e12)],
        *[("64k", 64e3), ("1e3B", 1e3), (" 2 TiB ", 2**41), ("", None), ("0", 0)],
    ],
)
def test_an_amount_of_memory_may_have_a_unit(given, amount, monkeypatch):
    monkeypatch.setenv(MEMORY_VARIABLE, given)
    assert memory_given() == amount


@pytest.mark.parametrize(
    "given", ["much", "8 GBit", "-1", "GB", "1e999", "nan", "8,5GB", "8GB 2GB", "1.2.3"]
)
def test_what_is_none_is_refused_by_name_before_anything_is_compiled(
    given, monkeypatch, tmp_path
):
    monkeypatch.setenv(MEMORY_VARIABLE, given)
    for call in (
        memory_given,
        lambda: memory_limit([None]),
        lambda: sweep([spec()], Store(tmp_path)),
        lambda: Archive(tmp_path).run([spec()]),
    ):
        with pytest.raises(ValueError, match=f"{MEMORY_VARIABLE} is .*7.5GiB"):
            call()


# --- devices ------------------------------------------------------------


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_device_that_there_is_not_is_one_line(platform, tmp_path):
    code = f"""
from test_experiment import spec
from widthlab.runs import Store, sweep
sweep([spec()], Store({str(tmp_path)!r}))
"""
    done = python("-c", code, JAX_PLATFORMS=platform)
    last = done.stderr.decode().strip().splitlines()[-1]
    assert done.returncode == 1 and "JAX_PLATFORMS=cpu" in last, done.stderr
    assert f"JAX finds no device for JAX_PLATFORMS={platform}" in last


def test_a_command_says_it_without_a_trace():
    done = python("-m", "richregime", "run", "3", "--dry-run", JAX_PLATFORMS="cuda")
    said = done.stderr.decode()
    assert done.returncode == 1 and "Traceback" not in said, said
    assert "JAX finds no device for JAX_PLATFORMS=cuda" in said


# --- encodings ------------------------------------------------------------

COMMANDS = [["status"], ["claims"], ["record", "1"], ["address"]]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_every_terminal_is_written_to(encoding):
    """With a replacement for what it cannot show."""
    code = f"""
from richregime.cli import main
for command in {COMMANDS}:
    assert main(command) == 0, command
"""
    done = python("-c", code, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    done.stdout.decode(encoding)
