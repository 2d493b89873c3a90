"""What is the same in every demo: the setup, which is its first code cell and the text above it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from nbformat import NotebookNode

from helpers.notebooks.problem import Problem


def setup_cells(notebook: NotebookNode) -> tuple[str, str] | None:
    """The text above a notebook's first code cell, and that cell; None if it has no code."""
    cells = notebook.cells
    first = next((i for i, cell in enumerate(cells) if cell.cell_type == "code"), None)
    if first is None:
        return None
    above = cells[first - 1].source if first else ""
    return above, cells[first].source


def check_alike(notebooks: Mapping[str, NotebookNode]) -> list[Problem]:
    """A problem for each notebook, by name, whose setup is not the one that most of them have.

    Of several that are equally common, it is the first's.
    """
    setups = {name: setup_cells(notebook) for name, notebook in notebooks.items()}
    if not setups:
        return []
    usual = Counter(setups.values()).most_common(1)[0][0]
    model = next(name for name, setup in setups.items() if setup == usual)
    return [
        Problem(
            name,
            f"its setup (the first code cell, and the text above it) is not that of {model}",
            "Copy both cells from there, or change all demos",
        )
        for name, setup in setups.items()
        if setup != usual
    ]
