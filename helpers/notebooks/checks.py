"""All static checks: `python -m helpers.notebooks.checks demos README.md`.

Prints a line for each problem and exits with 1 if there is one. Settings, in pyproject.toml:

    [tool.demos]
    repository = "owner/name"            # what badges and Colab links must name
    hosts = ["arxiv.org", "github.com"]  # where other links may go
    model = "smollm2-135m"               # whose outputs the notebooks beside their scripts hold
    longest_cell = 25                    # lines of code, empty ones not counted
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from helpers.notebooks.alike import check_alike
from helpers.notebooks.cells import cell_lengths, check_lengths
from helpers.notebooks.hygiene import (
    check_figures,
    check_size,
    check_traces,
    check_width,
    local_names,
)
from helpers.notebooks.interaction import check_interaction
from helpers.notebooks.opening import (
    UnreadableError,
    check_converts,
    file_text,
    read_readable,
    readable_notebook,
)
from helpers.notebooks.pairing import (
    check_executed,
    check_model,
    check_pair,
    check_same_weights,
    check_stamp,
    check_switches,
    check_weights,
)
from helpers.notebooks.problem import Problem
from helpers.notebooks.prose import LinkRules, anchors, check_claims, check_install, check_links

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Settings:
    """What a repository's pyproject.toml asks for.

    `model`: the one whose outputs stand in the notebooks beside their scripts.
    `longest_cell`: how many lines a code cell may have.
    """

    links: LinkRules
    model: str
    longest_cell: int


def _table(pyproject: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["demos"]
    return table


def link_rules(pyproject: Path) -> LinkRules:
    """The settings for links under [tool.demos]. Raises KeyError if one is missing."""
    table = _table(pyproject)
    return LinkRules(pyproject.parent, table["repository"], frozenset(table["hosts"]))


def read_settings(pyproject: Path) -> Settings:
    """The settings under [tool.demos]. Raises KeyError if one is missing."""
    table = _table(pyproject)
    return Settings(link_rules(pyproject), table["model"], table["longest_cell"])


def check_markdown(
    path: Path, cells: Iterable[tuple[int | None, str]], rules: LinkRules, name: str | None = None
) -> list[Problem]:
    """Claims and links of the Markdown in one file, reported under its name or another."""
    cells, name = list(cells), name or path.name
    known = anchors("\n\n".join(text for _, text in cells))
    problems = []
    for number, text in cells:
        problems += check_claims(name, text, number)
        problems += check_links(name, text, path.parent, known, rules, number)
    return problems


def check_cells(path: Path, notebook: NotebookNode, settings: Settings) -> list[Problem]:
    """What is wrong with prose and code of a notebook at this path, executed or not."""
    name = _name(path)
    code = [(i, c.source) for i, c in enumerate(notebook.cells) if c.cell_type == "code"]
    markdown = [(i, c.source) for i, c in enumerate(notebook.cells) if c.cell_type == "markdown"]
    return [
        *check_switches(name, notebook),
        *check_interaction(name, notebook),
        *check_lengths(name, notebook, settings.longest_cell),
        *check_markdown(path, markdown, settings.links, name),
        *(problem for i, text in code for problem in check_install(name, text, settings.links, i)),
    ]


def check_text(path: Path, text: str, settings: Settings, names: Iterable[str]) -> list[Problem]:
    """Everything there is to check in a notebook's file, as if it held this text, and its source."""
    source, name = _source_of(path), _name(path)
    try:
        notebook = readable_notebook(text)
    except UnreadableError as error:
        return [_unreadable(name, error)]
    beside = source.parent == path.parent
    problems = [
        *check_converts(name, notebook),
        *check_size(name, len(text.encode())),
        *check_executed(name, notebook),
        *check_traces(name, notebook, names),
        *check_figures(name, notebook),
        *check_cells(path, notebook, settings),
        # Another model's tables may be wider, and are no reason to refuse its rendering.
        *(check_width(name, notebook) if beside else []),
        *check_model(name, notebook, settings.model if beside else None, path.parent.name),
        *check_weights(name, notebook),
    ]
    if not source.is_file():
        return [*problems, Problem(name, "no paired source", "Add it: jupytext --set-formats")]
    script = source.read_text(encoding="utf-8")
    return [
        *problems,
        *check_pair(name, notebook, script),
        *check_stamp(name, notebook, script),
    ]


def check_notebook(path: Path, settings: Settings, names: Iterable[str]) -> list[Problem]:
    """Everything there is to check in a notebook and the source beside it."""
    try:
        text = file_text(path)
    except UnreadableError as error:
        return [_unreadable(_name(path), error)]
    return check_text(path, text, settings, names)


def _unreadable(name: str, error: UnreadableError) -> Problem:
    return Problem(name, str(error), "Run `make render`")


def _readable(paths: Iterable[Path]) -> dict[Path, NotebookNode]:
    """The notebooks that can be read; of the others the checks say so."""
    found: dict[Path, NotebookNode] = {}
    for path in paths:
        with suppress(UnreadableError):
            found[path] = read_readable(path)
    return found


def _name(notebook: Path) -> str:
    beside = _source_of(notebook).parent == notebook.parent
    return notebook.name if beside else f"{notebook.parent.name}/{notebook.name}"


def _source_of(notebook: Path) -> Path:
    """The script beside a notebook, or in the folder above: there for another model's outputs."""
    beside, above = (folder / f"{notebook.stem}.py" for folder in notebook.parents[:2])
    return above if above.is_file() and not beside.is_file() else beside


def check_folder(folder: Path, settings: Settings, names: Iterable[str]) -> list[Problem]:
    """All pairs in a folder, and other models' outputs of them one level below.

    An empty folder is a problem: nothing would be checked.
    """
    names = list(names)
    notebooks = sorted(folder.glob("*.ipynb"))
    renderings = sorted(folder.glob("[!.]*/*.ipynb"))
    problems = [
        problem
        for path in [*notebooks, *renderings]
        for problem in check_notebook(path, settings, names)
    ]
    for group in [notebooks, *_siblings(renderings).values()]:
        parsed = {_name(path): notebook for path, notebook in _readable(group).items()}
        problems += check_same_weights(parsed)
        problems += check_alike(parsed)
    for source in sorted(folder.glob("*.py")):
        if not source.with_suffix(".ipynb").is_file():
            problems.append(Problem(source.name, "no paired notebook", "Run `make render`"))
    if not notebooks:
        problems.append(Problem(str(folder), "no notebook in this folder", "Name another folder"))
    return problems


def _siblings(paths: Iterable[Path]) -> dict[Path, list[Path]]:
    """Files by the folder they are in."""
    groups: dict[Path, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.parent, []).append(path)
    return groups


def check_paths(paths: Iterable[Path], settings: Settings, names: Iterable[str]) -> list[Problem]:
    """The problems of folders of pairs, single notebooks and Markdown pages.

    Raises ValueError for anything else, FileNotFoundError for a path that is not there.
    """
    names = list(names)
    problems: list[Problem] = []
    for path in paths:
        if path.is_dir():
            problems += check_folder(path, settings, names)
        elif path.suffix == ".ipynb":
            problems += check_notebook(path, settings, names)
        elif path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            problems += check_markdown(path, [(None, text)], settings.links)
        else:
            raise ValueError(f"{path} is no folder, notebook or Markdown page")
    return problems


def main() -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(description="Check notebooks and their sources.")
    parser.add_argument("paths", nargs="+", type=Path, help="folders, notebooks, Markdown pages")
    parser.add_argument("--config", type=Path, default=Path("pyproject.toml"))
    options = parser.parse_args()
    problems = check_paths(options.paths, read_settings(options.config), local_names())
    notebooks = sorted(path for folder in options.paths for path in folder.glob("*.ipynb"))
    for path, notebook in _readable(notebooks).items():
        print(f"{path.stem}: {cell_lengths(notebook)}")
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems in {', '.join(str(path) for path in options.paths)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
