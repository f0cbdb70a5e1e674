"""The beginning of a chapter, before JAX: platform, versions, folder, cache, cost.

Nothing here imports JAX or the library before it is called: the platform that JAX takes
is decided when it is first imported.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PROGRAMS = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2**29),  # bytes
    # JAX keeps no program that calls the host, as equinox's checks inside a flow do.
    # What they would report, flows report themselves.
    "EQX_ON_ERROR": "nan",
}
_PACKAGES = ("jax", "matplotlib", "numpy", "pandas", "scipy")


def begin(name: str) -> None:
    """Prepare the session for a chapter, and say what it takes.

    JAX is told to run on the CPU, whose outputs are the committed ones, unless
    `JAX_PLATFORMS` says otherwise. Jupyter starts a notebook where it lies, Colab
    elsewhere: there the book is the one that the library was installed from.

    Raises:
        BookError: the book is neither here nor where the library is.
        RuntimeError: the session has loaded other versions than are installed.
    """
    if os.environ.setdefault("JAX_PLATFORMS", "cpu") == "cpu":
        # Colab has plugins for GPUs, of another version than the JAX that we need. They
        # are loaded all the same, and what they then report is of no concern here.
        for plugins in ("jax._src.xla_bridge", "jax_plugins"):
            logging.getLogger(plugins).setLevel(logging.CRITICAL)
    _refuse_stale()
    root = _enter(name)
    _keep_programs(root)
    print(cost(root, name))


def _keep_programs(root: Path) -> None:
    """Have JAX keep compiled programs beside the book, for whoever runs this again."""
    for variable, value in _PROGRAMS.items():
        os.environ.setdefault(variable, value)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / ".cache" / "xla"))


def cost(root: Path, name: str) -> str:
    """Say how many cells a chapter has, and how long they took when last executed.

    In halves of a minute, so that it does not change with every execution.
    """
    from richregime.executions import read_executions

    text = _text(root, name)
    assert text is not None, f"{root} has no {name}.md"
    cells = text.read_text(encoding="utf-8").count("\n```{code-cell}")
    last = read_executions(root).get(name)
    if last is None:
        return f"{cells} code cells; how long they take was never recorded"
    minutes = max(round(last.seconds / 30) / 2, 0.5)
    where = "" if last.device is None else f" on {last.place}"
    return f"{cells} code cells, about {minutes:g} minutes{where}"


def _refuse_stale() -> None:
    """A session that installed the library may hold older packages than it needs."""
    for name in _PACKAGES:
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue
        loaded = getattr(sys.modules.get(name), "__version__", installed)
        if loaded != installed:
            raise RuntimeError(
                f"This session has loaded {name} {loaded}, but {installed} is "
                "installed. Restart it (Runtime > Restart session) and run this cell "
                "again."
            )


def _enter(name: str) -> Path:
    """Return the book's folder; go to the chapter's if the session is elsewhere."""
    from richregime.chapters import BookError

    here = Path.cwd()
    if (root := _book_of(here, name)) is not None:
        return root
    root = _book_of(Path(__file__).parent, name)
    text = root and _text(root, name)
    if root is None or text is None:
        raise BookError(
            f"The book with the chapter {name} is neither at {here} or above nor "
            "where the library was installed from. Start Jupyter in a clone of its "
            "repository, or install the library from one with pip install -e."
        )
    os.chdir(text.parent)
    return root


def _book_of(start: Path, name: str) -> Path | None:
    """Return the nearest folder at or above `start` with this chapter's text."""
    return next((f for f in (start, *start.parents) if _text(f, name)), None)


def _text(root: Path, name: str) -> Path | None:
    """Return a chapter's text in the book at `root`: in a part, or in the library's."""
    places = (root / part / f"{name}.md" for part in ("chapters", "library"))
    return next((place for place in places if place.exists()), None)
