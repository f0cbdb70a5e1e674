"""Command line: ``python -m widthlab.book COMMAND``."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from widthlab.book import address, commands, pages
from widthlab.book.chapters import BookError, find_root
from widthlab.book.map import write_map
from widthlab.book.new import new_chapter
from widthlab.book.pdf import pdf


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 1 if something needs mending."""
    options = _parser().parse_args(arguments)
    # A kill is an interruption too: kernels are shut down and the store is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        root = find_root(options.root)
        if options.command == "reproduce":
            commands.reproduce(root)
        elif options.command == "execute":
            commands.execute(root, options.chapters)
        elif options.command == "verify":
            commands.verify(root, options.claims)
        elif options.command == "status":
            commands.status(root)
        elif options.command == "map":
            write_map(root)
        elif options.command == "address":
            _address(root, options)
        elif options.command == "html":
            pages.html(root)
        elif options.command == "pdf":
            pdf(root)
        elif options.command == "new":
            new_chapter(
                root,
                options.name,
                title=options.title,
                paper=options.paper,
                claims=options.claims,
            )
    except BookError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        if options.command == "reproduce":
            print("Run make reproduce again to go on from here.", file=sys.stderr)
        return 130
    return 0


def _address(root: Path, options: argparse.Namespace) -> None:
    if options.url is None:
        here = address.read_address(root)
        print(f"The book is at {here.repository}, its site at {here.site}")
    elif options.check:
        address.require(root, options.url, options.site)
    else:
        address.move(root, options.url, options.site)
    if problems := address.address_problems(root):
        raise BookError("\n".join(problems))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m widthlab.book")
    parser.add_argument("--root", type=Path, default=Path(), help="the book's folder")
    command = parser.add_subparsers(dest="command", required=True)
    command.add_parser("reproduce", help="run all chapters from scratch and compare")
    execute = command.add_parser("execute", help="re-execute chapters in place")
    execute.add_argument("chapters", nargs="*", help="chapter names; none means all")
    verify = command.add_parser("verify", help="compare verdicts with the committed")
    verify.add_argument("claims", type=Path, help="a claims file")
    command.add_parser("status", help="check the committed chapters without running")
    command.add_parser("map", help="write what the map takes from the library")
    where = command.add_parser("address", help="say, check or change the address")
    where.add_argument("url", nargs="?", help="https://github.com/OWNER/REPOSITORY")
    where.add_argument("--site", help="the site, if it is not GitHub's own")
    where.add_argument("--check", action="store_true", help="compare, change nothing")
    command.add_parser("html", help="render the site into _build/html")
    command.add_parser("pdf", help="print the site as one PDF into _build/pdf")
    new = command.add_parser("new", help="begin a chapter from the template")
    new.add_argument("name", help="as 06-my-paper")
    new.add_argument("--title", help="its heading")
    new.add_argument("--paper", metavar="KEY", help="of the paper in references.bib")
    new.add_argument(
        "--claims", metavar="LETTERS", help="what ids of claims begin with, as mp"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
