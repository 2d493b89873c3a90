"""A demo on a task of one's own, begun: ``make new-demo NAME=My_Task`` writes demos/My_Task_Demo.py.

It is made from Your_Own_Task_Demo.py: the same cells, less those tagged ``worked-example``, and instead
of the one tagged ``task`` a task made from lists, to be edited. It runs as it is. Prints its path.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import jupytext
from nbformat import NotebookNode

from helpers.files import NotWrittenError, write_file
from helpers.notebooks.pairing import parse_script

PATTERN = "Your_Own_Task_Demo"
WORKED_EXAMPLE, TASK = "worked-example", "task"
_NAME = re.compile(r"[A-Z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*")

_TITLE = """\
# {title}

{badge}

**Question.** What the model can do here, in a sentence: which answer should follow, and what in the
prompt it depends on.

**How to read it.** No head and no measurement is named in the text: the cells print what they found, on
whatever model and task are loaded."""

_TASK = """\
model = load_model()
capitals = {
    "France": " Paris",
    "Italy": " Rome",
    "Germany": " Berlin",
    "Japan": " Tokyo",
    "Russia": " Moscow",
    "Egypt": " Cairo",
}
pairs = [(one, other) for one in capitals for other in capitals if one != other]
everything = Task.from_prompts(
    model,
    clean=[f"The capital of {one} is the city of" for one, _ in pairs],
    corrupted=[f"The capital of {other} is the city of" for _, other in pairs],
    right=[capitals[one] for one, _ in pairs],
    wrong=[capitals[other] for _, other in pairs],
    roles={"country": [one for one, _ in pairs]},
)
order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0)).tolist()
task, held_out = everything.select(order[:8]), everything.select(order[8:])"""


def new_demo(name: str, folder: Path) -> Path:
    """Write a demo of this name into the folder of the demos; its path.

    Raises:
        ValueError: saying what to do, if the name cannot be a demo's, or one of that name is there.
    """
    stem = demo_stem(name)
    path = folder / f"{stem}.py"
    taken = next((p for p in (path, path.with_suffix(".ipynb")) if p.exists()), None)
    if taken:
        raise ValueError(f"{taken} is there already. Choose another name, or remove it.")
    pattern = (folder / f"{PATTERN}.py").read_text(encoding="utf-8")
    write_file(path, script_of(pattern, stem))
    return path


def demo_stem(name: str) -> str:
    """The name of a demo's files: My_Task_Demo for My_Task, and for My_Task_Demo too.

    Raises:
        ValueError: if it is no such name.
    """
    if not _NAME.fullmatch(name) or name == "Demo":
        raise ValueError(
            f"{name!r} is no name for a demo; expected words with a capital first, joined by "
            "underscores, as in: make new-demo NAME=My_Task"
        )
    return f"{name.removesuffix('_Demo')}_Demo"


def script_of(pattern: str, stem: str) -> str:
    """The percent script of a new demo, from that of the pattern."""
    notebook = parse_script(pattern)
    title, *rest = notebook.cells
    [badge] = [line for line in title.source.splitlines() if line.startswith("[![")]
    heading = stem.removesuffix("_Demo").replace("_", " ")
    title.source = _TITLE.format(title=heading, badge=badge.replace(PATTERN, stem))
    notebook.cells = [title, *(cell for cell in rest if WORKED_EXAMPLE not in _tags(cell))]
    [task] = [cell for cell in notebook.cells if TASK in _tags(cell)]
    task.source = _TASK
    del task.metadata["tags"]
    return jupytext.writes(notebook, fmt="py:percent")


def _tags(cell: NotebookNode) -> list[str]:
    tags: list[str] = cell.metadata.get("tags", [])
    return tags


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", help="such as My_Task")
    parser.add_argument("--folder", type=Path, default=Path("demos"), help="where the demos are")
    options = parser.parse_args()
    try:
        path = new_demo(options.name, options.folder)
    except (ValueError, NotWrittenError) as error:
        sys.exit(str(error))
    print(f"wrote {path}; its second section holds the cell to edit", file=sys.stderr)
    print(path)


if __name__ == "__main__":
    main()
