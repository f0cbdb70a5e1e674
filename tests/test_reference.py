"""The library's reference: what is on its pages, and how docstrings become pages.

The pages are read by Sphinx once, on their own, without a theme or the chapters; what
is checked is the tree of each page, from which any site is written.
"""

import importlib
import inspect
import itertools
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import widthlab
import yaml
from richregime.cli import main
from richregime.site.markdown import to_rest

ROOT = Path(__file__).resolve().parents[1]

BUILD = """
import gc, json, shutil, sys
from io import StringIO
import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

gc.disable()  # nothing of this dies young, and trees are large
root, out = sys.argv[1:]
source = f"{out}/source"  # the book's whole folder would be looked through for pages
shutil.copytree(f"{root}/library", f"{source}/library")
with open(f"{root}/_config.yml") as file:
    config = yaml.safe_load(file)["sphinx"]["config"]
ours = ("autodoc", "napoleon", "python", "add_module", "toc_object", "nitpick")
warned = StringIO()
app = Sphinx(source, None, f"{out}/html", f"{out}/trees", "dummy", {
    **{name: value for name, value in config.items() if name.startswith(ours)},
    "extensions": ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon",
                   "sphinx_argparse_cli", "richregime.site.reference"],
    "myst_enable_extensions": ["dollarmath"],
    "root_doc": "library/reference", "nitpicky": True,
    "include_patterns": ["library/reference.md", "library/reference/*.md"],
    # Pages that are not built here.
    "suppress_warnings": ["myst.xref_missing", "ref.doc", "toc.not_readable"],
}, status=None, warning=warned)
app.builder.read()  # and no more: trees are resolved below, one by one
app.env.check_consistency()

apart = (nodes.literal, nodes.literal_block, nodes.doctest_block, nodes.math,
         nodes.math_block, addnodes.desc_signature, nodes.strong, nodes.raw)
pages = {}
for page in sorted(app.env.found_docs):
    tree = app.env.get_and_resolve_doctree(page, app.builder)
    kept = (text for text in tree.findall(nodes.Text)
            if not any(isinstance(up, apart) for up in ancestors(text)))
    pages[page] = {
        "text": "\\n".join(map(str, kept)),
        "whole": tree.astext(),
        "levels": [depth(title) for title in tree.findall(nodes.title)],
        "signatures": [one.astext() for one in
                       tree.findall(addnodes.desc_signature)],
        "problems": [node.astext() for node in tree.findall(nodes.problematic)],
        "math": sum(1 for _ in tree.findall(nodes.math)),
        "links": [node.get("reftitle") or node.get("refid") for node in
                  tree.findall(nodes.reference)],
    }
from jax._src import xla_bridge
said = warned.getvalue().splitlines()
json.dump({
    # The book's own table of contents is not read here.
    "warnings": [line for line in said if "in any toctree" not in line],
    "pages": pages,
    "objects": {name: one.docname for name, one in
                app.env.get_domain("py").objects.items()},
    "backends": xla_bridge.backends_are_initialized(),
}, sys.stdout)
"""
HELPERS = """
def ancestors(node):
    while node := node.parent:
        yield node

def depth(node):
    return sum(1 for up in ancestors(node) if up.tagname == "section")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("reference")
    (out / "build.py").write_text(HELPERS + BUILD)
    done = subprocess.run(
        [sys.executable, out / "build.py", ROOT, out],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=out,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def modules():
    """The library's public modules."""
    found = pkgutil.walk_packages(widthlab.__path__, "widthlab.")
    names = (one.name for one in found)
    return [n for n in names if not any(p.startswith("_") for p in n.split("."))]


def public():
    """What others may import: full names with the object, where it is documented.

    A name that a package exports is documented there, else where it is defined.
    """
    there = {
        name: sys.modules.get(name) or importlib.import_module(name)
        for name in modules()
    }
    for name, module in there.items():
        around = there.get(name.rpartition(".")[0])
        exported = set(getattr(around, "__all__", ()))
        for word in getattr(module, "__all__", None) or vars(module):
            found = getattr(module, word)
            own = getattr(found, "__module__", "").startswith(
                name if hasattr(module, "__path__") else (name,)
            )
            if inspect.ismodule(found) or word.startswith("_") or word in exported:
                continue
            if own and (inspect.isclass(found) or inspect.isroutine(found)):
                yield f"{name}.{word}", found


PUBLIC = dict(public())


def test_pages_are_built_without_a_warning_or_a_device(built):
    assert built["warnings"] == []
    assert [p for page in built["pages"].values() for p in page["problems"]] == []
    assert built["backends"] is False


def test_every_public_name_is_on_a_page(built):
    """A new module needs its lines on a page, a new name a docstring to get there."""
    assert len(PUBLIC) > 200
    assert sorted(set(PUBLIC) - set(built["objects"])) == []


def test_every_public_member_is_on_its_page(built):
    wanted = {
        f"{full}.{name}"
        for full, found in PUBLIC.items()
        if inspect.isclass(found)
        for name, member in vars(found).items()
        if not name.startswith("_")
        and isinstance(member, property | classmethod | staticmethod | type(modules))
    }
    wanted |= {f"widthlab.parametrization.Role.{name}" for name in ("INPUT", "HIDDEN")}
    assert len(wanted) > 100
    assert sorted(wanted - set(built["objects"])) == []


def test_nothing_private_is_on_a_page(built):
    assert [name for name in built["objects"] if "._" in name] == []


def test_no_mark_is_left_unrendered(built):
    for page, seen in built["pages"].items():
        stray = re.findall(r".*(?:[$`]|:math:|:py:|\\[a-z]|\*\*|>>>).*", seen["text"])
        assert stray == [], page
    assert sum(seen["math"] for seen in built["pages"].values()) > 300


def test_the_first_line_of_every_docstring_is_on_its_page(built):
    """Napoleon would make a type of what stands before a colon."""
    for full, found in PUBLIC.items():
        first = inspect.getdoc(found).splitlines()[0]
        plain = max(re.split(r"\$[^$]*\$?|`[^`]*`|['\"*]", first), key=len).strip()
        page = built["pages"][built["objects"][full]]
        assert plain in " ".join(page["text"].split()), full


def test_signatures_are_those_of_the_source_and_lead_to_types(built):
    shown = [one for page in built["pages"].values() for one in page["signatures"]]
    assert "property normalises: bool" in shown
    assert [one for one in shown if "(self" in one or "(cls" in one] == []
    assert [one for one in shown if "jaxlib" in one or "factory" in one] == []
    (mlp,) = (one for one in shown if one.startswith("mlp("))
    assert "x1: Float[AnyArray, 'n1 input']" in mlp and "-> Kernels" in mlp.replace(
        "→", "->"
    )
    links = built["pages"]["library/reference/experiments"]["links"]
    wanted = ("training.schedules.Schedule", "data.DataSpec", "data.spec.DataSpec")
    assert sum(f"widthlab.{name}" in links for name in wanted) >= 2


def test_headings_are_in_order(built):
    for page, seen in built["pages"].items():
        levels = seen["levels"]
        assert levels[0] == 1 and levels.count(1) == 1, page
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels)), page


def test_every_page_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = re.findall(r"library/reference/[\w-]+", json.dumps(toc))
    there = (ROOT / "library" / "reference").glob("*.md")
    assert sorted(files) == sorted(f"library/reference/{p.stem}" for p in there)


def test_documented_arguments_and_fields_exist():
    for full, found in PUBLIC.items():
        section = "Attributes" if inspect.isclass(found) else "Args"
        text = inspect.getdoc(found)
        listed = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
        named = re.findall(r"^    \**(\w+):", listed[1] if listed else "", re.MULTILINE)
        if inspect.isclass(found):
            known = {*dir(found), *inspect.get_annotations(found)}
            known |= set(re.findall(r"self\.(\w+)", inspect.getsource(found)))
        else:
            known = set(inspect.signature(found).parameters)
        assert set(named) <= known, full


def test_what_is_returned_is_not_taken_for_a_type():
    """Napoleon would, where the first line of the section has a colon."""
    for full, definition in PUBLIC.items():
        found = re.search(r"^Returns:\n(.*)", inspect.getdoc(definition), re.M)
        text = re.sub(r"`[^`]*`|\$[^$]*\$", "", found[1] if found else "")
        assert ":" not in text, f"{full}: write the first line without a colon"


# --- docstrings


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("size $n^{-1/2}$, say", r"size :math:`n^{-1/2}`, say"),
        (
            "the $k$th and $d$-dimensional",
            r"the :math:`k`\ th and :math:`d`-dimensional",
        ),
        ("Beta$(a)$", r"Beta\ :math:`(a)`"),
        ("$a\n    b$", ":math:`a b`"),
        ("5 $ and 3 $ more", "5 $ and 3 $ more"),
        ("`lr` and `f(x)`s", r":py:name:`lr` and ``f(x)``\ s"),
        ("`make run`", "``make run``"),
        ("|x| * y_ and a_b", r"\|x\| \* y\_ and a_b"),
        ("*Seeds.* here", "*Seeds.* here"),
        (r"a \ b", r"a \\ b"),
        ("these:\n- one", "these:\n\n- one"),
        (
            "Say $x$.\n\n>>> f('$a$')\n'*'\n\n$y$",
            "Say :math:`x`.\n\n>>> f('$a$')\n'*'\n\n:math:`y`",
        ),
    ],
)
def test_inline_marks(markdown, expected):
    assert to_rest(markdown) == expected


def test_a_display_stands_alone_and_keeps_its_place():
    found = to_rest(
        "Args:\n    x: with\n\n        $$a\n          - b.$$\n\n        more"
    )
    assert found.split("\n.. ")[0].startswith("Args:\n    x: with\n")
    assert "\n        .. math::\n\n           a\n           - b.\n" in found
    assert found.endswith("\n        more")
    flat = re.sub(r"\n\s*\n+", "\n\n", to_rest("where $$x$$, and"))
    assert flat == "where \n\n.. math::\n\n   x,\n\nand"


def test_fences_are_code():
    assert to_rest("~~~text\n```\n$a$ *\n```\n~~~").split() == (
        ".. code-block:: text ``` $a$ * ```".split()
    )


# --- commands


def test_every_command_is_on_its_page_with_its_options(built, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert {"run", "status", "html", "fetch"} <= set(commands)
    page = built["pages"]["library/reference/commands"]["whole"]
    for command in commands:
        assert f"richregime {command}" in page, command
    assert "--minutes" in page and "begin nothing after this time" in page
