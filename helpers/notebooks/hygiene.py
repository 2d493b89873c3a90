"""What must not be in a committed notebook: traces of a machine, noise, figures nobody can see."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from helpers.figure_json import PLOTLY
from helpers.notebooks.compare import ADDRESS
from helpers.notebooks.figures import figure_is_blank
from helpers.notebooks.outputs import WIDGET
from helpers.notebooks.pictures import PNG, foreign_picture_fault, picture_fault
from helpers.notebooks.problem import Problem
from helpers.wording import COLUMNS

MAX_BYTES = 2_000_000

# Folders at the root of a Linux, macOS, container or hosted machine.
_ROOTS = (
    "Applications|Library|Users|Volumes|app|builds|content|data|etc|github|gpfs|home|kaggle|lustre|media"
    "|mnt|nix|opt|private|proc|root|run|scratch|srv|storage|tmp|usr|var|work|workspaces?|dev/shm"
)
# No path: a/data/b, ../data/b, ~/data/b, {root}/data/b, https://data/b, </data>; "Q:\n" in a string.
_PATH = (
    rf"(?<![\w.~)}}\]])(?<!:/)/(?:{_ROOTS})/(?=[\w.])[^\s'\"]*"
    r"|(?<!\w)[A-Za-z]:(?:\\\\|\\(?![nrt])|/)(?=\w{2})[^\s'\"]*"
)
_TRACES = {
    "an absolute path": re.compile(_PATH + r"|\S*\bsite-packages/\S*"),
    "a time stamp": re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\b\d\d:\d\d:\d\d\b"),
    "a warning": re.compile(r"\b(?:[A-Z]\w*)?Warning\b|\bWARNING\b"),
    "a progress bar": re.compile(r"\d%\|[█-▏# ]*\|\s*\d+/|(?<![A-Za-z])(?:it/s|s/it)\b|\r(?!\n)"),
    "an ANSI escape": re.compile(r"\x1b\[[\d;]*\w"),
    "a memory address": ADDRESS,
}
# Names that many machines and accounts share, and that are also words.
_COMMON = {"admin", "localhost", "root", "runner", "ubuntu", "user"}

_RERUN = "Remove its cause, then run `make render`"


def local_names() -> frozenset[str]:
    """What would give this machine away in an output: user, host, home and working folder."""
    names = {Path.home().name, socket.gethostname()} - _COMMON
    folders = {str(Path.home()), str(Path.cwd()), tempfile.gettempdir()}
    return frozenset(name for name in names | folders if len(name) > 3)


def _strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value, without the base64 of typed arrays."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            if key not in ("bdata", PNG, "image/jpeg"):
                yield from _strings(entry)


def _shown(output: NotebookNode) -> NotebookNode:
    """The output without the plain text that stands in for its HTML and is nowhere displayed."""
    data = output.get("data", {})
    if "text/html" not in data:
        return output
    return NotebookNode({**output, "data": {k: v for k, v in data.items() if k != "text/plain"}})


def traces(text: str, names: Iterable[str]) -> Iterator[str]:
    """What in the text belongs to one run or one machine: paths, names, times, noise."""
    for what, pattern in _TRACES.items():
        match = pattern.search(text)
        if match:
            yield f"{what} ({match.group()[:60]!r})"
    for name in names:
        folder = rf"(?<!\w){re.escape(name)}(?!\w)"
        if re.search(folder if re.search(r"[/\\]", name) else _as_account(name), text):
            yield f"a name of this machine ({name!r})"


def _as_account(name: str) -> str:
    """Where a name is an account's or a host's. Elsewhere it may be a word: mary, james, model, head."""
    name = rf"{re.escape(name)}(?![\w-])"
    called = r"(?i:user|account|login|owner|author|host|node|machine)(?i:name)?['\"]?\s?[:=]?\s?['\"]?"
    return rf"(?<!\w){called}{name}|[~@\\]{name}|-of-{name}|(?<!\w){name}@\w|/{name}/|(?<!\w){name}:[~/]"


def check_traces(name: str, notebook: NotebookNode, names: Iterable[str]) -> list[Problem]:
    """Traces of a machine in outputs and metadata, absolute paths in sources, text on stderr."""
    names = list(names)
    problems = []
    for index, cell in enumerate(notebook.cells):
        found: set[str] = set()
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                found.add("text on stderr")
            for text in _strings(_shown(output)):
                found.update(traces(text, names))
        path = re.search(_PATH, cell.source)
        if path:
            found.add(f"an absolute path ({path.group()[:60]!r})")
        problems += [Problem(name, f"it holds {what}", _RERUN, index) for what in sorted(found)]
    metadata = [notebook.metadata, *(cell.metadata for cell in notebook.cells)]
    found = {what for text in _strings(metadata) for what in traces(text, names)}
    return problems + [Problem(name, f"metadata hold {what}", _RERUN) for what in sorted(found)]


# --- figures --------------------------------------------------------------------------------------


def _shows_nothing(html: str) -> bool:
    """Whether GitHub, which drops scripts, is left without text, picture or table."""
    static = re.sub(r"<(script|style)\b.*?</\1\s*>", "", html, flags=re.DOTALL | re.IGNORECASE)
    if re.search(r"<(?:img|svg|table)\b", static, re.IGNORECASE):
        return False
    return not re.sub(r"<[^>]*>|&nbsp;", "", static).strip()


def _bundle_faults(data: dict[str, Any], neighbours: list[dict[str, Any]]) -> Iterator[str]:
    if PLOTLY in data:
        if PNG not in data:
            yield "a figure without a picture: GitHub shows nothing"
        if "text/html" in data:
            yield "a figure with text/html: GitHub prefers it to the picture and shows nothing"
        if figure_is_blank(data[PLOTLY]):
            yield "a figure without data"
    elif _shows_nothing(data.get("text/html", "-")) and not any(PNG in near for near in neighbours):
        yield "HTML that GitHub shows blank, with no picture in the output before or after it"
    if WIDGET in data:
        yield "a widget, which is blank wherever no kernel runs"
    fault = picture_fault(data[PNG]) if PNG in data else None
    if fault:
        yield fault
    elif PLOTLY in data and PNG in data:
        foreign = foreign_picture_fault(data[PLOTLY], data[PNG])
        if foreign:
            yield foreign


def check_figures(name: str, notebook: NotebookNode) -> list[Problem]:
    """Whether a reader on GitHub sees what the notebook draws."""
    problems = []
    for index, cell in enumerate(notebook.cells):
        bundles = [output.get("data", {}) for output in cell.get("outputs", [])]
        for at, data in enumerate(bundles):
            neighbours = bundles[max(0, at - 1) : at] + bundles[at + 1 : at + 2]
            problems += [
                Problem(name, fault, "Correct the drawing, then run `make render`", index)
                for fault in _bundle_faults(data, neighbours)
            ]
    return problems


# --- lines ----------------------------------------------------------------------------------------

# What transformer_lens.utilities.test_prompt prints, whose lines cannot be folded from outside.
_NOT_OURS = "Tokenized prompt: "


def _printed(output: NotebookNode) -> str:
    """The text that GitHub shows of an output: none where there is HTML, whose cells it breaks."""
    data = output.get("data", {})
    return output.get("text", "") or ("" if "text/html" in data else data.get("text/plain", ""))


def check_width(name: str, notebook: NotebookNode) -> list[Problem]:
    """Whether GitHub, which cuts long lines of code and text, shows them whole."""
    problems = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        texts = [("code", cell.source, f"Break it at {COLUMNS}")]
        shown = [
            _shown(output) for output in cell.get("outputs", []) if PLOTLY not in output.get("data", {})
        ]
        texts += [
            ("text", _printed(output), "Print it with helpers.wording.say, or narrow the table")
            for output in shown
        ]
        for kind, text, remedy in texts:
            wide = [
                line
                for line in text.split("\n")
                if len(line) > COLUMNS and not line.startswith(_NOT_OURS)
            ]
            if wide:
                what = (
                    f"{len(wide)} lines of {kind} are longer than {COLUMNS} characters, and GitHub cuts "
                    f"them; the longest, {max(map(len, wide))}: {max(wide, key=len)[:60]!r} …"
                )
                problems.append(Problem(name, what, remedy, index))
    return problems


# --- the file -------------------------------------------------------------------------------------


def check_size(name: str, size: int) -> list[Problem]:
    """GitHub renders no large notebooks, and each version of one stays in the history."""
    if size <= MAX_BYTES:
        return []
    what = f"{size / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} MB are allowed"
    return [Problem(name, what, "Round the data, make the pictures smaller")]


def read_notebook(path: Path) -> NotebookNode:
    """The notebook as it stands in its file: nothing repaired, and nothing refused but what is no JSON.

    Raises json.JSONDecodeError if it is no JSON.
    """
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))
