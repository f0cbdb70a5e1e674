"""What the site takes from the chapters' files."""

import re
from pathlib import Path

_HEADER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_TITLE = re.compile(r"^# +(.+?) *$", re.MULTILINE)


def title(source: Path) -> str:
    """Return the title of a chapter's text.

    Raises:
        ValueError: it has none.
    """
    text = _HEADER.sub("", source.read_text(encoding="utf-8"))
    found = _TITLE.search(text)
    if not found:
        raise ValueError(f"{source.name} has no title: begin it with a line '# ...'")
    return found.group(1)
