"""The book's one address, which ``_config.yml`` holds and many files repeat."""

import re
from pathlib import Path
from typing import NamedTuple

from widthlab.files import write_text

from richregime.chapters import BookError, canonical
from richregime.executions import EXECUTIONS, file_sha256

CONFIG = Path("_config.yml")
PLACES = (
    *"*.md *.cff *.json *.yml chapters/*.* library/*.md library/*.ipynb".split(),
    ".github/**/*.*",
)
# What can only be the book's own, whatever stands there.
_OURS = re.compile(
    r"(?:mybinder\.org/v2/gh/|colab\.research\.google\.com/github/|(?:git clone |"
    r"REPOSITORY = \\?\"|repository-code: \"?)https://github\.com/)([\w-]+/[\w.-]+)"
    r"|(https?://[^\s\\\"'`()<>{}]*?/)chapters/\d\d-[a-z0-9-]+\.html"
)


class Address(NamedTuple):
    """The repository on GitHub, as OWNER/NAME, and the address of the site."""

    name: str
    site: str


def read_address(
    root: Path, url: str | None = None, site: str | None = None
) -> Address:
    """Read an address, by default that of ``_config.yml``.

    Raises:
        BookError: it is missing, or not an address of a repository and a site.
    """
    import yaml

    if url is None:
        config = yaml.safe_load((root / CONFIG).read_text(encoding="utf-8"))
        url = config.get("repository", {}).get("url")
        site = config.get("html", {}).get("baseurl")
    found = re.fullmatch(r"https://github\.com/([\w-]+/[\w.-]+?)(\.git)?/?", url or "")
    owner, _, name = found[1].partition("/") if found else ("", "", "")
    site = site or f"https://{owner.lower()}.github.io/{name}"  # GitHub's own
    if not found or not re.fullmatch(r"https://[\w.:/~-]+", site):
        raise BookError(
            f"{url} and {site} are not the addresses of a repository and of its site, "
            "https://github.com/OWNER/REPOSITORY and https://HOST/PATH/."
        )
    return Address(found[1], f"{site.rstrip('/')}/")


def move(root: Path, url: str, site: str | None = None) -> None:
    """Write another address in every place that has the old one."""
    import nbformat

    old, new = read_address(root), read_address(root, url, site)
    names = {old.name: new.name, old.site[:-1]: new.site[:-1]}
    either = "|".join(map(re.escape, names))
    known = re.compile(rf"(?<![\w-])(?:{either})(?![\w-]|\.(?!git\b)\w)")
    executions = root / EXECUTIONS
    digests = executions.read_text("utf-8") if executions.exists() else "{}\n"
    for path in _places(root):
        before, digest = path.read_text(encoding="utf-8"), file_sha256(path)
        text = known.sub(lambda match: names[match[0]], before)
        if text != before and path.suffix == ".ipynb":  # cells are named by content
            text = nbformat.writes(canonical(nbformat.reads(text, 4))) + "\n"
        if text != before:
            write_text(path, text)
            digests = digests.replace(digest, file_sha256(path))
            print(f"{path.relative_to(root)}: rewritten")
    write_text(executions, digests)  # what runs is the same


def address_problems(root: Path, *other: str | None) -> list[str]:
    """Name what has another address than ``_config.yml``: a file, or one given."""
    here = read_address(root)
    found = {
        (f"{path.relative_to(root)}", match[1] or match[2])
        for path in _places(root)
        for match in _OURS.finditer(path.read_text(encoding="utf-8"))
    }
    found |= {("where it is to be", text) for text in read_address(root, *other)}
    ours = {text.lower() for text in here}
    return [
        f"{place}: {text}, but {CONFIG} says {here.name}, {here.site} (make address)"
        for place, text in sorted(found)
        if text.removesuffix(".git").lower() not in ours
    ]


def _places(root: Path) -> list[Path]:
    found = {path for place in PLACES for path in root.glob(place)}
    return sorted(path for path in found if path.is_file())
