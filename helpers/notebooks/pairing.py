"""Do a notebook and its percent-format source agree, and are its outputs those of that source?

By content: a fresh clone has no time stamps to go by, and `jupytext --test` looks at one file only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest

import jupytext
from nbformat import NotebookNode
from nbval.plugin import comment_markers, metadata_tags

from helpers.notebooks.problem import Problem
from helpers.notebooks.provenance import folder_of_name, text_sha256
from helpers.wording import short_identity

_RENDER = "Edit the .py file, then run `make render`"


def parse_script(text: str) -> NotebookNode:
    """The notebook that a script describes; in percent format, whether or not its header says so."""
    return jupytext.reads(text, fmt="py:percent")


def _parts(cell: NotebookNode | None) -> list[str]:
    """All that a pair must agree in, in words. Tags too: one can switch off the comparison."""
    if cell is None:
        return []
    lines = enumerate(cell.source.strip().split("\n"), start=1)
    return [
        f"a {cell.cell_type} cell",
        f"tags: {sorted(cell.metadata.get('tags', []))}",
        *(f"line {number}: {line!r}" for number, line in lines),
    ]


def _told_apart(old: NotebookNode | None, new: NotebookNode | None) -> str | None:
    """The first thing in which a cell of the notebook is not the source's; None if there is none."""
    for one, other in zip_longest(_parts(old), _parts(new), fillvalue="nothing more"):
        if one != other:
            return f"notebook has {one}, source has {other}"
    return None


def check_pair(name: str, notebook: NotebookNode, source: str) -> list[Problem]:
    """The first cell in which the two differ. After it all others may be shifted."""
    paired = parse_script(source)
    for index, (old, new) in enumerate(zip_longest(notebook.cells, paired.cells)):
        what = _told_apart(old, new)
        if what:
            return [Problem(name, f"the pair disagrees: {what}", _RENDER, index)]
    return []


def check_stamp(name: str, notebook: NotebookNode, source: str) -> list[Problem]:
    """Whether the outputs were made from this very source."""
    stamp = notebook.metadata.get("provenance", {}).get("source_sha256")
    if stamp == text_sha256(source):
        return []
    what = "outputs are of another version of the source" if stamp else "no provenance stamp"
    return [Problem(name, what, "Run `make render`")]


def check_model(name: str, notebook: NotebookNode, model: str | None, folder: str) -> list[Problem]:
    """Whether the stamp names the model whose outputs belong here; with another, tests compare nothing.

    Args:
        name: how to call the notebook.
        notebook: with its stamp.
        model: whose outputs belong here; None if it is the one that gave the folder its name.
        folder: the name of the notebook's folder.
    """
    stamped = notebook.metadata.get("provenance", {}).get("model")
    if not isinstance(stamped, str) or not stamped:
        return [Problem(name, "the stamp names no model", "Run `make render`")]
    if model is None:
        fits, wanted = folder_of_name(stamped) == folder, f"the folder is {folder}"
    else:
        fits, wanted = stamped == model, f"`model` under [tool.demos] is {model!r}"
    what = f"the stamp names the model {stamped!r}; {wanted}"
    return [] if fits else [Problem(name, what, "Run `make render` with the model that belongs here")]


def check_weights(name: str, notebook: NotebookNode) -> list[Problem]:
    """Whether the stamp tells the weights that made the outputs: a model's name does not."""
    weights = notebook.metadata.get("provenance", {}).get("weights")
    if not isinstance(weights, list):
        what = "the stamp does not say which weights made the outputs"
    elif not all(isinstance(entry.get("weights"), str) for entry in weights):
        what = "a model's files changed while the notebook was made"
    else:
        return []
    return [Problem(name, what, "Run `make render`")]


def check_same_weights(notebooks: Mapping[str, NotebookNode]) -> list[Problem]:
    """Whether what goes by one name in the notebooks of a folder is one model.

    Args:
        notebooks: by their names, with their stamps.
    """
    first: dict[tuple[str, str], tuple[str, str]] = {}
    problems = []
    for name, notebook in notebooks.items():
        for entry in notebook.metadata.get("provenance", {}).get("weights") or []:
            model = (entry["model"], entry["dtype"])
            weights, where = first.setdefault(model, (entry["weights"], name))
            if weights != entry["weights"]:
                here, there = short_identity(entry["weights"]), short_identity(weights)
                what = f"its {model[0]} is {here}, that of {where} is {there}"
                problems.append(Problem(name, what, "Run `make render` for all with one model"))
    return problems


# nbval leaves out what a cell so marked prints, or the whole cell; so does nbclient with the last.
_SWITCH_TAGS = {*metadata_tags, "skip-execution"}


def _switches(cell: NotebookNode) -> list[str]:
    lines = (line.strip() for line in cell.source.splitlines())
    comments = {line.lstrip("#").strip() for line in lines if line.startswith("#")}
    return sorted([*comments & {*comment_markers}, *_SWITCH_TAGS & {*cell.metadata.get("tags", [])}])


def check_switches(name: str, notebook: NotebookNode) -> list[Problem]:
    """Whether no comment or tag takes a cell out of the tests; in both files, no other check sees it."""
    return [
        Problem(name, f"{switch} changes how the cell is tested", "Take it away", index)
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
        for switch in _switches(cell)
    ]


def _execution_problems(name: str, notebook: NotebookNode) -> Iterator[Problem]:
    expected = 1
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count != expected:
            what = f"execution count is {cell.execution_count}, not {expected}"
            yield Problem(name, what, "Run `make render`", index)
        expected += 1
        for output in cell.outputs:
            if output.output_type == "error":
                yield Problem(name, f"it ended in {output.ename}", "Make it run", index)


def check_executed(name: str, notebook: NotebookNode) -> list[Problem]:
    """Whether all code cells were executed, once, from the first to the last, without an error."""
    return list(_execution_problems(name, notebook))
