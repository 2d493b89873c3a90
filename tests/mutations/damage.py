"""Damage that must be caught. `by` is what the finding must say: no catch for another reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_output

from helpers.figure_json import PLOTLY, decode
from helpers.notebooks.pictures import PNG
from tests.mutations.demo import Demo, Edit, multiplied, put, significant, substitutions
from tests.pictures import blank, striped

Edits = Callable[[Demo], Iterator[Edit]]


@dataclass(frozen=True)
class Damage:
    """Each edit that `edits` yields damages one place of the demo.

    `stand_in`: where no demo has such a place, one made up for it is damaged instead.
    """

    name: str
    by: str
    edits: Edits
    stand_in: bool = False


DAMAGE: list[Damage] = []

# Where a finding is, as it begins.
_IN_TABLE = r"(?:row '.*', column .*|header of column \d+)"
PRINTED = (
    r"^output \d+, (?:stdout|text/\w+), "
    rf"(?:line \d+(?:, row '.*', column '.*')?|table(?: \d+)?, {_IN_TABLE}): "
)
CELL = r"^output \d+, text/html, table(?: \d+)?, row '.*', column .*: "
TABLE = r"^output \d+, text/html, table(?: \d+)?: "
TRACE = r"^output \d+, application/vnd\.plotly\.v1\+json, trace \d+ (?:'.*' )?\(\w+\), "
LAYOUT = r"^output \d+, application/vnd\.plotly\.v1\+json, layout, "
FIGURE = r"^output \d+, application/vnd\.plotly\.v1\+json, figure: "
VIEW = r"^output \d+, text/html, circuitsvis \w+, "
# What it says of two numbers that are too far apart.
FAR = r".* differs by \S+ \(.*%\), allowed "
WORDS = r".* text compares exactly"
ENTRIES = r"\d+ entries \| \d+ entries"

# An axis's label, and the name of a head beside a value, a point or a line.
LABEL = f"(?:{LAYOUT}[xy]axis\\d*\\.ticktext|{TRACE}[xy])\\[\\d+\\]: "
NAME = (
    f"(?:{LAYOUT}(?:title\\.text|annotations\\[\\d+\\]\\.text|[xy]axis\\d*\\.ticktext\\[\\d+\\]"
    r"|updatemenus\[\d+\]\.buttons\[\d+\]\.args.*)"
    f"|{TRACE}(?:name|(?:customdata|text|[xy]|cells\\.values)(?:\\[\\d+\\])+)): '.*L\\d+H\\d+"
)

NUMBER = r"(?<![\w.)\]])\d+\.\d+(?![\w.])"
SIGNED = r"(?<![\w.)\]+-])[-+]?\d+\.\d+(?![\w.])"
HEAD = r"\bL(\d+)H(\d+)\b"


def damage(name: str, by: str, stand_in: bool = False) -> Callable[[Edits], Edits]:
    def register(edits: Edits) -> Edits:
        DAMAGE.append(Damage(name, by, edits, stand_in))
        return edits

    return register


def _times(factor: str) -> Callable[[re.Match[str]], str]:
    """Only numbers of three digits or more: of fewer, 2 % may be less than one unit."""

    def change(match: re.Match[str]) -> str:
        number = match.group()
        return multiplied(number, factor) if significant(number) >= 3 else number

    return change


# --- text -----------------------------------------------------------------------------------------


@damage("a printed number, 2 % up", by=PRINTED + FAR)
def _(demo: Demo) -> Iterator[Edit]:
    yield from substitutions(demo.texts(), NUMBER, _times("1.02"))


@damage("a printed number, 2 % down", by=PRINTED + FAR)
def _(demo: Demo) -> Iterator[Edit]:
    yield from substitutions(demo.texts(), NUMBER, _times("0.98"))


@damage("a printed number's sign", by=PRINTED + FAR)
def _(demo: Demo) -> Iterator[Edit]:
    def flipped(match: re.Match[str]) -> str:
        number = match.group()
        if not significant(number):
            return number
        return number[1:] if number.startswith("-") else "-" + number.removeprefix("+")

    yield from substitutions(demo.texts(), SIGNED, flipped)


@damage("another head's name in a text", by=PRINTED + WORDS)
def _(demo: Demo) -> Iterator[Edit]:
    other = partial(re.sub, r"\d+$", lambda digits: str(int(digits[0]) + 1))
    yield from substitutions(demo.texts(), HEAD, lambda match: other(match.group()))


@damage("a whole number", by=PRINTED + ".* whole numbers compare exactly")
def _(demo: Demo) -> Iterator[Edit]:
    # A number after [ or ; may be a terminal's colour; one in a tag is not printed.
    whole = r"(?<![\w.+;\[-])\d+(?![\w.%])(?![^<>]*>)"
    yield from substitutions(demo.texts(), whole, lambda match: str(int(match.group()) + 1))


@damage("a word", by=PRINTED + WORDS)
def _(demo: Demo) -> Iterator[Edit]:
    yield from substitutions(demo.texts(), r"\b[a-z]{4,}\b", lambda match: match.group() + "s")


@damage("a line left out", by=PRINTED + f"(?:{FAR}|{WORDS}|.* whole numbers)")
def _(demo: Demo) -> Iterator[Edit]:
    yield from substitutions(demo.texts(), r"^.*\w.*\n(?=.*\w)", lambda match: "")


@damage("a warning on stderr", by=r"^output \d+: stderr, .* an output is gone$")
def _(demo: Demo) -> Iterator[Edit]:
    warning = new_output("stream", name="stderr", text="FutureWarning: this will change\n")
    for cell in demo.cells("code"):
        yield partial(cell.outputs.append, warning)


# --- tables ---------------------------------------------------------------------------------------


def _tables(demo: Demo) -> Iterator[tuple[NotebookNode, str]]:
    for data in demo.bundles("text/html"):
        if 'class="dataframe"' in data["text/html"]:
            yield data, "text/html"


@damage("a number in a table's cell, 2 % up", by=CELL + FAR, stand_in=True)
def _(demo: Demo) -> Iterator[Edit]:
    yield from substitutions(_tables(demo), rf"(?<=<td>)-?{NUMBER}(?=</td>)", _times("1.02"))


@damage("a table's label", by=CELL + WORDS, stand_in=True)
def _(demo: Demo) -> Iterator[Edit]:
    yield from substitutions(_tables(demo), r"(?<=<th>)[A-Z]\w+(?=</th>\s*<td>)", lambda m: m[0] + "x")


@damage(
    "a table's row dropped",
    by=TABLE + r"\d+ rows \| \d+ rows (?:rows new: |a row more or less of the same name)",
    stand_in=True,
)
def _(demo: Demo) -> Iterator[Edit]:
    row = r"<tr>(?:(?!</tr>).)*<td>(?:(?!</tr>).)*</tr>"
    # Where a label reaches down over rows, one of them does not go alone.
    simple = [(data, kind) for data, kind in _tables(demo) if "rowspan" not in data[kind]]
    yield from substitutions(simple, f"(?s){row}", lambda match: "")


@damage(
    "a table's column renamed",
    by=r"^output \d+, text/html, table(?: \d+)?, header of column \d+: " + WORDS,
    stand_in=True,
)
def _(demo: Demo) -> Iterator[Edit]:
    yield from substitutions(_tables(demo), r"(?<=<th>)\w+(?=</th>\s*</tr>)", lambda m: m[0] + "s")


# --- figures --------------------------------------------------------------------------------------


def _heatmaps(demo: Demo) -> Iterator[tuple[NotebookNode, list[list[float]]]]:
    for trace in demo.traces("heatmap"):
        yield trace, decode(trace["z"])


def _scaled_entry(z: list[list[float]], factor: float) -> list[list[float]]:
    """The heatmap with its largest entry multiplied."""
    largest = max(abs(value) for row in z for value in row)
    return [[value * factor if abs(value) == largest else value for value in row] for row in z]


@damage("a heatmap's largest entry, 2 % up", by=TRACE + r"z\[\d+\]\[\d+\]: " + FAR)
def _(demo: Demo) -> Iterator[Edit]:
    for trace, z in _heatmaps(demo):
        yield partial(put, trace, "z", _scaled_entry(z, 1.02))


@damage("a heatmap's median entry, 2 % up", by=TRACE + r"z\[\d+\]\[\d+\]: " + FAR)
def _(demo: Demo) -> Iterator[Edit]:
    for trace, z in _heatmaps(demo):
        values = sorted({abs(value) for row in z for value in row})
        seen = [v for v in values[len(values) // 2 :] if v > max(values[-1] / 100, 2e-3)]
        middle = seen[0] if seen else values[-1]
        changed = [[value * 1.02 if abs(value) == middle else value for value in row] for row in z]
        yield partial(put, trace, "z", changed)


@damage("a heatmap's largest entry, 0.2 % up", by=TRACE + r"z\[\d+\]\[\d+\]: " + FAR)
def _(demo: Demo) -> Iterator[Edit]:
    for trace, z in _heatmaps(demo):
        if max(abs(value) for row in z for value in row) > 0.1:
            yield partial(put, trace, "z", _scaled_entry(z, 1.002))


@damage("a heatmap transposed", by=TRACE + rf"z(?:: {ENTRIES}|\[\d+\]\[\d+\]: {FAR})")
def _(demo: Demo) -> Iterator[Edit]:
    for trace, z in _heatmaps(demo):
        flipped = [list(column) for column in zip(*z, strict=True)]
        if flipped != z:
            yield partial(put, trace, "z", flipped)


@damage("a heatmap's sign", by=TRACE + r"z\[\d+\]\[\d+\]: " + FAR)
def _(demo: Demo) -> Iterator[Edit]:
    for trace, z in _heatmaps(demo):
        yield partial(put, trace, "z", [[-value for value in row] for row in z])


@damage("a trace emptied", by=TRACE + "[xyz]: " + ENTRIES)
def _(demo: Demo) -> Iterator[Edit]:
    for trace in demo.traces():
        values: dict[str, list[float]] = {key: [] for key in ("x", "y", "z") if key in trace}
        if values:
            yield partial(trace.update, values)


@damage("a trace left out", by=FIGURE + r"\d+ traces \| \d+ traces")
def _(demo: Demo) -> Iterator[Edit]:
    for figure in demo.figures():
        yield partial(figure["data"].pop)


def _axes(demo: Demo) -> Iterator[NotebookNode]:
    for figure in demo.figures():
        for key, axis in figure["layout"].items():
            if re.fullmatch(r"[xy]axis\d*", key):
                yield axis


@damage("an axis renamed", by=LAYOUT + r"[xy]axis\d*\.title\.text: " + WORDS)
def _(demo: Demo) -> Iterator[Edit]:
    for axis in _axes(demo):
        if axis.get("title", {}).get("text"):
            yield partial(put, axis["title"], "text", "position")


@damage("two labels of an axis swapped", by=LABEL + WORDS)
def _(demo: Demo) -> Iterator[Edit]:
    holders = [(axis, "ticktext") for axis in _axes(demo)]
    holders += [(trace, key) for trace in demo.traces() for key in "xy"]
    for holder, key in holders:
        labels = decode(holder.get(key, []))
        if len(labels) > 1 and isinstance(labels[0], str) and labels[0] != labels[-1]:
            yield partial(put, holder, key, [labels[-1], *labels[1:-1], labels[0]])


@damage("a figure's title", by=LAYOUT + r"title\.text: " + WORDS)
def _(demo: Demo) -> Iterator[Edit]:
    for figure in demo.figures():
        if figure["layout"].get("title", {}).get("text"):
            yield partial(put, figure["layout"]["title"], "text", "Something else")


@damage("a colour scale reversed", by=LAYOUT + r"coloraxis\.colorscale\[\d+\]\[1\]: " + WORDS)
def _(demo: Demo) -> Iterator[Edit]:
    for figure in demo.figures():
        scale = figure["layout"].get("coloraxis", {}).get("colorscale")
        if scale:
            colours = [colour for _, colour in reversed(scale)]
            at = [position for position, _ in scale]
            new = [list(pair) for pair in zip(at, colours, strict=True)]
            yield partial(put, figure["layout"]["coloraxis"], "colorscale", new)


@damage("a colour range, 0.1 % wider", by=LAYOUT + r"coloraxis\.cmax: " + FAR)
def _(demo: Demo) -> Iterator[Edit]:
    for figure in demo.figures():
        axis = figure["layout"].get("coloraxis", {})
        if "cmax" in axis:
            yield partial(put, axis, "cmax", axis["cmax"] * 1.001)


@damage("a hover text", by=TRACE + "hovertemplate: " + WORDS)
def _(demo: Demo) -> Iterator[Edit]:
    for trace in demo.traces():
        if "hovertemplate" in trace:
            yield partial(put, trace, "hovertemplate", trace["hovertemplate"] + " (%)")


def _reread(data: NotebookNode, span: tuple[int, int], new: str) -> None:
    text = json.dumps(data[PLOTLY])
    data[PLOTLY] = from_dict(json.loads(text[: span[0]] + new + text[span[1] :]))


@damage("another head's name in a figure", by=NAME + WORDS)
def _(demo: Demo) -> Iterator[Edit]:
    for data in demo.bundles(PLOTLY):
        for match in re.finditer(HEAD, json.dumps(data[PLOTLY])):
            yield partial(_reread, data, match.span(), f"L{match[1]}H{int(match[2]) + 1}")


@damage("a figure left out", by=r"^output \d+: \(nothing\) \| .* a new output$")
def _(demo: Demo) -> Iterator[Edit]:
    for cell in demo.cells("code"):
        for output in cell.outputs:
            if PLOTLY in output.get("data", {}):
                yield partial(cell.outputs.remove, output)


# --- pictures and views ---------------------------------------------------------------------------


@damage("a figure's picture left out", by="must come with its picture")
def _(demo: Demo) -> Iterator[Edit]:
    for data in demo.bundles(PLOTLY):
        yield partial(data.pop, PNG)


@damage("a blank picture", by="single colour")
def _(demo: Demo) -> Iterator[Edit]:
    for data in demo.pictures():
        yield partial(put, data, PNG, blank())


@damage("a picture cut off", by="cannot be read")
def _(demo: Demo) -> Iterator[Edit]:
    for data in demo.pictures():
        yield partial(put, data, PNG, data[PNG][: len(data[PNG]) // 8 * 4])


def _swap(one: NotebookNode, other: NotebookNode, key: str) -> None:
    one[key], other[key] = other[key], one[key]


@damage("the pictures of two figures swapped", by="the picture was drawn from another figure")
def _(demo: Demo) -> Iterator[Edit]:
    for one, other in pairwise(demo.bundles(PLOTLY)):
        yield partial(_swap, one, other, PNG)


@damage("a picture of an unknown figure", by="the picture does not name the figure")
def _(demo: Demo) -> Iterator[Edit]:
    for data in demo.bundles(PLOTLY):
        yield partial(put, data, PNG, striped())


@damage("HTML beside a figure's picture", by="prefers it to the picture")
def _(demo: Demo) -> Iterator[Edit]:
    for data in demo.bundles(PLOTLY):
        yield partial(put, data, "text/html", "<div></div>")


@damage("a token in an attention view", by=VIEW + r"tokens\[\d+\]: " + WORDS)
def _(demo: Demo) -> Iterator[Edit]:
    places = ((data, "text/html") for data in demo.views())
    yield from substitutions(places, r'(?<="tokens": \[")[^"]*', lambda match: "Somebody")


@damage("a weight in an attention view", by=VIEW + r"attention(?:\[\d+\])+: " + FAR)
def _(demo: Demo) -> Iterator[Edit]:
    places = ((data, "text/html") for data in demo.views())
    yield from substitutions(places, r"\b0\.[1-9]\d*\b", lambda match: str(float(match[0]) * 1.02))


@damage("an attention view with no picture beside it", by="GitHub shows blank")
def _(demo: Demo) -> Iterator[Edit]:
    for cell in demo.cells("code"):
        views = [o for o in cell.outputs if o.get("data") in list(demo.views())]
        if views:
            yield partial(put, cell, "outputs", views)


# --- execution and pairing ------------------------------------------------------------------------


@damage("a null execution count", by="never executed")
def _(demo: Demo) -> Iterator[Edit]:
    for cell in demo.cells("code"):
        yield partial(put, cell, "execution_count", None)


@damage("a cell executed out of order", by="execution count is")
def _(demo: Demo) -> Iterator[Edit]:
    for cell in demo.cells("code"):
        yield partial(put, cell, "execution_count", cell.execution_count + 7)


@damage("a cell that ended in an error", by="it ended in")
def _(demo: Demo) -> Iterator[Edit]:
    error = new_output("error", ename="ValueError", evalue="no", traceback=[])
    for cell in demo.cells("code"):
        yield partial(cell.outputs.append, error)


@damage(
    "an output nobody printed",
    by=r"^output \d+: stdout, .* an output is gone$|All done\. \| \(nothing more\)",
)
def _(demo: Demo) -> Iterator[Edit]:
    extra = new_output("stream", name="stdout", text="All done.\n")
    for cell in demo.cells("code"):
        yield partial(cell.outputs.append, extra)


def _edited(cell: NotebookNode, demo: Demo) -> None:
    """Edit a cell in both files, as `jupytext --sync` would leave them: outputs and stamp stay."""
    stamp = demo.notebook.metadata.provenance.source_sha256
    cell.source += "\nprint('edited')"
    demo.resync()
    demo.notebook.metadata.provenance.source_sha256 = stamp


@damage("an edited source with a stale output", by="another version of the source")
def _(demo: Demo) -> Iterator[Edit]:
    for cell in demo.cells("code"):
        yield partial(_edited, cell, demo)


@damage("code edited in the notebook only", by="the pair disagrees")
def _(demo: Demo) -> Iterator[Edit]:
    for cell in demo.cells("code"):
        yield partial(put, cell, "source", cell.source + "\nprint('edited')")


@damage("prose edited in the notebook only", by="the pair disagrees")
def _(demo: Demo) -> Iterator[Edit]:
    for cell in demo.cells("markdown"):
        yield partial(put, cell, "source", cell.source + "\n\nEdited.")


@damage("code edited in the source only", by="the pair disagrees")
def _(demo: Demo) -> Iterator[Edit]:
    yield lambda: put(vars(demo), "source", demo.source + "\n# %%\nprint('edited')\n")


@damage("white space edited in the source only", by="another version of the source")
def _(demo: Demo) -> Iterator[Edit]:
    yield lambda: put(vars(demo), "source", demo.source + "\n")


def _move_up(cells: list[NotebookNode], at: int) -> None:
    cells.insert(at - 1, cells.pop(at))


@damage("a cell moved in the notebook", by="the pair disagrees")
def _(demo: Demo) -> Iterator[Edit]:
    cells = demo.notebook.cells
    for at in range(1, len(cells)):
        if cells[at].source != cells[at - 1].source:
            yield partial(_move_up, cells, at)


@damage("a cell left out of the notebook", by="the pair disagrees")
def _(demo: Demo) -> Iterator[Edit]:
    for cell in demo.notebook.cells:
        yield partial(demo.notebook.cells.remove, cell)


@damage("a tag that switches the comparison off", by="the pair disagrees")
def _(demo: Demo) -> Iterator[Edit]:
    for cell in demo.cells("code"):
        yield partial(put, cell.metadata, "tags", ["nbval-ignore-output"])


@damage("another model in the stamp", by="the stamp names the model 'large'; `model` under")
def _(demo: Demo) -> Iterator[Edit]:
    yield partial(put, demo.notebook.metadata.provenance, "model", "large")


@damage("no model in the stamp", by="the stamp names no model")
def _(demo: Demo) -> Iterator[Edit]:
    yield partial(demo.notebook.metadata.provenance.pop, "model")


def _both_files(demo: Demo, edit: Callable[[NotebookNode], object]) -> Iterator[Edit]:
    """An edit of a code cell in both files, properly stamped."""

    def change(cell: NotebookNode) -> None:
        edit(cell)
        demo.resync()

    for cell in demo.cells("code"):
        yield partial(change, cell)


@damage("nbval told to ignore the output", by="NBVAL_IGNORE_OUTPUT changes how the cell is tested")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _both_files(
        demo, lambda cell: put(cell, "source", f"# NBVAL_IGNORE_OUTPUT\n{cell.source}")
    )


@damage("nbval told to skip a cell", by="NBVAL_SKIP changes how the cell is tested")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _both_files(demo, lambda cell: put(cell, "source", f"{cell.source}\n    ## NBVAL_SKIP"))


@damage("nbval told to expect an error", by="NBVAL_RAISES_EXCEPTION changes how the cell is tested")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _both_files(
        demo, lambda cell: put(cell, "source", f"# NBVAL_RAISES_EXCEPTION\n{cell.source}")
    )


@damage("a tag of nbval's in both files", by="nbval-ignore-output changes how the cell is tested")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _both_files(demo, lambda cell: put(cell.metadata, "tags", ["nbval-ignore-output"]))


@damage("no provenance stamp", by="no provenance stamp")
def _(demo: Demo) -> Iterator[Edit]:
    yield partial(demo.notebook.metadata.pop, "provenance")


# --- hygiene --------------------------------------------------------------------------------------


def _printed(demo: Demo, text: str) -> Iterator[Edit]:
    """A line more in what a cell printed."""
    for output in demo.outputs():
        if output.output_type == "stream":
            yield partial(put, output, "text", output.text + text)


@damage("an absolute path in an output", by="an absolute path")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _printed(demo, "loaded /home/somebody/models/gpt2\n")


@damage("an absolute path in the code", by="an absolute path")
def _(demo: Demo) -> Iterator[Edit]:
    path = "\nfolder = '/Users/somebody/models'"
    yield from _both_files(demo, lambda cell: put(cell, "source", cell.source + path))


@damage("a time stamp in an output", by="a time stamp")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _printed(demo, "started 2026-03-01 12:30:05\n")


@damage("a warning in an output", by="a warning")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _printed(demo, "UserWarning: something is deprecated\n")


@damage("a progress bar in an output", by="a progress bar")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _printed(demo, "100%|██████████| 12/12 [00:01<00:00,  8.41it/s]\n")


@damage("an ANSI escape in an output", by="an ANSI escape")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _printed(demo, "\x1b[31mred\x1b[0m\n")


@damage("a line that GitHub cuts", by="GitHub cuts")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _printed(demo, "a finding, " * 10 + "and its end, which nobody reads\n")


@damage("a notebook of more than 2 MB", by="MB are allowed")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _printed(demo, "many words " * 200_000)


@damage("two cells with one id", by="cells with id")
def _(demo: Demo) -> Iterator[Edit]:
    first, *others = demo.notebook.cells
    for cell in others:
        yield partial(put, cell, "id", first.id)


# --- prose ----------------------------------------------------------------------------------------


def _prose(demo: Demo, text: str) -> Iterator[Edit]:
    """A sentence more in a Markdown cell, in both files, properly stamped."""

    def edit(cell: NotebookNode) -> None:
        cell.source += f"\n\n{text}"
        demo.resync()

    for cell in demo.cells("markdown"):
        yield partial(edit, cell)


@damage("a bare number in prose", by="prose states '3.55'")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _prose(demo, "GPT-2 small has an average logit difference of 3.55 here.")


@damage("a bare percentage in prose", by="prose states '97 %'")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _prose(demo, "It is right in 97 % of the prompts.")


@damage("a bare ratio in prose", by="prose states '7 of 8'")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _prose(demo, "It is right in 7 of 8 prompts.")


@damage("a head's name in prose", by="prose states 'L9H9'")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _prose(demo, "The strongest name mover is L9H9.")


@damage("a link to a file that is not there", by="no such file")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _prose(demo, "See [the other notebook](No_Such_Demo.ipynb).")


@damage("a link to a host that is not allowed", by="not among the `hosts`")
def _(demo: Demo) -> Iterator[Edit]:
    yield from _prose(demo, "See [here](https://example.com/).")


@damage("a badge that names another repository", by="it names somebody/fork")
def _(demo: Demo) -> Iterator[Edit]:
    address = f"https://colab.research.google.com/github/somebody/fork/blob/main/{demo.name}.ipynb"
    yield from _prose(demo, f"[Open in Colab]({address})")


@damage("code that installs another repository", by="code names somebody/fork")
def _(demo: Demo) -> Iterator[Edit]:
    line = "\nrepository = 'https://github.com/somebody/fork'"
    yield from _both_files(demo, lambda cell: put(cell, "source", cell.source + line))


@damage("a code cell that nobody would copy", by="are allowed")
def _(demo: Demo) -> Iterator[Edit]:
    lines = "\n" + "\n".join(f"number_{i} = {i}" for i in range(100))
    yield from _both_files(demo, lambda cell: put(cell, "source", cell.source + lines))
