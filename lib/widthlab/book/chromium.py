"""The Chromium that is on this machine: it prints the book and reads it in tests."""

import os
import shutil
from pathlib import Path

NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"

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
        FileNotFoundError: if ``CHROMIUM`` names no program.
    """
    named = os.environ.get("CHROMIUM")
    if named:
        if found := shutil.which(named):
            return found
        raise FileNotFoundError(
            f"CHROMIUM is {named!r}, which is not a program: name the file of a "
            "Chromium or Chrome, or leave the variable out."
        )
    macos = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    return next(filter(None, map(shutil.which, (*NAMES, str(macos)))), None)
