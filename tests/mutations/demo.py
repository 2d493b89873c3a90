"""A pair of notebook and source in memory, and the places in it that a mutation can change."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode

from helpers.figure_json import PLOTLY
from helpers.notebooks.figures import circuitsvis_views
from helpers.notebooks.hygiene import read_notebook
from helpers.notebooks.pictures import PNG
from helpers.notebooks.provenance import text_sha256

Edit = Callable[[], object]


@dataclass
class Demo:
    """`encode` makes the file's text; harmless mutations replace it."""

    name: str
    notebook: NotebookNode
    source: str
    encode: Callable[[NotebookNode], str] = field(default=nbformat.v4.writes)

    @classmethod
    def read(cls, path: Path) -> Demo:
        source = path.with_suffix(".py").read_text(encoding="utf-8")
        return cls(path.stem, read_notebook(path), source)

    def copy(self) -> Demo:
        return Demo(self.name, copy.deepcopy(self.notebook), self.source)

    def write(self, folder: Path) -> Path:
        path = folder / f"{self.name}.ipynb"
        path.write_text(self.encode(self.notebook), encoding="utf-8")
        path.with_suffix(".py").write_bytes(self.source.encode())
        return path

    def cells(self, kind: str) -> list[NotebookNode]:
        return [c for c in self.notebook.cells if c.cell_type == kind and c.source.strip()]

    def outputs(self) -> Iterator[NotebookNode]:
        for cell in self.cells("code"):
            yield from cell.outputs

    def bundles(self, kind: str) -> Iterator[NotebookNode]:
        """The contents of each output that holds this MIME type."""
        for output in self.outputs():
            if kind in output.get("data", {}):
                yield output.data

    def figures(self) -> Iterator[NotebookNode]:
        for data in self.bundles(PLOTLY):
            yield data[PLOTLY]

    def traces(self, kind: str | None = None) -> Iterator[NotebookNode]:
        for figure in self.figures():
            for trace in figure["data"]:
                if kind is None or trace.get("type") == kind:
                    yield trace

    def views(self) -> Iterator[NotebookNode]:
        """Outputs' contents that hold a circuitsvis view."""
        for data in self.bundles("text/html"):
            if circuitsvis_views(data["text/html"]):
                yield data

    def pictures(self) -> Iterator[NotebookNode]:
        yield from self.bundles(PNG)

    def texts(self) -> Iterator[tuple[NotebookNode, str]]:
        """Each printed text, as the object that holds it and its key there."""
        for output in self.outputs():
            if output.output_type == "stream":
                yield output, "text"
            for kind in output.get("data", {}):
                if kind.startswith("text/") and not circuitsvis_views(output.data[kind]):
                    yield output.data, kind

    def resync(self) -> None:
        """Bring the source in line with the notebook and stamp it: a consistent, changed pair."""
        self.source = jupytext.writes(self.notebook, fmt="py:percent")
        self.notebook.metadata.setdefault("provenance", NotebookNode())
        self.notebook.metadata.provenance.source_sha256 = text_sha256(self.source)


def put(holder: Any, key: Any, value: Any) -> None:
    """holder[key] = value, as an expression."""
    holder[key] = value


def splice(holder: Any, key: Any, span: tuple[int, int], new: str) -> None:
    """Put a text in the place of a part of the text at holder[key]."""
    holder[key] = holder[key][: span[0]] + new + holder[key][span[1] :]


def substitutions(
    places: Iterable[tuple[NotebookNode, str]],
    pattern: str,
    change: Callable[[re.Match[str]], str],
) -> Iterator[Edit]:
    """For each match of the pattern an edit that puts `change(match)` there, if that is new."""
    for holder, key in places:
        for match in re.finditer(pattern, holder[key]):
            new = change(match)
            if new != match.group():
                yield partial(splice, holder, key, match.span(), new)


def significant(text: str) -> int:
    """How many significant digits a printed number has."""
    return len(Decimal(text).as_tuple().digits) if Decimal(text) else 0


def multiplied(text: str, factor: str) -> str:
    """A printed number times a factor, in as many decimals."""
    value = Decimal(text)
    return format((value * Decimal(factor)).quantize(value), "f")
