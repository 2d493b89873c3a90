"""How long the code cells of a demo are: what a reader would copy is short."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from nbformat import NotebookNode

from helpers.notebooks.problem import Problem


@dataclass(frozen=True)
class CellLengths:
    """Of a notebook's code cells, in lines that are not empty."""

    lines: list[int]

    def __str__(self) -> str:
        lengths = self.lines or [0]
        middle = f"{median(lengths):g}"
        whole = f"{len(self.lines)} code cells, {sum(lengths)} lines"
        return f"{whole}, median {middle}, longest {max(lengths)}"


def cell_lengths(notebook: NotebookNode) -> CellLengths:
    """Measured on the source: comments count, empty lines do not."""
    return CellLengths([_length(cell) for cell in notebook.cells if cell.cell_type == "code"])


def check_lengths(name: str, notebook: NotebookNode, longest: int) -> list[Problem]:
    """Whether no code cell has more lines than a reader would copy."""
    return [
        Problem(
            name,
            f"a code cell of {_length(cell)} lines, at most {longest} are allowed",
            "Make two of it, or move what is not analysis into helpers",
            index,
        )
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and _length(cell) > longest
    ]


def _length(cell: NotebookNode) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())
