"""Comparison of the outputs of a cell with those committed in its notebook."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from nbformat import NotebookNode
from nbval.plugin import coalesce_streams

from helpers.figure_json import PLOTLY
from helpers.notebooks.compare import (
    Difference,
    Tolerance,
    first_and_count,
    text_differences,
    tree_differences,
)
from helpers.notebooks.figures import (
    circuitsvis_views,
    figure_differences,
    view_differences,
)
from helpers.notebooks.pictures import PICTURES, PNG, picture_differences, picture_fault
from helpers.notebooks.tables import html_differences

# An id that is new at each run; the widget's own state is not part of the output.
WIDGET = "application/vnd.jupyter.widget-view+json"

Bundle = dict[str, Any]


def _html_differences(old: str, new: str, tolerance: Tolerance) -> Iterator[Difference]:
    views, new_views = circuitsvis_views(old), circuitsvis_views(new)
    if views and new_views:
        yield from view_differences(views, new_views, tolerance)
    else:
        yield from html_differences(old, new, tolerance)


def _mime_differences(kind: str, old: Any, new: Any, tolerance: Tolerance) -> Iterator[Difference]:
    """Difference between two contents of one MIME type."""
    if kind == PLOTLY:
        yield from figure_differences(old, new, tolerance)
    elif kind in PICTURES:
        yield from picture_differences(old, new, kind)
    elif kind == "text/html":
        yield from _html_differences(old, new, tolerance)
    elif isinstance(old, str) and isinstance(new, str):
        yield from first_and_count(text_differences(old, new, tolerance))
    elif kind != WIDGET:
        yield from first_and_count(tree_differences(old, new, tolerance))


def _bundle_differences(old: Bundle, new: Bundle, tolerance: Tolerance) -> list[Difference]:
    """Difference between two displays: the same MIME types, and each with the same content.

    A committed figure must come with its picture. A new one need not: drawing it takes a browser.
    """
    found: list[Difference] = []
    if PLOTLY in old and PNG not in old:
        found.append(Difference(PNG, "(absent)", "", "a committed figure must come with its picture"))
    for kind in sorted(old | new, key=lambda kind: kind == "text/plain"):
        if kind == "text/plain" and found and "<table" in str(old.get("text/html")):
            continue  # it says the same as the table
        if kind in old and kind in new and not (kind == PNG and PLOTLY in old):
            differences = _mime_differences(kind, old[kind], new[kind], tolerance)
            found += [difference.within(kind) for difference in differences]
        elif kind == PNG and PLOTLY in old and PLOTLY in new:  # the data are compared, not the pixels
            for side, bundle in (("committed", old), ("new", new)):
                fault = picture_fault(bundle[PNG]) if PNG in bundle else None
                if fault:
                    found.append(Difference(f"{kind}, {side} picture", "a picture", fault))
        else:
            shown = ["present" if kind in side else "(absent)" for side in (old, new)]
            found.append(Difference(kind, *shown))
    return found


def _output_differences(
    old: NotebookNode, new: NotebookNode, tolerance: Tolerance
) -> Iterator[Difference]:
    if _kind(old) != _kind(new):
        yield Difference("", _summary(old), _summary(new), "another kind of output, or another order")
    elif old.output_type == "stream":
        for difference in first_and_count(text_differences(old.text, new.text, tolerance)):
            yield difference.within(old.name)
    elif old.output_type == "error":
        error, new_error = (f"{output.ename}: {output.evalue}" for output in (old, new))
        yield from first_and_count(text_differences(error, new_error, tolerance))
    else:
        yield from _bundle_differences(old.data, new.data, tolerance)


def _kind(output: NotebookNode) -> str:
    """`stdout`, `stderr`, `error`, or `display`: a result and a display show the same thing."""
    if output.output_type == "stream":
        return str(output.name)
    return "error" if output.output_type == "error" else "display"


def _summary(output: NotebookNode) -> str:
    data = output.get("data", {})
    text = output.text if output.output_type == "stream" else str(data.get("text/plain", ""))
    return ", ".join([_kind(output), *data, *(repr(line) for line in text.strip().splitlines()[:1])])


def compare_outputs(
    reference: Sequence[NotebookNode], fresh: Sequence[NotebookNode], tolerance: Tolerance
) -> list[Difference]:
    """What differs between the committed and the new outputs of a cell.

    What was printed in several pieces is one text. Displays compare in their order; stderr
    compares apart, because it is not synchronised with the rest, but compare it does: a warning
    that was not there before is a difference.
    """
    sides = []
    for outputs in (reference, fresh):
        merged = coalesce_streams(copy.deepcopy(list(outputs)))
        ordered = sorted(merged, key=lambda output: _kind(output) == "stderr")
        sides.append([o for o in ordered if o.output_type != "stream" or o.text])
    found: list[Difference] = []
    for number, (old, new) in enumerate(zip_longest(*sides), start=1):
        place = f"output {number}"
        if old is None:
            found.append(Difference(place, "(nothing)", _summary(new), "a new output"))
        elif new is None:
            found.append(Difference(place, _summary(old), "(nothing)", "an output is gone"))
        else:
            found += [d.within(place) for d in _output_differences(old, new, tolerance)]
    return found


def unrun_fault(cell: NotebookNode) -> str | None:
    """Why nothing in this cell could be compared: it was never executed. None if it was."""
    if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
        return "the committed cell was never executed (its execution count is null)"
    return None
