"""What the map of parametrizations takes from the library: its data and its tables.

The page ``library/map.md`` classifies tables of exponents in the browser. The catalogue
that it starts from, and the tables that it shows without JavaScript, are written from
the library by ``python -m richregime map``; `map_is_current` tells whether they are
what the library says now.
"""

import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

from widthlab.files import write_text
from widthlab.parametrization import Exponents, Parametrization, Role, catalogue
from widthlab.plots.style import look
from widthlab.regimes import Classification, classify

MAP = Path("library/map.md")
DATA = Path("assets/map/parametrizations.js")
CATALOGUE = Path("library/map-catalogue.txt")
GROWTH = Path("library/map-growth.txt")
DEPTHS = range(1, 7)
"""Numbers of hidden layers that the map knows."""

_ASSIGNMENT = "globalThis.widthlabParametrizations = "
_SHOWN_DEPTH = 3
# The table for biases is one only for networks that have them.
_BIASES = {"ip-bias": "all"}
# HP is HPZ but for a share of the initial weights, and figures draw the one or the
# other: on the map they share a colour.
_LOOKS = {"hp": {**look("hpz", 0), "marker": "H"}}


def data() -> list[dict[str, Any]]:
    """Return the catalogue as plain JSON values, with how the book draws each entry.

    Example:
        >>> [entry["label"] for entry in data() if entry["max_depth"]]
        ['MF']
    """
    return [_entry(index, p) for index, p in enumerate(catalogue().values())]


def data_text() -> str:
    """Return the data as a script, which a page also loads from a local file."""
    entries = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in data())
    return f"{_ASSIGNMENT}[\n{entries}\n];\n"


def read_data(text: str) -> list[dict[str, Any]]:
    """Read what `data_text` wrote."""
    return json.loads(text.removeprefix(_ASSIGNMENT).rstrip().removesuffix(";"))


def catalogue_table() -> str:
    """Return the catalogue with its limits as a Markdown table."""
    triples = [f"{role} $(a, b, c)$" for role in Role]
    head = ("", "limit", *triples, "besides")
    rows = []
    for table in catalogue().values():
        triples = [f"({_list((e.a, e.b, e.c))})" for _, e in table.exponents]
        rows.append((table.label, _limits(table), *triples, _besides(table)))
    return _table(head, rows)


def growth_table() -> str:
    """Return the growth exponents of the catalogue as a Markdown table."""
    names = (r"$h^l$", r"$f$", r"$\Delta h^l$", r"$\Delta f$")
    head = ("", "$L$", *names, r"$\lVert\Delta W^l(1)\rVert_F$", "$r$")
    rows = []
    for table in catalogue().values():
        depth = min(_SHOWN_DEPTH, _depths(table)[-1])
        v = _verdict(table, depth)
        starts = (_list(v.preactivation), _number(v.output))
        moves = (_list(v.feature_change), _number(v.output_change))
        last = (_list(v.first_update), _number(v.r))
        rows.append((table.label, str(depth), *starts, *moves, *last))
    return _table(head, rows)


def write_map(root: Path) -> None:
    """Write what the page takes from the library."""
    for path, text in _files().items():
        write_text(root / path, text)


def map_is_current(root: Path) -> bool:
    """Whether the files of the page say what the library says."""
    return all(
        (root / path).exists() and (root / path).read_text(encoding="utf-8") == text
        for path, text in _files().items()
    )


def _files() -> dict[Path, str]:
    return {DATA: data_text(), CATALOGUE: catalogue_table(), GROWTH: growth_table()}


def _entry(index: int, table: Parametrization) -> dict[str, Any]:
    drawn = _LOOKS.get(table.name) or look(table.name, index)
    return {
        **table.to_json(),
        "source": table.source,
        "biases": _BIASES.get(table.name, "none"),
        "colour": drawn["color"],
        "marker": drawn["marker"],
    }


def _verdict(table: Parametrization, depth: int) -> Classification:
    return classify(table, depth, biases=_BIASES.get(table.name, "none"))


def _depths(table: Parametrization) -> list[int]:
    return [d for d in DEPTHS if d <= (table.max_depth or DEPTHS[-1])]


def _limits(table: Parametrization) -> str:
    """Name the limit for each depth, equal ones together."""
    named = [(str(_verdict(table, d).regime), d) for d in _depths(table)]
    runs = [
        (regime, [str(depth) for _, depth in run])
        for regime, run in groupby(named, key=lambda pair: pair[0])
    ]
    if len(runs) == 1 and len(named) == len(DEPTHS):
        return runs[0][0]
    return ", ".join(f"{regime} (L = {_span(depths)})" for regime, depths in runs)


def _span(depths: Sequence[str]) -> str:
    return ", ".join(depths) if len(depths) < 3 else f"{depths[0]} to {depths[-1]}"


def _besides(table: Parametrization) -> str:
    """Say in words what a table fixes besides its triples."""
    found = [note for role, row in table.exponents for note in _notes(role, row)]
    if table.bias:
        found.append("exponents of biases")
    return "; ".join(dict.fromkeys(found)) or "–"


def _notes(role: Role, row: Exponents) -> Iterable[str]:
    if row.c_first:
        yield "rates of the first step"
    if row.mean:
        yield "means of hidden and output weights"
    if row.retained is None:
        yield f"no initial {role} weights after the first step"
    elif row.retained:
        share = f"$n^{{{-row.retained}}}$"
        yield f"initial {role} weights times {share} after the first step"
    if row.growth != type(row.growth)():
        yield "factors for unequal widths"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _list(values: Iterable[Fraction]) -> str:
    """Join numbers by spaces at which no line breaks."""
    return ",\N{NO-BREAK SPACE}".join(map(_number, values))


def _number(value: Fraction) -> str:
    return str(value).replace("-", "\N{MINUS SIGN}")
