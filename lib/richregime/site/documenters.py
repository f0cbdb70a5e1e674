"""What autodoc does not see by itself: wrapped functions and exported constants."""

from __future__ import annotations

import ast
from typing import Any

from sphinx.ext.autodoc import DataDocumenter, FunctionDocumenter
from sphinx.pycode import ModuleAnalyzer

from richregime.site.inventory import inventory

CONSTANT = ast.Assign | ast.AnnAssign
"""How a constant is defined."""


def setup(app: Any) -> None:
    """Register with autodoc, which has to be loaded."""
    app.add_autodocumenter(ConstantDocumenter, override=True)
    app.add_autodocumenter(WrappedDocumenter)
    app.connect("builder-inited", _share_constants)


class ConstantDocumenter(DataDocumenter):
    """Constants, whose source is shown: nothing is said twice of names for types."""

    def update_content(self, more_content: Any) -> None:
        """Leave out the evaluated type."""


class WrappedDocumenter(FunctionDocumenter):
    """Functions with a derivative of their own, which look like values to autodoc."""

    objtype = "wrapped"
    directivetype = "function"
    priority = FunctionDocumenter.priority + 1

    @classmethod
    def can_document_member(
        cls, member: Any, membername: str, isattr: bool, parent: Any
    ) -> bool:
        """Tell whether something wraps a function."""
        del membername, isattr, parent
        is_class = isinstance(member, type)
        return callable(member) and hasattr(member, "__wrapped__") and not is_class


def _share_constants(app: Any) -> None:
    """Tell Sphinx the docstrings of constants also where packages export them."""
    del app
    library = inventory()
    for full, home in library.homes.items():
        (module, name), (place, _) = full.rsplit(".", 1), home.rsplit(".", 1)
        is_constant = isinstance(library.definition(full), CONSTANT)
        if place == module or not is_constant:
            continue
        source, target = map(ModuleAnalyzer.for_module, (module, place))
        source.analyze()
        target.analyze()
        if ("", name) in source.attr_docs:
            target.attr_docs["", name] = source.attr_docs["", name]
