"""Where the demos use which helper: from the imports and the code of their cells, none of it run."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

from IPython.core.inputtransformer2 import TransformerManager
from markdown_it import MarkdownIt
from nbformat import NotebookNode

from helpers.notebooks.prose import slug

_MARKDOWN = MarkdownIt("commonmark").enable("table")
_PACKAGE = "helpers"


class Use(NamedTuple):
    """A section of a demo in which a helper is used.

    Attributes:
        demo: its title in menus.
        page: the name of its page.
        heading: of the section.
        anchor: of the heading on the page; empty for the beginning.
    """

    demo: str
    page: str
    heading: str
    anchor: str


def uses_in(notebook: NotebookNode, demo: str, page: str) -> dict[Any, list[Use]]:
    """Each function and class of the helpers that the cells use, with the sections, in their order.

    An import is no use. A name that a cell gives to something else, if only in a loop, counts from
    that cell on as that, until it is imported again.

    Args:
        notebook: its cells.
        demo, page: as in :class:`Use`.
    """
    found: dict[Any, list[Use]] = {}
    known: dict[str, Any] = {}
    here, anchors = Use(demo, page, demo, ""), Counter[str]()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for heading in _headings(cell.source):
                here = here._replace(heading=heading, anchor=_unique(slug(heading), anchors))
        elif cell.cell_type == "code":
            for value in _used(cell.source, known):
                sections = found.setdefault(value, [])
                if here not in sections:
                    sections.append(here)
    return found


def _headings(markdown: str) -> Iterator[str]:
    """What stands in them to read, in order."""
    tokens = _MARKDOWN.parse(markdown)
    for opened, inline in pairwise(tokens):
        if opened.type == "heading_open" and opened.level == 0:
            parts = inline.children or []
            yield "".join(part.content for part in parts if part.type in ("text", "code_inline"))


def _unique(anchor: str, seen: Counter[str]) -> str:
    """As MyST does: a heading that comes again gets a number."""
    seen[anchor] += 1
    return anchor if seen[anchor] == 1 else f"{anchor}-{seen[anchor] - 1}"


def _used(code: str, known: dict[str, Any]) -> list[Any]:
    """The helpers that a cell uses; `known`, what names mean, is brought up to date."""
    try:
        tree = ast.parse(TransformerManager().transform_cell(code))
    except SyntaxError:  # not Python's: a magic's own language, or a mistake that is shown on purpose
        return []
    for node in ast.walk(tree):
        known |= dict(_imported(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            known.pop(node.id, None)
        elif isinstance(node, ast.arg):
            known.pop(node.arg, None)
    values = (_value(node, known) for node in ast.walk(tree))
    return list(dict.fromkeys(value for value in values if value is not None))


def _imported(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Names that an import of helpers gives, and what they mean."""
    if isinstance(node, ast.ImportFrom) and _is_ours(node.module):
        module = import_module(str(node.module))
        for alias in node.names:
            is_module = not hasattr(module, alias.name) and find_spec(f"{node.module}.{alias.name}")
            value = import_module(f"{node.module}.{alias.name}") if is_module else None
            yield alias.asname or alias.name, value or getattr(module, alias.name)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if _is_ours(alias.name):
                module = import_module(alias.name)
                yield (alias.asname, module) if alias.asname else (_PACKAGE, import_module(_PACKAGE))


def _is_ours(module: str | None) -> bool:
    return (module or "").partition(".")[0] == _PACKAGE


def _value(node: ast.AST, known: dict[str, Any]) -> Any:
    """The function or class that a name, or a name with dots, stands for; None if it is no helper."""
    value = _meaning(node, known)
    return value if callable(value) else None


def _meaning(node: ast.AST, known: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _meaning(node.value, known)
        return getattr(owner, node.attr, None) if owner is not None else None
    return None
