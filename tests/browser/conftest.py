"""What the tests of the built site share: the site, a server, a browser, readers.

They need Python's playwright, a Chromium and a site that is not older than its sources
(make html), and are skipped without; with WIDTHLAB_REQUIRE_BROWSER=1 they fail instead.
"""

import os
import threading
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from richregime.chapters import BookError
from richregime.chromium import chromium

pytest.register_assert_rewrite("reading")

from reading import SCREENS, SITE, Reader, stale  # noqa: E402


def lacking(what):
    """Skip, or fail where these tests must run."""
    if os.environ.get("WIDTHLAB_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{what} (and WIDTHLAB_REQUIRE_BROWSER is 1)", pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def site():
    """The folder of the built site."""
    if not (SITE / "index.html").exists():
        lacking("the site is not built: make html")
    if young := stale():
        lacking(f"{young.name} is younger than the site: make html")
    return SITE


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests."""
    with ExitStack() as stack:
        try:
            browser = stack.enter_context(chromium())
        except BookError as error:
            lacking(str(error))
        yield browser


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a page that is closed leaves its requests


@pytest.fixture(scope="session")
def address(site):
    """Where the site is served, as `make serve` does it."""
    server = Server(("127.0.0.1", 0), partial(Quiet, directory=site))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=SCREENS, ids=lambda screen: f"{screen[0]}-{screen[1]}")
def screen(request):
    """Width and theme, for `reader(*screen)`: desktop and phone, light and dark."""
    return request.param


@pytest.fixture
def reader(browser, address):
    """Return readers: `reader(width, theme).open("library/map.html")`.

    With `files=True` they read the site's files without a server.
    """
    opened = []

    def new(*args, files=False, **more):
        base = SITE.as_uri() if files else address
        opened.append(Reader(browser, base, *args, **more))
        return opened[-1]

    yield new
    for one in opened:
        one.context.close()
