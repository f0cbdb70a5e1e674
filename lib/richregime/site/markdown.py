r"""Docstrings in Markdown, as the library writes them, turned into what Sphinx reads.

Names in backticks become cross-references, `$...$` and `$$...$$` mathematics, fences
code. Sections (Args, Returns ...) are left to napoleon; examples are the same in both.
"""

from __future__ import annotations

import re

# A paragraph at a time: no mark opens in one and closes in another.
_ANY = r"(?:(?!\n[ \t]*\n).)"
_MARKS = re.compile(
    rf"""
    (?P<example> ^[ ]*>>>[^\n]* (?:\n[ ]*\S[^\n]*)* )
    | ^(?P<indent>[ ]*) (?P<fence>```|~~~) (?P<language>\w*)\n
      (?P<body>.*?) ^[ ]*(?P=fence)$
    | \$\$ (?P<display>{_ANY}+?) \$\$ (?P<stop>[.,;:]?) [ ]*
    | (?P<ticks>`+) (?P<code>{_ANY}+?) (?P=ticks)
    | \$ (?P<math>(?!\s)(?:\\.|(?!\n[ ]*\n)[^$\\])+?) (?<!\s)\$
    | (?P<emphasis> (?<![\w*]) \*(?![\s*])[^*\n]+\* (?!\w) )
    | (?P<special> [\\*|] | _(?!\w) )
    | (?P<list> (?<=\S)\n (?=[ ]*-[ ]) )
    """,
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?:\(\))?")


def to_rest(text: str) -> str:
    """Return a docstring without common indentation in reStructuredText."""
    return _MARKS.sub(_mark, text)


def _mark(match: re.Match[str]) -> str:
    if match["display"]:
        return _block(match, ".. math::", match["display"] + match["stop"])
    if match["fence"]:
        language = f".. code-block:: {match['language'] or 'text'}"
        return _block(match, language, match["body"])
    if match["code"]:
        code = " ".join(match["code"].split())
        named = match["ticks"] == "`" and _NAME.fullmatch(code)
        return _apart(match, f":py:name:`{code}`" if named else f"``{code}``")
    if match["math"]:
        # On one line: napoleon looks for the colon behind a name line by line.
        return _apart(match, f":math:`{' '.join(match['math'].split())}`")
    if match["list"]:  # Markdown needs no empty line before it
        return "\n\n"
    return f"\\{match['special']}" if match["special"] else match[0]


def _block(match: re.Match[str], directive: str, content: str) -> str:
    """Return a directive as deep as the line in which it is written."""
    line = match.string[match.string.rfind("\n", 0, match.start()) + 1 :]
    indent = line[: len(line) - len(line.lstrip())]
    lines = (line.removeprefix(indent) for line in content.strip("\n").split("\n"))
    if match["display"]:
        lines = (line.strip() for line in lines)
    body = "".join(f"{indent}   {line}\n" for line in lines)
    return f"\n\n{indent}{directive}\n\n{body}\n{indent}"


def _apart(match: re.Match[str], text: str) -> str:
    """Separate a mark from the word around it, which would undo it."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    before = "\\ " if re.search(r"\w\Z", before) else ""
    return f"{before}{text}" + ("\\ " if re.match(r"\w", after) else "")
