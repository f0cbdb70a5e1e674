"""The environment knows its folder; sources have their line ends; types are shipped."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAND_IN = f"""#!/bin/sh
case "$1" in
  -m) shift; echo "$@" >> "$LOG" ;;
  *) exec {sys.executable} "$@" ;;
esac
"""
EDITABLE = "pip install --quiet --no-deps --no-build-isolation -e ."


@pytest.fixture
def clone(tmp_path):
    """A folder with what `make` needs, and a Python that only notes what it is told."""
    folder = tmp_path / "book"
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "install", folder / ".ci")
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def made(folder, tmp_path):
    """Make the environment, and return what was asked of pip."""
    log = tmp_path / "log"
    log.write_text("")
    env = {"PATH": "/usr/bin:/bin", "LOG": str(log), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["make", "-s", ".venv/.installed"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return log.read_text().splitlines()


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("how", [shutil.copytree, shutil.move])
def test_a_copied_or_moved_clone_installs_its_own_library(clone, tmp_path, how):
    first = made(clone, tmp_path)
    assert len(first) == 2 and first[1] == EDITABLE
    assert made(clone, tmp_path) == []
    there = tmp_path / "another place" / "a [1] copy"
    there.parent.mkdir()
    how(clone, there)
    assert made(there, tmp_path) == [EDITABLE]
    assert made(there, tmp_path) == []
    if clone.exists():
        assert made(clone, tmp_path) == []


def test_a_clone_has_the_line_ends_of_its_shell(tmp_path):
    def git(*arguments, cwd=tmp_path):
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    names = git("ls-files", ".ci", "binder", "*.sh", "Makefile", cwd=ROOT).split()
    git("init", "-q", ".")
    for name in [*names, ".gitattributes"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all")
    git("clone", "-q", "-c", "core.autocrlf=true", ".", "windows")
    assert names
    for name in names:
        assert b"\r" not in (tmp_path / "windows" / name).read_bytes(), name


def test_types_are_shipped(tmp_path):
    """In the wheel, where a type checker finds them by their mark."""
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d"]
    done = subprocess.run([*build, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {f"{p}/py.typed" for p in ("widthlab", "richregime")} <= set(
            archive.namelist()
        )
        archive.extractall(tmp_path / "site")
    program = tmp_path / "program.py"
    program.write_text(
        "from widthlab.fields import shown\n"
        "from widthlab.canonical import digest\n"
        "right: str = digest(3) + shown(3)\n"
        "wrong: int = digest(3)\n"
    )
    (tmp_path / "pyrightconfig.json").write_text('{"extraPaths": ["site"]}')
    checker = Path(sys.executable).with_name("basedpyright")
    if not checker.exists():
        pytest.skip("there is no type checker")
    done = subprocess.run(
        [checker, "-p", ".", "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "program.py:4:14 - error" in done.stdout and "1 error" in done.stdout
