"""A reader of the built site: one page in a browser, and what went wrong on it."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
SCREENS = [(w, theme) for w in (1280, 390) for theme in ("light", "dark")]

SOURCES = (
    *("*.md", "*.yml", "*.bib", "chapters/*.ipynb", "library/*", "results/claims.json"),
    "results/verdict-*",
    *("assets/**/*", "lib/richregime/site/**/*", "lib/richregime/pages.py"),
)

# MathJax sets equations after the page has loaded; the promise is there from the start.
SET = "() => window.MathJax?.startup?.promise?.then(() => true)"

STICKING_OUT = """() => {
  const root = document.documentElement;
  if (root.scrollWidth <= root.clientWidth) return '';
  const held = (node) => {
    const { overflowX, position } = getComputedStyle(node);
    if (node === document.body) return false;
    return overflowX !== 'visible' || position === 'fixed' || held(node.parentElement);
  };
  const right = (node) => Math.round(node.getBoundingClientRect().right);
  const wide = [...document.querySelectorAll('body *')].filter((node) =>
    right(node) > root.clientWidth + 1 && !held(node));
  const told = (node) => `${right(node)}: ${node.outerHTML.slice(0, 160)}`;
  return [`${root.clientWidth} pixels`, ...wide.slice(0, 5).map(told)].join('\\n');
}"""


def stale():
    """Return a source that is younger than the built site; None if there is none."""
    built = (SITE / "index.html").stat().st_mtime
    files = (path for pattern in SOURCES for path in ROOT.glob(pattern))
    texts = (p for p in files if p.is_file() and "__pycache__" not in p.parts)
    return next((path for path in texts if path.stat().st_mtime > built), None)


def pages():
    """The addresses of the pages in the table of contents, in its order."""
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    names = re.findall(r"^\W*(?:root|file): *(\S+)$", toc, flags=re.MULTILINE)
    return [f"{name}.html" for name in names]


class Reader:
    """One page in a context of its own.

    `errors` are the console's errors and warnings, exceptions, and requests that failed
    or were answered with an error; `outside` are requests that left this machine.
    """

    def __init__(self, browser, base, width=1280, theme="light", **more):
        self.base = base
        self.scripts = more.get("java_script_enabled", True)
        size = {"width": width, "height": 800}
        self.context = browser.new_context(viewport=size, color_scheme=theme, **more)
        self.page = self.context.new_page()
        self.errors, self.requests, self.answers = [], [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("requestfailed", self._failed)
        self.page.on("request", lambda asked: self.requests.append(asked.url))
        self.page.on("response", self._answered)

    def _said(self, message):
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _failed(self, asked):
        self.errors.append(f"{asked.url}: {asked.failure}")

    def _answered(self, answer):
        self.answers.append(answer)
        if answer.status >= 400:
            self.errors.append(f"{answer.url}: {answer.status}")

    def open(self, path="index.html", fragment=""):
        """Open a page by its address in the site, and wait until it is set."""
        self.page.goto(f"{self.base}/{path}{fragment}")
        self.page.wait_for_load_state("load")
        if self.scripts and self.page.locator("script[src*='/mathjax/']").count():
            self.page.wait_for_function(SET)
        return self

    @property
    def outside(self):
        own = self.base, "data:", "blob:"
        return [url for url in self.requests if not url.startswith(own)]

    def sticking_out(self):
        """What makes the page wider than the screen, without its own scroll bar."""
        return self.page.evaluate(STICKING_OUT)

    def assert_well(self):
        """Nothing went wrong, nothing left this machine, nothing sticks out."""
        assert self.errors == []
        assert self.outside == []
        assert self.sticking_out() == ""

    def tab_to(self, selector, most=60):
        """Reach a control with the Tab key alone."""
        for _ in range(most):
            if self.page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"no way to {selector} by Tab")

    def press(self, selector, key):
        self.tab_to(selector)
        self.page.keyboard.press(key)
