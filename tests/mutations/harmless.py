"""Changes that are none: another machine, another version of a library, another JSON writer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from nbformat import NotebookNode, from_dict
from nbformat.v4 import writes

from helpers.figure_json import PLOTLY, decode
from helpers.notebooks.pictures import PNG
from helpers.wording import COLUMNS
from tests.mutations.damage import NUMBER, Edits
from tests.mutations.demo import Demo, Edit, put, significant, substitutions
from tests.pictures import with_comment


@dataclass(frozen=True)
class Harmless:
    """`in_run`: it happens to the fresh run, not to what is committed."""

    name: str
    edits: Edits
    in_run: bool = False


HARMLESS: list[Harmless] = []


def harmless(name: str, in_run: bool = False) -> Callable[[Edits], Edits]:
    def register(edits: Edits) -> Edits:
        HARMLESS.append(Harmless(name, edits, in_run))
        return edits

    return register


# --- numbers --------------------------------------------------------------------------------------


@harmless("one unit of a printed number's last digit")
def _(demo: Demo) -> Iterator[Edit]:
    def next_up(match: re.Match[str]) -> str:
        value = Decimal(match.group())
        return str(value + Decimal(1).scaleb(int(value.as_tuple().exponent)))

    yield from substitutions(demo.texts(), NUMBER, next_up)


@harmless("a printed number's fourth significant digit")
def _(demo: Demo) -> Iterator[Edit]:
    def changed(match: re.Match[str]) -> str:
        number = match.group()
        if significant(number) < 4:
            return number
        at = re.match(r"[0.]*(?:\d\.?){4}", number).end() - 1  # type: ignore[union-attr]
        at -= number[at] == "."
        return f"{number[:at]}{9 if number[at] < '5' else 0}{number[at + 1 :]}"

    yield from substitutions(demo.texts(), NUMBER, changed)


@harmless("the sign of a printed zero")
def _(demo: Demo) -> Iterator[Edit]:
    def negative(match: re.Match[str]) -> str:
        return f"-{match.group()}"

    zero = r"(?<![\w.)\]+-])0\.0+(?![\w.])"
    yield from substitutions(demo.texts(), zero, negative)
    yield from substitutions(demo.texts(), r"(?<![\w.)\]])\+(?=0\.0+(?![\w.]))", lambda match: "-")


def _noisy(value: Any, size: float) -> Any:
    """1e-5 of each number, and of the array's largest 1e-6, alternately up and down."""
    signs = iter((1, -1) * 1_000_000)

    def walk(entry: Any) -> Any:
        if isinstance(entry, list):
            return [walk(item) for item in entry]
        if isinstance(entry, float):
            return entry + next(signs) * (1e-5 * abs(entry) + 1e-6 * size)
        return entry

    return walk(value)


def _largest(value: Any) -> float:
    if isinstance(value, list):
        return max((_largest(item) for item in value), default=0.0)
    return abs(value) if isinstance(value, float) else 0.0


@harmless("float noise of 1e-5 in a trace", in_run=True)
def _(demo: Demo) -> Iterator[Edit]:
    for trace in demo.traces():
        plain = {key: decode(trace[key]) for key in ("x", "y", "z") if key in trace}
        noisy = {key: _noisy(value, _largest(value)) for key, value in plain.items()}
        if noisy != plain:
            yield partial(trace.update, noisy)


@harmless("float noise of 1e-5 in a colour range", in_run=True)
def _(demo: Demo) -> Iterator[Edit]:
    for figure in demo.figures():
        axis = figure["layout"].get("coloraxis", {})
        if isinstance(axis.get("cmax"), float):
            yield partial(put, axis, "cmax", axis["cmax"] * (1 + 1e-5))


@harmless("float noise in an attention view")
def _(demo: Demo) -> Iterator[Edit]:
    places = ((data, "text/html") for data in demo.views())
    noise = 1 + 1e-5
    yield from substitutions(places, r"\b0\.[1-9]\d*\b", lambda match: str(float(match.group()) * noise))


# --- the same thing, written in another way -------------------------------------------------------


def _padded(match: re.Match[str]) -> str:
    """Two more spaces, where the line then still fits: one that GitHub cuts would be a fault."""
    before, after = match.string[: match.start()], match.string[match.start() :]
    line = before.rpartition("\n")[2] + after.partition("\n")[0]
    return "   " if len(line) + 2 <= COLUMNS else match.group()


@harmless("padding in a printed table")
def _(demo: Demo) -> Iterator[Edit]:
    yield from substitutions(demo.texts(), r" (?=[+-]?\d+\.\d)", _padded)


@harmless("a Unicode minus")
def _(demo: Demo) -> Iterator[Edit]:
    yield from substitutions(demo.texts(), r"-(?=\d+\.\d)", lambda match: "−")


@harmless("typed arrays as plain lists")
def _(demo: Demo) -> Iterator[Edit]:
    for data in demo.bundles(PLOTLY):
        plain = decode(data[PLOTLY])
        if plain != data[PLOTLY]:
            yield partial(put, data, PLOTLY, from_dict(plain))


@harmless("another plotly's template", in_run=True)
def _(demo: Demo) -> Iterator[Edit]:
    for figure in demo.figures():
        yield partial(put, figure["layout"], "template", NotebookNode(layout={"hovermode": "x"}))


@harmless("other bytes of the same picture")
def _(demo: Demo) -> Iterator[Edit]:
    for data in demo.pictures():
        yield partial(put, data, PNG, with_comment(data[PNG]))


@harmless("another random id of an attention view")
def _(demo: Demo) -> Iterator[Edit]:
    for data in demo.views():
        html = re.sub(r"circuits-vis-[\w-]+", "circuits-vis-0123abcd-4567", data["text/html"])
        yield partial(put, data, "text/html", html)


@harmless("a text printed in two pieces")
def _(demo: Demo) -> Iterator[Edit]:
    for cell in demo.cells("code"):
        for at, output in enumerate(cell.outputs):
            if output.output_type == "stream" and len(output.text) > 1:
                head, tail = NotebookNode(output), NotebookNode(output)
                head.text, tail.text = output.text[:1], output.text[1:]
                pieces = [*cell.outputs[:at], head, tail, *cell.outputs[at + 1 :]]
                yield partial(put, cell, "outputs", pieces)


@harmless("pictures not drawn in the fresh run", in_run=True)
def _(demo: Demo) -> Iterator[Edit]:
    for data in demo.bundles(PLOTLY):
        yield partial(data.pop, PNG)


# --- metadata and files ---------------------------------------------------------------------------


@harmless("another plotly in the stamp")
def _(demo: Demo) -> Iterator[Edit]:
    stamp = demo.notebook.metadata.provenance
    versions = {**stamp.get("versions", {}), "plotly": "6.5.1"}
    yield partial(put, stamp, "versions", NotebookNode(versions))


@harmless("another Python in the metadata")
def _(demo: Demo) -> Iterator[Edit]:
    language = NotebookNode(name="python", version="3.12.1")
    yield partial(put, demo.notebook.metadata, "language_info", language)


@harmless("other ids of the cells")
def _(demo: Demo) -> Iterator[Edit]:
    def renamed() -> None:
        for number, cell in enumerate(demo.notebook.cells):
            cell.id = f"cell-{number}"

    yield renamed


def _reversed_keys(value: Any) -> Any:
    if isinstance(value, list):
        return [_reversed_keys(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _reversed_keys(value[key]) for key in reversed(value)}
    return value


def _encoded(demo: Demo, encode: Callable[[NotebookNode], str]) -> Iterator[Edit]:
    yield lambda: put(vars(demo), "encode", encode)


@harmless("the order of the JSON keys")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _encoded(demo, lambda notebook: json.dumps(_reversed_keys(notebook), indent=1))


@harmless("another JSON indent, and escapes for what is not ASCII")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _encoded(demo, lambda notebook: json.dumps(notebook, indent=0))


@harmless("newlines at the end of the notebook's file")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _encoded(demo, lambda notebook: writes(notebook) + "\n\n")


@harmless("Windows line ends in the source")
def _(demo: Demo) -> Iterator[Edit]:
    yield lambda: put(vars(demo), "source", demo.source.replace("\n", "\r\n"))
