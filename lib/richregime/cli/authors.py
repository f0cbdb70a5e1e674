"""Commands for whoever writes the book: executing, checking, building, beginning."""

from __future__ import annotations

import argparse
from typing import Any

from richregime.chapters import BookError, find_root


def add(commands: Any) -> None:
    """Add the commands to those of the program."""
    execute = commands.add_parser("execute", help="re-execute chapters in place")
    execute.add_argument(
        "chapters", nargs="*", help="names or numbers, as 3; none means all"
    )
    execute.set_defaults(command=_execute)
    check = commands.add_parser(
        "check", help="check the committed chapters without running them"
    )
    check.set_defaults(command=_check)
    drawn = commands.add_parser("map", help="write what the map takes from the library")
    drawn.set_defaults(command=_map)
    simulated = commands.add_parser(
        "rates", help="simulate how often verdicts err, and write that down"
    )
    simulated.set_defaults(command=_rates)
    where = commands.add_parser("address", help="say, check or change the address")
    where.add_argument("url", nargs="?", help="https://github.com/OWNER/REPOSITORY")
    where.add_argument("--site", help="the site, if it is not GitHub's own")
    where.add_argument("--check", action="store_true", help="compare, change nothing")
    where.set_defaults(command=_address)
    site = commands.add_parser("html", help="render the site into _build/html")
    site.set_defaults(command=_html)
    printed = commands.add_parser("pdf", help="print the site as one PDF")
    printed.set_defaults(command=_pdf)
    new = commands.add_parser("new", help="begin a chapter from the template")
    new.add_argument("name", help="as 08-my-paper")
    new.add_argument("--title", help="its heading")
    new.add_argument("--paper", metavar="KEY", help="of the paper in references.bib")
    new.add_argument(
        "--claims", metavar="LETTERS", help="what ids of claims begin with, as mp"
    )
    new.set_defaults(command=_new)


def _execute(options: argparse.Namespace) -> None:
    from richregime import commands

    commands.execute(find_root(options.root), options.chapters)


def _check(options: argparse.Namespace) -> None:
    from richregime import commands

    commands.status(find_root(options.root))


def _map(options: argparse.Namespace) -> None:
    from richregime.map import write_map

    write_map(find_root(options.root))


def _rates(options: argparse.Namespace) -> None:
    from richregime.rates import write_rates

    write_rates(find_root(options.root))


def _address(options: argparse.Namespace) -> None:
    from richregime import address

    root = find_root(options.root)
    if options.url is not None and not options.check:
        address.move(root, options.url, options.site)
    print("The book is at {}, its site at {}".format(*address.read_address(root)))
    given = (options.url, options.site) if options.check else ()
    if problems := address.address_problems(root, *given):
        raise BookError("\n".join(problems))


def _html(options: argparse.Namespace) -> None:
    from richregime import pages

    pages.html(find_root(options.root))


def _pdf(options: argparse.Namespace) -> None:
    from richregime.pdf import pdf

    pdf(find_root(options.root))


def _new(options: argparse.Namespace) -> None:
    from richregime.new import new_chapter

    new_chapter(
        find_root(options.root),
        options.name,
        title=options.title,
        paper=options.paper,
        claims=options.claims,
    )
