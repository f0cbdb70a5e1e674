"""Chapters run anywhere: the first cell, links to Binder and Colab, Binder's files."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata, util
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import nbformat
import pytest
import yaml
from jupyter_book.config import yaml_to_sphinx
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from richregime import start
from richregime.address import read_address
from richregime.chapters import BookError, Chapter, code_cells, read_source
from richregime.chapters import read_chapters as read_toc
from richregime.executions import Execution, write_execution
from sphinx_book_theme.header_buttons.launch import add_launch_buttons

ROOT = Path(__file__).resolve().parents[1]
BINDER = ROOT / "binder"
CHAPTERS = read_toc(ROOT)
TEXTS = [*CHAPTERS, Chapter("_template", ROOT / "chapters")]
HERE = read_address(ROOT)
REPOSITORY = f"https://github.com/{HERE.name}"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def first_cell(chapter):
    return code_cells(read_source(chapter))[0][1]


def named(chapter):
    return pytest.mark.parametrize("chapter", chapter, ids=lambda item: item.name)


# --- the first cell


CELL = first_cell(CHAPTERS[0]).source
NAME = CHAPTERS[0].name


@named(TEXTS)
def test_a_chapter_begins_with_the_same_cell(chapter):
    cell = first_cell(chapter)
    assert cell.source.replace(f'begin("{chapter.name}")', f'begin("{NAME}")') == CELL
    assert f'begin("{chapter.name}")' in cell.source
    assert set(cell.metadata["tags"]) == {"hide-input", "nbval-ignore-output"}


def test_the_cell_fetches_from_the_books_repository():
    assert re.findall(r'^ *home = "(.*)"$', CELL, re.M) == [REPOSITORY]


@pytest.fixture
def book(tmp_path):
    """A book with the first chapter's text and a record of its execution."""
    root = tmp_path / "book"
    (root / "chapters").mkdir(parents=True)
    (root / "lib").symlink_to(ROOT / "lib")
    shutil.copy(CHAPTERS[0].source, root / "chapters")
    device = {"platform": "cpu", "kind": "Abacus", "cores": 2, "count": 2}
    write_execution(root, NAME, Execution(seconds=140, cells=(140.0,), device=device))
    return root


# Runs the cell twice, without the library but for a clone's, in a session of its own.
SESSION = """
import os, shutil, subprocess, sys
from pathlib import Path

cell, book, installed = sys.argv[1], sys.argv[2], sys.argv[3:]
sys.path[:] = [p for p in sys.path if not (Path(p) / "widthlab").exists()] + installed

def run(command, **options):
    print("ran", *command)
    done = subprocess.CompletedProcess(command, 0)
    if command[0] == "git":
        shutil.copytree(book, command[-1], symlinks=True)
    return done

subprocess.run = run
for _ in range(2):
    exec(cell, {})
    print("in", Path.cwd())
print("on", os.environ["JAX_PLATFORMS"])
"""


def session(book, folder, *installed):
    env = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    done = subprocess.run(
        [sys.executable, "-c", SESSION, CELL, str(book), *map(str, installed)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_without_the_library_it_is_fetched_and_installed_once(book, tmp_path):
    folder = tmp_path / "content"
    folder.mkdir()
    clone = folder / "rich-regime"
    cost = start.cost(book, NAME)
    again = [cost, f"in {clone / 'chapters'}"]
    assert session(book, folder) == [
        "Installing the book's library: a few minutes ...",
        f"ran git clone --depth=1 {REPOSITORY} {clone}",
        f"ran {sys.executable} -m pip install --editable {clone}",
        *again,
        *again,
        "on cpu",
    ]
    # Restarted: the library is found, and the session begins in Colab's own folder.
    assert session(book, folder, clone / "lib") == [*again, *again, "on cpu"]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A session without the library, in which commands are only listed."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    monkeypatch.setattr(start, "begin", lambda name: None)
    ran = []

    def listed(command, **_):
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", listed)
    return SimpleNamespace(folder=folder, ran=ran)


def test_a_clone_is_not_fetched_again(elsewhere):
    (elsewhere.folder / "rich-regime" / "lib").mkdir(parents=True)
    exec(CELL, {})
    (pip,) = elsewhere.ran
    assert pip[-1] == str(elsewhere.folder / "rich-regime")


def test_in_a_clones_chapters_that_clone_is_installed(elsewhere, monkeypatch):
    (elsewhere.folder / "lib" / "richregime").mkdir(parents=True)
    (elsewhere.folder / "chapters").mkdir()
    monkeypatch.chdir(elsewhere.folder / "chapters")
    exec(CELL, {})
    (pip,) = elsewhere.ran
    assert pip[-1] == str(elsewhere.folder)


def test_what_cannot_be_installed_is_said(elsewhere, monkeypatch):
    failed = subprocess.CompletedProcess([], 128, stderr="No host: github")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: failed)
    with pytest.raises(RuntimeError, match=r"(?s)git.*clone.* failed:\nNo host"):
        exec(CELL, {})


def test_a_session_that_has_loaded_another_version_is_to_be_restarted(
    book, monkeypatch
):
    monkeypatch.chdir(book)
    monkeypatch.setattr(sys.modules["numpy"], "__version__", "1.0")
    with pytest.raises(RuntimeError, match=r"numpy 1\.0.* Restart .* run this cell"):
        exec(CELL, {})


def test_whoever_sets_a_platform_means_it(book, monkeypatch):
    monkeypatch.chdir(book)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    exec(CELL, {})
    assert os.environ["JAX_PLATFORMS"] == "cuda"
    monkeypatch.delenv("JAX_PLATFORMS")
    exec(CELL, {})
    assert os.environ["JAX_PLATFORMS"] == "cpu"


def test_the_beginning_loads_neither_jax_nor_the_library():
    """Or the platform would be chosen before it is set."""
    show = "import sys, richregime.start; print(*sys.modules)"
    command = [sys.executable, "-c", show]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "richregime" in loaded and not loaded & {"jax", "widthlab", "numpy"}


def test_with_the_library_nothing_is_run_and_the_folder_stays(
    book, monkeypatch, capsys
):
    monkeypatch.chdir(book)
    monkeypatch.setattr(subprocess, "run", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    exec(CELL, {})
    cells = len(code_cells(read_source(CHAPTERS[0])))
    assert capsys.readouterr().out == (
        f"{cells} code cells, about 2.5 minutes on 2 cores of Abacus\n"
    )
    assert Path.cwd() == book


def test_compiled_programs_are_kept_in_the_book_unless_someone_says_where(
    book, monkeypatch
):
    monkeypatch.chdir(book)
    monkeypatch.setattr(os, "environ", {"JAX_COMPILATION_CACHE_DIR": "mine"})
    start.begin(NAME)
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "mine"
    assert os.environ["EQX_ON_ERROR"] == "nan"
    del os.environ["JAX_COMPILATION_CACHE_DIR"]
    start.begin(NAME)
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(book / ".cache" / "xla")


def test_what_was_never_executed_has_no_time(book):
    shutil.rmtree(book / "results")
    assert "never recorded" in start.cost(book, NAME)


def test_a_library_without_its_book_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "__file__", str(tmp_path / "site" / "start.py"))
    with pytest.raises(BookError, match=r"neither at .* pip install -e"):
        start.begin(NAME)


# --- links


def link_problem(url):
    """Say what is wrong with an address on Binder or Colab, or nothing."""
    parts = urlsplit(url)
    home = HERE.name.split("/")
    if parts.netloc == "mybinder.org":
        wanted = ["", "v2", "gh", *home, "main"]
        place = parse_qs(parts.query)["urlpath"][0].removeprefix("lab/tree/")
        found = parts.path.split("/")
    elif parts.netloc == "colab.research.google.com":
        wanted = ["", "github", *home, "blob", "main"]
        found = parts.path.split("/")[: len(wanted)]
        place = "/".join(parts.path.split("/")[len(wanted) :])
    else:
        return f"another host: {parts.netloc}"
    if parts.scheme != "https" or found != wanted:
        return f"{url} is not {wanted}"
    path = ROOT / place
    if path.suffix != ".ipynb" or not path.exists():
        return f"no notebook at {place}"
    nbformat.validate(nbformat.read(path, as_version=4))
    return place


@named(CHAPTERS)
def test_the_header_leads_to_this_chapter_on_binder_and_colab(chapter):
    header = chapter.source.read_text(encoding="utf-8").split("\n## ")[0]
    urls = re.findall(r"\]\((https://[^)]*)\)", header.split("**To run it:**")[1])
    assert [urlsplit(url).netloc for url in urls] == [
        "mybinder.org",
        "colab.research.google.com",
    ]
    for url in urls:
        assert link_problem(url) == f"{chapter.folder.name}/{chapter.name}.ipynb"


@named(CHAPTERS)
def test_the_headers_commands_exist(chapter):
    header = chapter.source.read_text(encoding="utf-8").split("\n## ")[0]
    assert f"`git clone {REPOSITORY}`" in header
    assert f"`.venv/bin/richregime run {chapter.word}`" in header
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)", header):
        assert re.search(rf"^{target}:", makefile, re.M), target
    stored = (ROOT / "results" / chapter.name / "runs.json").exists()
    assert stored == (f"`make paper CHAPTER={chapter.word}`" in header)
    assert "richregime" in PROJECT["project"]["scripts"]


def launch_urls(page, *, notebook):
    """The launch buttons that the theme, as configured, gives a page."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    options = yaml_to_sphinx(config)[0]["html_theme_options"]
    home = urlsplit(options["repository_url"]).path.strip("/").split("/")
    suffix = ".ipynb" if notebook else ".md"
    metadata = {page: {"kernelspec": {}} if notebook else {}}
    app = SimpleNamespace(
        env=SimpleNamespace(
            doc2path=lambda name: str(ROOT / f"{name}{suffix}"), metadata=metadata
        ),
        config={"html_theme_options": options},
    )
    context = {
        "pagename": page,
        "sourcename": f"{page}{suffix}",
        "page_source_suffix": suffix,
        "header_buttons": [],
        # As the theme takes them from repository.url:
        "github_url": "https://github.com",
        **dict(zip(("github_user", "github_repo"), home, strict=True)),
    }
    add_launch_buttons(app, page, "page.html", context, None)
    return [b["url"] for group in context["header_buttons"] for b in group["buttons"]]


@named(CHAPTERS)
def test_the_launch_buttons_are_the_headers_links(chapter):
    page = f"{chapter.folder.name}/{chapter.name}"
    path = f"{page}.ipynb"
    colab = "https://colab.research.google.com/github"
    wanted = [
        f"https://mybinder.org/v2/gh/{HERE.name}/main?urlpath=lab/tree/{path}",
        f"{colab}/{HERE.name}/blob/main/{path}",
    ]
    assert launch_urls(page, notebook=True) == wanted
    header = chapter.source.read_text(encoding="utf-8").split("\n## ")[0]
    assert all(f"]({url})" in header for url in wanted)


def test_other_pages_have_no_launch_buttons():
    assert launch_urls("scoreboard", notebook=False) == []


# --- Binder


def entries(path):
    """Map (name, version, marker) of a lock's entries to their hashes."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if re.match(r"[a-z0-9]", line)]
    found = {}
    for line in lines:
        requirement, *hashes = re.split(r"\s+--hash=", line)
        requirement = Requirement(requirement.strip())
        marker = requirement.marker
        if marker is None or marker.evaluate():
            name = canonicalize_name(requirement.name)
            found[name, str(requirement.specifier)] = sorted(map(str.strip, hashes))
    return found


def test_binders_python_is_a_supported_one():
    (version,) = re.fullmatch(
        r"python-(3\.\d+)\n", (BINDER / "runtime.txt").read_text()
    ).groups()
    assert f"{version}.1" in SpecifierSet(PROJECT["project"]["requires-python"])


def test_binders_packages_are_of_the_lock():
    locked, binder = (entries(ROOT / "requirements.lock"), entries(BINDER_LOCK))
    assert binder and all(binder[key] == locked[key] for key in binder)
    assert all(hashes for hashes in binder.values())
    assert not re.search(r"://|^\s*-[^-]", BINDER_LOCK.read_text(), re.M)


BINDER_LOCK = BINDER / "requirements.txt"


def test_binders_packages_are_all_that_the_library_needs():
    """Walk the requirements of what is installed, which is what is locked."""
    names = {name for name, _ in entries(BINDER_LOCK)}
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    wanted, seen = [*map(Requirement, wanted), Requirement("editables")], set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        extras = ["", *requirement.extras]
        marker = requirement.marker
        needed = not marker or any(marker.evaluate({"extra": e}) for e in extras)
        if not needed or name in seen:
            continue
        seen.add(name)
        assert name in names, f"{name} is not in binder/requirements.txt: make lock"
        wanted += map(Requirement, metadata.requires(requirement.name) or [])
    assert "playwright" not in names and "jupyter-book" not in names
    assert Version(metadata.version("jax")) >= Version("0.10")


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_binders_scripts_can_be_run(name):
    path = BINDER / name
    assert os.access(path, os.X_OK)
    assert path.read_text(encoding="utf-8").startswith("#!/bin/bash\n")
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize(
    ("limits", "cores", "memory"),
    [
        ({}, "2", 500_000_000),
        ({"CPU_LIMIT": "0.5", "MEM_LIMIT": "1073741824"}, "1", 268_435_456),
        ({"CPU_LIMIT": "4.0", "MEM_LIMIT": "8000000000"}, "4", 2_000_000_000),
    ],
)
def test_binders_servers_know_their_limits(limits, cores, memory):
    show = "import os, json; print(json.dumps(dict(os.environ)))"
    env = {"PATH": os.environ["PATH"], **limits}
    command = [BINDER / "start", sys.executable, "-c", show]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["JAX_PLATFORMS"] == "cpu"
    assert found["JAX_NUM_CPU_DEVICES"] == cores
    assert float(found["WIDTHLAB_MEMORY"]) == memory
