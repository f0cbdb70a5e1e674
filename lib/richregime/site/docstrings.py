r"""Docstrings in Markdown, as the library writes them, turned into what Sphinx reads.

`code` becomes a link where it names something documented, `$...$` and `$$...$$` become
mathematics, fences become code. Sections (Args, Returns ...) are left to napoleon, and
examples are the same in both languages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Link = Callable[[str], str | None]
"""From a name in a docstring to the full name of what it is, if that is documented."""

# A paragraph at a time: no mark opens in one and closes in another.
_ANY = r"(?:(?!\n[ \t]*\n).)"
_INLINE = re.compile(
    rf"(?P<ticks>`+)(?P<code>{_ANY}+?)(?P=ticks)(?!`)"
    rf"|\$(?P<math>(?![\s$])(?:\\.|(?!\n[ \t]*\n)[^$\\])+?)(?<!\s)\$"
    r"|(?<![\w*])(?P<emphasis>\*(?![\s*])[^*\n]+(?<!\s)\*)(?![\w*])",
    re.DOTALL,
)
_DISPLAY = re.compile(rf"\$\$(?P<display>{_ANY}+?)\$\$(?P<stop>[.,;:]?)", re.DOTALL)
# What stands as it is: examples up to an empty line, and fenced code.
_VERBATIM = re.compile(
    r"(?P<example>^[ \t]*>>>.*(?:\n[ \t]*\S.*)*)"
    r"|^(?P<indent>[ \t]*)(?P<fence>```+|~~~+)(?P<language>\S*)[^\n]*\n"
    r"(?P<body>(?:.*\n)*?)[ \t]*(?P=fence)[ \t]*$",
    re.MULTILINE,
)
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?:\(\))?")
_LIST = re.compile(
    r"(?m)^(?P<before>(?![ \t]*(?:-|\d+\.) )[^\n]*\S[^\n]*)\n(?=[ \t]*- )"
)
# Marks of reStructuredText that mean nothing in the docstrings.
_SPECIAL = re.compile(r"[\\*|]|_(?!\w)")
_CLOSERS = "'\")]}>-/\\:.,;!? \t\n\u2013\u2014\u2019\u201d"
_OPENERS = "'\"([{<-/: \t\n\u2013\u2014\u2018\u201c"


def to_rest(lines: Sequence[str], link: Link = lambda name: None) -> list[str]:
    """Return the lines of a docstring in reStructuredText.

    Args:
        lines: the docstring, without common indentation.
        link: says which names lead somewhere.
    """
    text, out, end = "\n".join(lines), [], 0
    for match in _VERBATIM.finditer(text):
        out += [_prose(text[end : match.start()], link), _verbatim(match)]
        end = match.end()
    return "".join([*out, _prose(text[end:], link)]).split("\n")


def _verbatim(match: re.Match[str]) -> str:
    if match["example"]:
        return match["example"]
    indent = match["indent"]
    body = (f"{indent}   {line}"[len(indent) :] for line in match["body"].splitlines())
    body = "\n".join(f"{indent}{line}".rstrip() for line in body)
    return f"{indent}.. code-block:: {match['language'] or 'text'}\n\n{body}"


def _prose(text: str, link: Link) -> str:
    out, end = [], 0
    for match in _DISPLAY.finditer(text):
        indent = " " * _indentation(text, match.start())
        out.append(_inline(text[end : match.start()], link).rstrip(" "))
        formula = (line.strip() for line in match["display"].splitlines())
        stop = match["stop"]
        body = "\n".join(f"{indent}   {line}" for line in formula if line)
        out.append(f"\n\n{indent}.. math::\n\n{body}{stop}\n\n{indent}")
        end = match.end()
        while end < len(text) and text[end] in " \n":
            end += 1
        if "\n" in text[match.end() : end]:
            # What follows has its own indentation.
            end = text.rindex("\n", match.end(), end) + 1
            out[-1] = out[-1].removesuffix(indent)
    return "".join([*out, _inline(text[end:], link)])


def _indentation(text: str, position: int) -> int:
    line = text[text.rfind("\n", 0, position) + 1 :]
    return len(line) - len(line.lstrip(" "))


def _inline(text: str, link: Link) -> str:
    # Markdown needs no empty line before a list.
    text = _LIST.sub(lambda match: f"{match['before']}\n\n", text)
    out, end = [], 0
    for match in _INLINE.finditer(text):
        before = text[end : match.start()]
        out.append(_SPECIAL.sub(r"\\\g<0>", before))
        if match.start() and text[match.start() - 1] not in _OPENERS:
            out.append("\\ ")
        out.append(_mark(match, link))
        end = match.end()
        if end < len(text) and text[end] not in _CLOSERS:
            out.append("\\ ")
    return "".join([*out, _SPECIAL.sub(r"\\\g<0>", text[end:])])


def _mark(match: re.Match[str], link: Link) -> str:
    if match["emphasis"]:
        return match["emphasis"]
    if match["math"]:
        # On one line: napoleon looks for the colon behind a name line by line.
        return f":math:`{' '.join(match['math'].split())}`"
    code = " ".join(match["code"].split())
    target = link(code.removesuffix("()")) if _NAME.fullmatch(code) else None
    return f":py:obj:`{code} <{target}>`" if target else f"``{code}``"
