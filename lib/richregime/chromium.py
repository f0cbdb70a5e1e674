"""The Chromium that is on this machine: it prints the book and reads it in tests."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from richregime.chapters import BookError

NAMES = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)

FLAGS = (
    "--no-sandbox",  # containers forbid the sandbox; only our own pages are opened
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # No host but this machine has an address: the book must not need the network.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
"""What Chromium is started with: nothing of its own goes to the network."""


def find_chromium() -> str | None:
    """Return the program that ``CHROMIUM`` names, else the first one on the path.

    Raises:
        BookError: if ``CHROMIUM`` names no program.
    """
    named = os.environ.get("CHROMIUM")
    if named and not shutil.which(named):
        raise BookError(
            f"CHROMIUM is {named!r}, which is not a program: name the file of a "
            "Chromium or Chrome, or leave the variable out."
        )
    return next(filter(None, map(shutil.which, (named,) if named else NAMES)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Run that Chromium, by Playwright.

    Raises:
        BookError: if either is not installed; the message says how to get it.
    """
    program = find_chromium()
    if program is None:
        raise BookError(
            "Chromium or Chrome is needed, and none is on the path: install one "
            "(on Debian: apt-get install chromium), or name its file with CHROMIUM=..."
        )
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise BookError(
            "Python's playwright is needed, which requirements.lock has."
        ) from None
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()
