"""environment.yml, pyproject.toml, the lock and what is installed say the same."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
LOCK_TEXT = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def lock_entries():
    """List (requirement, hashes) for each entry of the lock."""
    logical = LOCK_TEXT.replace("\\\n", " ").splitlines()
    lines = [line for line in logical if line.strip() and not line.lstrip()[0] == "#"]
    entries = []
    for line in lines:
        text, *hashes = re.split(r"\s--hash=", line)
        entries.append((Requirement(text.strip()), [item.strip() for item in hashes]))
    return entries


ENTRIES = lock_entries()


def marker_environment(python):
    full = {"3.11": "3.11.9", "3.12": "3.12.7", "3.13": "3.13.1"}[python]
    return {
        **default_environment(),
        "python_version": python,
        "python_full_version": full,
    }


def locked_versions(environment):
    """Map package to version, for the entries whose marker holds in `environment`."""
    versions = {}
    for requirement, _ in ENTRIES:
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in versions, f"{name} is locked twice for {environment}"
            (pin,) = requirement.specifier
            versions[name] = Version(pin.version)
    return versions


def direct_requirements():
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *extras["book"], *extras["test"]]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_pyproject(python):
    versions = locked_versions(marker_environment(python))
    for requirement in direct_requirements():
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in the lock for Python {python}"
        assert versions[name] in requirement.specifier, (
            f"the lock has {name} {versions[name]}, pyproject.toml asks for "
            f"{requirement.specifier}: run make lock"
        )


def test_python_range_is_the_same_everywhere():
    wanted = SpecifierSet(PROJECT["project"]["requires-python"])
    (python,) = [
        Requirement(item)
        for item in CONDA["dependencies"]
        if isinstance(item, str) and item.startswith("python")
    ]
    assert python.specifier == wanted
    minors = [f"3.{minor}" for minor in range(8, 20)]
    assert tuple(m for m in minors if f"{m}.1" in wanted) == PYTHONS
    installer = (ROOT / ".ci" / "install").read_text(encoding="utf-8")
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in installer
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert tuple(workflow["jobs"]["test"]["strategy"]["matrix"]["python"]) == PYTHONS


def test_conda_installs_the_lock_and_nothing_else():
    pip = [item["pip"] for item in CONDA["dependencies"] if isinstance(item, dict)]
    assert pip == [["-r requirements.lock"]]
    names = {re.split(r"[<>=! ]", item)[0] for item in CONDA["dependencies"][:-1]}
    assert names == {"python", "pip"}


def test_every_entry_is_pinned_and_hashed():
    assert len(ENTRIES) > 100
    for requirement, hashes in ENTRIES:
        assert [pin.operator for pin in requirement.specifier] == ["=="], requirement
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", item) for item in hashes)


def test_lock_names_no_index_url_or_path():
    for line in LOCK_TEXT.splitlines():
        assert "://" not in line, line
        assert not re.match(r"\s*(-e|--index|--extra|--find|-f|-i|file:|\.?/)", line), (
            line
        )
        assert " @ " not in line, line


def test_jupyter_book_is_1x():
    version = Version(metadata.version("jupyter-book"))
    assert Version("1.0.4.post1") <= version < Version("2"), (
        f"jupyter-book {version} is installed; 2.x does not read _config.yml"
    )


def test_installed_versions_are_the_locked_ones():
    versions = locked_versions(default_environment())
    differing = {}
    for name, wanted in versions.items():
        try:
            found = Version(metadata.version(name))
        except metadata.PackageNotFoundError:
            found = None
        if found != wanted:
            differing[name] = f"{found} installed, {wanted} locked"
    assert not differing, f"{differing}: run make, which installs the lock"


def test_pre_commit_downloads_nothing():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    for hook in hooks[0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")
