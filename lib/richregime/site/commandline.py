"""The directive `command-help`: what a command takes, as its own parser says it."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from richregime import cli

_WIDTH = 60  # of a line of usage, in characters


def setup(app: Any) -> None:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)


class CommandHelp(SphinxDirective):
    """Usage of a command, then its options or its own commands, each with its help."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the usage and a list of definitions."""
        try:
            parser = find(self.arguments[0])
        except KeyError as error:
            raise self.error(
                f"{self.arguments[0]!r} is no command: {error} is unknown"
            ) from error
        usage = nodes.literal_block(text := usage_of(parser), text, language="text")
        found = list(entries(parser))
        return [usage, *([_definitions(found)] if found else [])]


def programs() -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the programs, by what a user types."""
    parser = cli._parser()
    return {parser.prog: parser}


def find(command: str) -> argparse.ArgumentParser:
    """Return the parser of a program, or of one of its commands.

    Raises:
        KeyError: there is no such program or command.
    """
    known = programs()
    program = next((name for name in known if f"{command} ".startswith(f"{name} ")), "")
    parser = known[program or command]
    for word in command.removeprefix(program).split():
        parser = commands(parser)[word][0]
    return parser


def commands(
    parser: argparse.ArgumentParser,
) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Return the commands of a program by name, each with what it does in a line."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {one.dest: one.help or "" for one in action._choices_actions}
            return {
                name: (one, told.get(name, "")) for name, one in action.choices.items()
            }
    return {}


def usage_of(parser: argparse.ArgumentParser) -> str:
    """Return the usage in lines that fit a page."""
    parser.formatter_class = functools.partial(argparse.HelpFormatter, width=_WIDTH)
    return parser.format_usage().removeprefix("usage: ").strip()


def entries(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield the options and arguments of a command, then its own commands."""
    for action in parser._actions:
        skipped = argparse._HelpAction | argparse._SubParsersAction
        if not isinstance(action, skipped):
            yield _term(action), (action.help or "") % vars(action)
    for name, (_, told) in commands(parser).items():
        yield name, told


def _term(action: argparse.Action) -> str:
    """Return an argument as it is typed, with what has to follow it."""
    choices = ",".join(map(str, action.choices or ()))
    value = action.metavar or (f"{{{choices}}}" if choices else action.dest.upper())
    if not action.option_strings:
        return action.dest
    flag = ", ".join(action.option_strings)
    return flag if action.nargs == 0 else f"{flag} {value}"


def _definitions(found: list[tuple[str, str]]) -> nodes.definition_list:
    return nodes.definition_list(
        "",
        *(
            nodes.definition_list_item(
                "",
                nodes.term("", "", nodes.literal("", term)),
                nodes.definition("", nodes.paragraph("", told)),
            )
            for term, told in found
        ),
    )
