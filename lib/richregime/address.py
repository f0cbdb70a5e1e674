"""The book's one address: where it is written, who repeats it, and how it moves.

``_config.yml`` holds it: `repository.url`, `repository.branch`, `html.baseurl`. Links
to Binder and Colab, the chapters' first cells and citations have to repeat it. `move`
writes another address everywhere; `address_problems` names the files that disagree.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from widthlab.files import write_text

from richregime.chapters import BookError, canonical
from richregime.executions import EXECUTIONS, file_sha256

CONFIG = Path("_config.yml")
PLACES = (
    *("*.md", "*.cff", "*.json", "_config.yml"),
    *("chapters/*.md", "chapters/*.ipynb", "library/*.md"),
    *(".github/**/*.md", ".github/**/*.yml"),
)
"""Files that may repeat the address."""

_GITHUB = re.compile(
    r"https://github\.com/(?P<owner>[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38})"
    r"/(?P<name>[A-Za-z0-9._-]+?)(?:\.git)?/?"
)
_SITE = re.compile(r"https://[A-Za-z0-9.-]+(?::\d+)?(?:/[A-Za-z0-9._~-]+)*/?")

# What can only be the book's own address, whatever stands there; in a notebook's JSON,
# too, where a quotation mark has a backslash before it.
_WORD = r"[^\s/\\\"'`()<>{}?#]+"
_FORMS = {
    "binder": rf"mybinder\.org/v2/gh/{_WORD}/{_WORD}/{_WORD}",
    "colab": rf"colab\.research\.google\.com/github/{_WORD}/{_WORD}/blob/{_WORD}",
    "workflows": rf"https://github\.com/{_WORD}/{_WORD}(?=/actions/workflows/)",
    "clone": rf"(?<=git clone )https://github\.com/{_WORD}/{_WORD}",
    "cell": r"(?<=REPOSITORY = )\\?\"[^\"\\]*\\?\"",
    "code": r"(?m:(?<=^repository-code: ).*$)",
    "page": r"https?://[^\s\\\"'`()<>{}]*?/(?=chapters/\d\d-[a-z0-9-]+\.html)",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the book's repository is, and where its site."""

    owner: str
    name: str
    branch: str
    site: str

    @property
    def repository(self) -> str:
        """The address of the repository."""
        return f"https://github.com/{self.owner}/{self.name}"

    @property
    def _binder(self) -> str:
        return f"mybinder.org/v2/gh/{self.owner}/{self.name}/{self.branch}"

    @property
    def _colab(self) -> str:
        home = "colab.research.google.com/github"
        return f"{home}/{self.owner}/{self.name}/blob/{self.branch}"

    def binder(self, path: str) -> str:
        """The address that opens a notebook on Binder, in JupyterLab."""
        return f"https://{self._binder}?urlpath=lab/tree/{path}"

    def colab(self, path: str) -> str:
        """The address that opens a notebook in Colab."""
        return f"https://{self._colab}/{path}"

    def repeated(self) -> dict[str, str]:
        """What stands, for each form of repetition, in the place of the address."""
        return {
            "binder": self._binder,
            "colab": self._colab,
            "page": self.site,
            "site": self.site.rstrip("/"),
            **dict.fromkeys(("workflows", "clone", "repository"), self.repository),
        }


def parse(url: str, *, branch: str = "main", site: str | None = None) -> Address:
    """Read the address of a repository; its site is GitHub's own unless one is given.

    Raises:
        BookError: one of them is not an address of the kind.

    Example:
        >>> parse("https://github.com/ann/regime").site
        'https://ann.github.io/regime/'
    """
    match = _GITHUB.fullmatch(url)
    if match is None:
        raise BookError(
            f"{url!r} is not the address of a repository on GitHub. "
            "It has the form https://github.com/OWNER/REPOSITORY."
        )
    owner, name = match["owner"], match["name"]
    host = f"{owner.lower()}.github.io"
    path = "" if name.lower() == host else f"{name}/"
    site = f"https://{host}/{path}" if site is None else site
    if not _SITE.fullmatch(site):
        raise BookError(f"{site!r} is not the address of a site, as https://HOST/PATH/")
    return Address(owner, name, branch, f"{site.rstrip('/')}/")


def read_address(root: Path) -> Address:
    """Read the address from ``_config.yml``.

    Raises:
        BookError: it is missing there, or not an address.
    """
    import yaml

    config = yaml.safe_load((root / CONFIG).read_text(encoding="utf-8"))
    try:
        url, branch = config["repository"]["url"], config["repository"]["branch"]
        return parse(url, branch=branch, site=config["html"]["baseurl"])
    except (KeyError, TypeError) as error:
        raise BookError(
            f"{CONFIG} lacks {error}: it has to say repository.url, "
            "repository.branch and html.baseurl."
        ) from None


def move(root: Path, url: str, site: str | None = None) -> Address:
    """Write another address in every place that has the old one; return it."""
    old = read_address(root)
    new = replace(parse(url, site=site), branch=old.branch)
    digests = {}
    for path, text in list(_rewritten(root, old, new)):
        before = file_sha256(path)
        write_text(path, text)
        digests[before] = file_sha256(path)
        print(f"{path.relative_to(root)}: rewritten")
    _update_digests(root / EXECUTIONS, digests)
    print(f"The book is at {new.repository}, its site at {new.site}")
    return new


def _update_digests(path: Path, digests: Mapping[str, str]) -> None:
    """Let the record of executions know the chapters again: what runs is the same."""
    if digests and path.exists():
        text = path.read_text(encoding="utf-8")
        known = re.compile("|".join(digests))
        write_text(path, known.sub(lambda match: digests[match.group()], text))


def address_problems(root: Path) -> list[str]:
    """Name the files whose address of the book is not that of ``_config.yml``."""
    here = read_address(root)
    return [
        f"{path.relative_to(root)} has another address than {CONFIG}: "
        f"run make address URL={here.repository}"
        for path, _ in _rewritten(root, here, here)
    ]


def require(root: Path, url: str, site: str | None = None) -> None:
    """Make sure that the book is where it says it is, before it is published there.

    Raises:
        BookError: the address in ``_config.yml`` is another.
    """
    here, there = read_address(root), parse(url, site=site)
    said, wanted = (f"{a.repository} and {a.site}" for a in (here, there))
    if said.lower() != wanted.lower():
        option = "" if site is None else f" SITE={there.site}"
        raise BookError(
            f"{CONFIG} says that the book is at {said}, but this is {wanted}. "
            f"Run: make address URL={there.repository}{option}, and commit."
        )


def _rewritten(root: Path, old: Address, new: Address) -> Iterator[tuple[Path, str]]:
    """Yield the files that mention another address than `new`, and their new text."""
    paths = {path for place in PLACES for path in root.glob(place)}
    for path in sorted(paths):
        text = path.read_text(encoding="utf-8")
        changed = _substitute(text, old, new)
        if changed != text:
            is_notebook = path.suffix == ".ipynb"
            yield path, _renamed_cells(changed) if is_notebook else changed


def _substitute(text: str, old: Address, new: Address) -> str:
    values = new.repeated()
    forms = {
        **_FORMS,
        "repository": rf"{re.escape(old.repository)}(?![\w-]|\.(?!git\b)\w)",
        "site": rf"{re.escape(old.site.rstrip('/'))}(?![\w-])",
    }

    def value(match: re.Match[str]) -> str:
        kind = match.lastgroup or ""
        if kind in ("cell", "code"):  # as it was quoted
            quote = re.match(r"\\?[\"']", match.group())
            mark = quote.group() if quote else ""
            return f"{mark}{new.repository}{mark}"
        return values[kind]

    # One pass, so that nothing new is taken for something old.
    pattern = "|".join(f"(?P<{kind}>{form})" for kind, form in forms.items())
    return re.sub(pattern, value, text)


def _renamed_cells(text: str) -> str:
    """Name a notebook's cells by their content again."""
    import nbformat

    return nbformat.writes(canonical(nbformat.reads(text, as_version=4))) + "\n"
