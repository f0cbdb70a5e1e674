"""The library's reference: what is on its pages, and how docstrings become pages.

The pages are read by Sphinx once, on their own, without a theme or the chapters; what
is checked is the tree of each page, from which any site is written.
"""

import ast
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from richregime.site import commandline, inventory, source, uses
from richregime.site.docstrings import to_rest
from richregime.site.reference import plain_signatures
from richregime.site.signatures import annotation, signature
from sphinx.pycode import ModuleAnalyzer

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = inventory.inventory()

BUILD = """
import json, sys
from io import StringIO
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

root, out = sys.argv[1:]
warned = StringIO()
app = Sphinx(root, None, f"{out}/html", f"{out}/trees", "dummy", {
    "extensions": ["myst_parser", *(f"richregime.site.{name}" for name in
                                    ("commandline", "reference"))],
    "myst_enable_extensions": ["dollarmath"],
    "root_doc": "library/reference", "nitpicky": True,
    "include_patterns": ["library/reference.md", "library/reference/*.md"],
    # Pages that are not built here.
    "suppress_warnings": ["myst.xref_missing", "ref.doc", "toc.not_readable"],
}, status=None, warning=warned)
app.build(force_all=True)

apart = (nodes.literal, nodes.literal_block, nodes.doctest_block, nodes.math,
         nodes.math_block, addnodes.desc_signature, nodes.strong, nodes.raw)
pages = {}
for page in sorted(app.env.found_docs):
    tree = app.env.get_and_resolve_doctree(page, app.builder)
    kept = (text for text in tree.findall(nodes.Text)
            if not any(isinstance(up, apart) for up in ancestors(text)))
    pages[page] = {
        "text": "\\n".join(map(str, kept)),
        "levels": [depth(title) for title in tree.findall(nodes.title)],
        "signatures": [one.astext() for one in
                       tree.findall(addnodes.desc_signature)],
        "problems": [node.astext() for node in tree.findall(nodes.problematic)],
        "math": sum(1 for _ in tree.findall(nodes.math)),
        "links": [node["reftitle"] for node in tree.findall(nodes.reference)
                  if "reftitle" in node],
    }
from jax._src import xla_bridge
said = warned.getvalue().splitlines()
json.dump({
    # The book's own table of contents is not read here.
    "warnings": [line for line in said if "in any toctree" not in line],
    "pages": pages,
    "objects": {name: one.docname for name, one in
                app.env.get_domain("py").objects.items() if not one.aliased},
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


def test_pages_are_built_without_a_warning_or_a_device(built):
    assert built["warnings"] == []
    assert [p for page in built["pages"].values() for p in page["problems"]] == []
    assert built["backends"] is False


def test_every_public_name_is_on_a_page(built):
    """A new name needs a page, and a constant a docstring to get there."""
    assert len(LIBRARY.homes) > 300
    assert sorted(set(LIBRARY.homes.values()) - set(built["objects"])) == []


def test_every_member_of_a_public_class_is_on_its_page(built):
    wanted = {
        f"{home}.{member}"
        for full, home in LIBRARY.homes.items()
        for member in source.members(LIBRARY.definition(full))
    }
    assert "widthlab.parametrization.Role.INPUT" in wanted
    assert sorted(wanted - set(built["objects"])) == []


def test_nothing_private_is_on_a_page(built):
    names = [name for name in built["objects"] if "._" in name]
    assert names == []


def test_no_mark_is_left_unrendered(built):
    for page, seen in built["pages"].items():
        stray = re.findall(r".*(?:[$`]|:math:|:py:|\\[a-z]|\*\*|>>>).*", seen["text"])
        assert stray == [], page
    assert sum(seen["math"] for seen in built["pages"].values()) > 300


def test_the_first_line_of_every_docstring_is_on_its_page(built):
    """Napoleon would make a type of what stands before a colon."""
    for full, text in first_lines():
        page = built["objects"][LIBRARY.documented(full)]
        plain = max(re.split(r"\$[^$]*\$|`[^`]*`|['\"*]", text), key=len).strip()
        shown = " ".join(built["pages"][page]["text"].split())
        assert plain in shown, full


def test_properties_have_a_type_and_are_not_called(built):
    shown = built["pages"]["library/reference/networks"]["signatures"]
    assert "property normalises: bool" in shown
    methods = [one for page in built["pages"].values() for one in page["signatures"]]
    assert [one for one in methods if "(self" in one or "(cls" in one] == []


def test_headings_are_in_order(built):
    for page, seen in built["pages"].items():
        levels = seen["levels"]
        assert levels[0] == 1 and levels.count(1) == 1, page
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels)), page


def test_docstrings_link_to_each_other(built):
    links = built["pages"]["library/reference/experiments"]["links"]
    assert {"widthlab.training.schedules.Schedule", "widthlab.data.DataSpec"} <= set(
        links
    )


def test_every_page_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = re.findall(r"library/reference/[\w-]+", json.dumps(toc))
    there = (ROOT / "library" / "reference").glob("*.md")
    assert sorted(files) == sorted(f"library/reference/{p.stem}" for p in there)


def first_lines():
    """Definitions and the first lines of their docstrings, those of constants too."""
    for full, node in definitions():
        yield full, ast.get_docstring(node).splitlines()[0]
    for full in LIBRARY.homes:
        module, _, name = full.rpartition(".")
        if isinstance(LIBRARY.definition(full), ast.Assign | ast.AnnAssign):
            analyzer = ModuleAnalyzer.for_module(module)
            analyzer.analyze()
            yield full, analyzer.attr_docs["", name][0]


def definitions():
    for full in LIBRARY.homes:
        node = LIBRARY.definition(full)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield full, node
            for name, part in source.members(node).items():
                if isinstance(part, ast.FunctionDef):
                    yield f"{full}.{name}", part


def test_every_public_class_and_function_has_a_docstring():
    assert [full for full, node in definitions() if not ast.get_docstring(node)] == []


def test_documented_arguments_and_fields_exist():
    for full, node in definitions():
        is_class = isinstance(node, ast.ClassDef)
        section = "Attributes" if is_class else "Args"
        text = ast.get_docstring(node) or ""
        found = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
        named = re.findall(r"^    \**(\w+):", found[1] if found else "", re.MULTILINE)
        known = {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
        if is_class:
            known |= set(source.fields(node)) | set(
                re.findall(r"self\.(\w+)", ast.unparse(node))
            )
        assert set(named) <= known, full


def test_what_is_returned_is_not_taken_for_a_type():
    """Napoleon would, where the first line of the section has a colon."""
    for full, node in definitions():
        found = re.search(r"^Returns:\n(.*)", ast.get_docstring(node) or "", re.M)
        text = re.sub(r"`[^`]*`|\$[^$]*\$", "", found[1] if found else "")
        assert ":" not in text, f"{full}: write the first line without a colon"


# --- docstrings


def rest(text, known=()):
    lines = text.split("\n")
    names = dict(known)
    return "\n".join(to_rest(lines, names.get))


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
        ("`lr` and `f(x)`s", r"``lr`` and ``f(x)``\ s"),
        ("``a`b``", "``a`b``"),
        ("|x| * y_ and a_b", r"\|x\| \* y\_ and a_b"),
        ("*Seeds.* here", "*Seeds.* here"),
        (r"a \ b", r"a \\ b"),
    ],
)
def test_inline_marks(markdown, expected):
    assert rest(markdown) == expected


def test_names_lead_where_there_is_something():
    known = {"run": "widthlab.runs.sweep.run"}
    assert rest("`run()` of `lr`", known) == (
        ":py:obj:`run() <widthlab.runs.sweep.run>` of ``lr``"
    )
    assert rest("`make run`", known) == "``make run``"


def test_a_display_stands_alone_and_keeps_its_place():
    found = rest("Args:\n    x: with\n\n        $$a\n          - b.$$\n\n        more")
    assert found.split("\n.. ")[0].startswith("Args:\n    x: with\n")
    assert "\n        .. math::\n\n           a\n           - b.\n" in found
    assert found.endswith("\n        more")
    assert rest("where $$x$$, and") == "where\n\n.. math::\n\n   x,\n\nand"


def test_examples_and_fences_are_left_alone():
    text = "Say `x`.\n\n>>> f(`x`, '$a$')\n'*'\n\n$y$"
    assert rest(text) == "Say ``x``.\n\n>>> f(`x`, '$a$')\n'*'\n\n:math:`y`"
    assert rest("~~~text\n```\n$a$ *\n```\n~~~") == (
        ".. code-block:: text\n\n   ```\n   $a$ *\n   ```"
    )


def test_a_list_needs_no_empty_line():
    assert rest("these:\n- one\n- two") == "these:\n\n- one\n- two"


# --- signatures and names


def parsed(code):
    return ast.parse(code).body[0]


def test_signatures_are_those_of_the_source():
    code = "def f(x: Float[Array, ' n'], *, k: Shape = None) -> dict[str, Shape]: ..."
    link = {"Shape": "widthlab.model.Shape"}.get
    arguments, returns = signature(parsed(code), link)
    assert arguments == ("(x: Float[Array, 'n'], *, k: ~widthlab.model.Shape=None)")
    assert returns == "dict[str, ~widthlab.model.Shape]"
    method = parsed("def f(self, x: int): ...")
    assert signature(method, link, bound=True) == ("(x: int)", "")


def test_a_dataclass_is_called_with_its_fields():
    code = """
@dataclass(frozen=True, kw_only=True)
class A:
    x: int
    y: B = field(default_factory=B)
    z: float = field(default=1.0, compare=False)
    w: C = _PRIVATE
    name: ClassVar[str] = "a"
    hidden: int = field(init=False)
"""
    found, _ = signature(parsed(code), lambda name: None)
    assert found == "(*, x: int, y: B = B(), z: float = 1.0, w: C = ...)"
    code = """
@attrs.frozen
class A:
    x: int = attrs.field(converter=count())
    y: B = attrs.field(factory=B, converter=instance(B))
    z: float = attrs.field(default=1.0, converter=number())
"""
    found, _ = signature(parsed(code), lambda name: None)
    assert found == "(x: int, y: B = B(), z: float = 1.0)"
    assert signature(parsed("class Colour(StrEnum):\n    RED = 'red'"), str)[0] == ""
    assert annotation(parsed("x: Float[Array, '']").annotation, {}.get) == (
        "Float[Array, '']"
    )


def test_lines_of_a_signature_are_no_list_of_definitions():
    lines = '<dt class="sig py">f(<dl>\n<dd>x</dd>\n</dl>)</dt><dd>Do.</dd>'
    assert plain_signatures(f"<dl>{lines}</dl>") == (
        '<dl><dt class="sig py">f(<div>\n<div>x</div>\n</div>)</dt><dd>Do.</dd></dl>'
    )


@pytest.mark.parametrize(
    ("module", "name", "owner", "expected"),
    [
        (
            "widthlab.runs.sweep",
            "Experiment",
            "",
            "widthlab.runs.experiment.Experiment",
        ),
        ("widthlab.model", "Role", "", "widthlab.parametrization.Role"),
        ("richregime.study", "Archive", "", "widthlab.runs.archive.Archive"),
        ("widthlab.flow", "solve", "", "widthlab.flow.solve"),
        ("widthlab.kernels", "moment", "", "widthlab.kernels.moment"),
        ("widthlab.kernels.series", "moment", "", "widthlab.kernels.series.moment"),
        ("widthlab.claims", "read", "ClaimsFile", "widthlab.claims.ClaimsFile.read"),
        ("widthlab.training.calibration", "Shape.widths", "", "widthlab.model.Shape"),
        (
            "widthlab.papers.hajjar2023symmetries.angles",
            "angle_kernels",
            "",
            "widthlab.papers.hajjar2023symmetries.angle_kernels",
        ),
        ("widthlab.training", "data", "", None),
        ("widthlab.training", "nowhere", "", None),
    ],
)
def test_names_mean_what_their_module_means(module, name, owner, expected):
    assert LIBRARY.resolve(module, name, owner) == expected


def test_chapters_are_found_by_what_they_use():
    code = "from widthlab import flow, run as go\nflow.solve(1)\nx = go(2)\n"
    assert uses.modules_used(code, LIBRARY) == {"widthlab.flow", "widthlab.runs.sweep"}
    assert uses.modules_used("import numpy as np\nnp.mean(run)", LIBRARY) == set()


# --- commands


def test_every_command_is_on_its_page():
    page = (ROOT / "library/reference/commands.md").read_text()
    shown = re.findall(r"{command-help} (.+)", page)
    for name in commandline.commands(commandline.find("widthlab")):
        assert any(f"{one} ".startswith(f"widthlab {name} ") for one in shown), name
    assert "python -m richregime" in shown


def test_a_command_is_described_by_its_parser():
    parser = commandline.find("widthlab run")
    assert commandline.usage_of(parser).startswith("widthlab run ")
    told = dict(commandline.entries(parser))
    assert "--minutes MINUTES" in told and "--dry-run" in told
    assert told["chapter"]
    with pytest.raises(KeyError):
        commandline.find("widthlab jump")
