"""Whether others can open a notebook at all: GitHub's converter, JupyterLab, any JSON reader.

GitHub shows "Invalid Notebook" where its converter, which is nbconvert, gives up. So a notebook is read
and converted here as it is there, and what the converter refuses is refused.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from helpers.notebooks.problem import Problem

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"

# Of an output or of code; the converter looks at the kind of a content, not at all of it.
_ENOUGH = 200


class UnreadableError(ValueError):
    """A text is no notebook that others can read; the message says what is wrong with it."""


def readable_notebook(text: str) -> NotebookNode:
    """The notebook as it stands in its file: nothing repaired, as nbformat.read would.

    Raises:
        UnreadableError: if it is no JSON, no notebook of format 4, or holds what JSON has no word for.
    """
    try:
        content = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise UnreadableError(f"no JSON: {error}") from error
    version = content.get("nbformat") if isinstance(content, dict) else None
    if version != 4:
        raise UnreadableError(f"no notebook of format 4: its `nbformat` is {version!r}")
    if any("\ud800" <= letter <= "\udfff" for letter in json.dumps(content, ensure_ascii=False)):
        raise UnreadableError("half of a Unicode character (a surrogate), which no file can hold")
    faults = _cell_faults(content)
    if faults:
        raise UnreadableError(faults)
    try:
        nbformat.validate(copy.deepcopy(nbformat.from_dict(content)))
    except nbformat.ValidationError as error:
        raise UnreadableError(f"no valid notebook: {_first_line(error)}") from error
    notebook: NotebookNode = nbformat.v4.reads(text)  # several lines of one text are joined
    return notebook


def _refuse(constant: str) -> Any:
    raise UnreadableError(f"{constant}, which JSON does not have: browsers and GitHub cannot read it")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _cell_faults(content: dict[str, Any]) -> str:
    """Ids that are missing or double: the validation would rather invent some than complain."""
    cells = content.get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        return "no valid notebook: it has no list of cells"
    ids = Counter(cell.get("id") for cell in cells)
    wrong = {cell_id: count for cell_id, count in ids.items() if cell_id is None or count > 1}
    return ", ".join(f"{count} cells with id {cell_id}" for cell_id, count in wrong.items())


def read_readable(path: Path) -> NotebookNode:
    """As :func:`readable_notebook`, from the file."""
    return readable_notebook(file_text(path))


def file_text(path: Path) -> str:
    """What stands in a notebook's file.

    Raises:
        UnreadableError: if it is no text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"no text in UTF-8: {error}") from error


def check_converts(name: str, notebook: NotebookNode) -> list[Problem]:
    """Whether GitHub's converter makes a page of the notebook."""
    fault = _widget_fault(notebook) or _converter_fault(notebook)
    if fault is None:
        return []
    return [Problem(name, f"{fault}: GitHub shows 'Invalid Notebook'", "Run `make sync`")]


def _widget_fault(notebook: NotebookNode) -> str | None:
    """What is wrong with the states of widgets, which Colab writes in a form of its own."""
    if "widgets" not in notebook.metadata:
        return None
    widgets = notebook.metadata["widgets"]
    kept = widgets.get(WIDGET_STATE) if isinstance(widgets, dict) else None
    if isinstance(kept, dict) and isinstance(kept.get("state"), dict):
        return None
    return f"`metadata.widgets` has no `state` under {WIDGET_STATE}"


@cache
def _exporter() -> HTMLExporter:
    return HTMLExporter(template_name="basic")


def _converter_fault(notebook: NotebookNode) -> str | None:
    """What the converter says of a notebook that it does not convert."""
    short = copy.deepcopy(notebook)
    for cell in short.cells:
        if cell.cell_type == "code":
            cell.source = cell.source[:_ENOUGH]
            cell.outputs = [_cut(output) for output in cell.outputs]
    return _fault_of(json.dumps(short))


@lru_cache(maxsize=64)
def _fault_of(content: str) -> str | None:
    """As above, of a notebook as JSON; where outputs differ beyond what counts it is asked once."""
    try:
        _exporter().from_notebook_node(nbformat.from_dict(json.loads(content)))
    except Exception as error:  # whatever stops it there
        return f"the converter stops with {type(error).__name__}: {_first_line(error)}"
    return None


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_ENOUGH]
    if isinstance(value, dict):
        return NotebookNode({key: _cut(entry) for key, entry in value.items()})
    return value[:1] if isinstance(value, list) else value
