"""Execute percent-format demos and write notebooks and web pages with their outputs.

``python -m helpers.notebooks.render demos/X.py`` writes ``build/X.ipynb`` and ``build/X.html``;
``--in-place`` writes the paired ``demos/X.ipynb`` instead, and ``--sync`` pairs without executing.

A pair holds the outputs of the model that pyproject.toml names under ``[tool.demos]``. With another one
in ``DEMO_MODEL``, ``--in-place`` writes into a folder of that model's name beside the pair
(``demos/gpt2/X.ipynb``), never into the pair. What the static checks would refuse is not written.
"""

from __future__ import annotations

import argparse
import atexit
import base64
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from helpers.embedded import ModelUnavailableError, embedded_model_folder
from helpers.files import NotWrittenError, check_writable, write_file, write_files
from helpers.model_folder import EMBEDDED_MODEL, from_anywhere
from helpers.notebooks.checks import Settings, check_cells, check_text, read_settings
from helpers.notebooks.hygiene import check_width, local_names
from helpers.notebooks.opening import UnreadableError, file_text, readable_notebook
from helpers.notebooks.page import to_html
from helpers.notebooks.pairing import parse_script
from helpers.notebooks.problem import Problem
from helpers.notebooks.provenance import folder_of_name, model_name, stamp
from helpers.notebooks.tables import with_ids
from helpers.notebooks.weights import other_weights

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}

# What a headless run needs and a reader at a live kernel does not: no progress bars in the outputs.
HEADLESS = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "WANDB_MODE": "disabled"}

# A kernel takes a second to answer, on a machine that is busy some.
KERNEL_SECONDS = 60.0


class KernelError(RuntimeError):
    """A kernel could not be started, or ended before its notebook did; the message says what to do."""


def read_source(source: Path) -> NotebookNode:
    """The notebook that a percent script describes, without outputs; ids follow from the content."""
    notebook = parse_script(source.read_text(encoding="utf-8"))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(
        {
            "jupytext": {"formats": "ipynb,py:percent"},
            "kernelspec": KERNELSPEC,
            "language_info": {"name": "python"},
        }
    )
    for index, cell in enumerate(notebook.cells):
        cell["id"] = cell_id(index, cell)
    return notebook


def cell_id(index: int, cell: NotebookNode) -> str:
    """A cell's id, from its place and its source: the same at each rendering."""
    text = f"{index}\n{cell.cell_type}\n{cell.source}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def execute(notebook: NotebookNode, folder: Path, model: str, title: str) -> None:
    """Run every code cell in a fresh kernel, with a progress bar over cells.

    Raises:
        nbclient.exceptions.CellExecutionError: with source and traceback, if a cell fails.
        KernelError: if no kernel answers within a minute, or it ends before the last cell does.
    """
    if model == EMBEDDED_MODEL:
        embedded_model_folder()  # unpacked by a kernel, it would leave progress bars in an output
    total = sum(cell.cell_type == "code" and cell.id != _QUESTION for cell in notebook.cells)
    done: list[int] = []  # a bar that is switched off counts nothing
    with tqdm(total=total, desc=title, unit="cell", file=sys.stderr) as bar:

        def tick(cell_index: int, **_: object) -> None:
            if notebook.cells[cell_index].id != _QUESTION:
                done.append(cell_index)
                bar.update()

        client = NotebookClient(
            notebook,
            timeout=None,
            startup_timeout=KERNEL_SECONDS,
            kernel_name=KERNELSPEC["name"],
            resources={"metadata": {"path": str(folder)}},
            extra_arguments=["--log-level=40"],  # errors only: no start-up advice on the terminal
            record_timing=False,
            coalesce_streams=True,
            store_widget_state=True,  # without, nbclient fails at an Output widget
            on_cell_executed=tick,
        )
        with _kernel_faults(client, title, done, total):
            client.execute(env={**os.environ, **HEADLESS, "DEMO_MODEL": model})
    notebook.metadata["language_info"] = {"name": "python"}  # not the version of this machine's Python
    notebook.metadata.pop("widgets", None)  # new at each run, and nothing without a kernel
    _settle_ids(notebook)


def _settle_ids(notebook: NotebookNode) -> None:
    """Ids that pandas drew at random become those of their cell: a second run shall change nothing."""
    for cell in notebook.cells:
        for number, output in enumerate(cell.get("outputs", [])):
            if "text/html" in output.get("data", {}):
                named = partial(_table_id, f"{cell['id']} {number}")
                output.data["text/html"] = with_ids(output.data["text/html"], named)


def _table_id(place: str, number: int) -> str:
    return f"T_{hashlib.sha256(f'{place} {number}'.encode()).hexdigest()[:8]}"


@contextmanager
def _kernel_faults(
    client: NotebookClient, title: str, done: Sequence[int], total: int
) -> Iterator[None]:
    """Says of a kernel's end, or of its silence, in which notebook it was and what to look at."""
    try:
        yield
    except DeadKernelError as error:
        cell = min(len(done) + 1, total)
        raise KernelError(
            f"The kernel of {title} ended while it ran code cell {cell} of {total}; the system may have "
            "run out of memory and killed it. Nothing was written."
        ) from error
    except (NoSuchKernel, RuntimeError) as error:
        # The client, which has cleaned up by now, would do so again at exit, and print a traceback.
        atexit.unregister(client._cleanup_kernel)
        raise KernelError(
            f"No kernel for {title} answered within {KERNEL_SECONDS:.0f} seconds ({error}). "
            "`python -m ipykernel` in this environment should start one, and say what is wrong. "
            "Nothing was written."
        ) from error


class RefusedError(Exception):
    """A notebook was not written, because of problems that the checks found in it."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{path} was not written and is as it was. Problems:\n{lines}")


def notebook_text(notebook: NotebookNode) -> str:
    """What stands in the notebook's file."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def write_notebook(path: Path, notebook: NotebookNode) -> None:
    write_file(path, notebook_text(notebook))


def render(source: Path, out: Path, model: str) -> list[Path]:
    """Execute a demo into ``out``: the notebook with its outputs, and a page to read it on.

    Raises:
        NotWrittenError: if ``out`` cannot be written to; before anything is executed, if possible.
    """
    check_writable(out)
    notebook = _executed(source, model)
    notebook_path, page_path = (out / source.with_suffix(suffix).name for suffix in (".ipynb", ".html"))
    other = _holds_other(notebook_path, model)
    if other:
        print(f"NOTE: {notebook_path} {other}. It is replaced.")
    page = to_html(notebook, title=source.stem.replace("_", " "))
    write_files({notebook_path: notebook_text(notebook), page_path: page})
    return [page_path, notebook_path]


def render_in_place(source: Path, model: str, settings: Settings) -> list[Path]:
    """Execute a demo into the notebook it is paired with, or beside it if the model is another.

    Raises:
        RefusedError: if the static checks find anything, as far as possible before executing. A
            figure without its static picture is such a thing: GitHub would show nothing. So is
            another model's notebook in the same place.
        NotWrittenError: if the place cannot be written to; before executing, if possible.
    """
    path = rendering_path(source, model, settings.model)
    unexecuted = read_source(source)
    early = check_cells(path, unexecuted, settings)
    paired = path == source.with_suffix(".ipynb")
    early += check_width(path.name, unexecuted) if paired else _other_model(path, model)
    if early:
        raise RefusedError(path, early)
    check_writable(path.parent)
    notebook = _executed(source, model)
    if not paired:
        del notebook.metadata["jupytext"]  # it has no script beside it, and shall not grow one
    text = notebook_text(notebook)
    problems = check_text(path, text, settings, local_names())
    if problems:
        raise RefusedError(path, problems)
    thumbnail = _thumbnail(notebook, source) if paired else {}
    write_files({path: text, **thumbnail})
    return [path, *thumbnail]


def _other_model(path: Path, model: str) -> list[Problem]:
    """Whether another model's outputs are in the place: names may end alike, or be alike."""
    fault = _holds_other(path, model)
    return [Problem(str(path), fault, f"move {path.parent} away")] if fault else []


def _holds_other(path: Path, model: str) -> str | None:
    """Whose outputs a notebook holds, if they are not known to be this model's."""
    notebook = _committed(path)
    if notebook is None:
        return None
    before, ours = notebook.metadata.get("provenance", {}).get("model"), model_name(model)
    if before is None:
        return None
    if before != ours:
        return f"holds the outputs of {before}, not of {ours}"
    fault = other_weights(notebook, model)
    return f"may hold the outputs of another model called {ours}: {fault}" if fault else None


def _committed(path: Path) -> NotebookNode | None:
    """The notebook that is there, as it stands there; None if there is none, or only its ruins."""
    if not path.exists():
        return None
    try:
        notebook = nbformat.v4.reads(file_text(path))
    except (ValueError, AttributeError, TypeError, KeyError):
        return None
    return notebook if all("source" in cell for cell in notebook.cells) else None


def _thumbnail(notebook: NotebookNode, source: Path) -> dict[Path, bytes]:
    """The picture of the cell that is tagged ``thumbnail``, if any, for the README and other indexes."""
    pictures = [
        output.data["image/png"]
        for cell in notebook.cells
        if "thumbnail" in cell.metadata.get("tags", [])
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    path = source.parent / "thumbnails" / f"{source.stem}.png"
    return {path: base64.b64decode(pictures[0])} if pictures else {}


def rendering_path(source: Path, model: str, paired_model: str) -> Path:
    """Where a demo's outputs with a model are kept.

    Args:
        source: the percent script.
        model: as in ``DEMO_MODEL``: the embedded model, a hub name or a folder.
        paired_model: the one whose outputs stand in the notebook beside the script.
    """
    paired = source.with_suffix(".ipynb")
    if model == paired_model:
        return paired
    return paired.parent / folder_of_name(model_name(model)) / paired.name


def sync(source: Path) -> list[Path]:
    """Bring the paired notebook's cells up to date without executing.

    Outputs of cells that did not change are kept, and so is the old stamp: until the next render the
    checks report that outputs and source may not belong together.
    """
    path = source.with_suffix(".ipynb")
    notebook = read_source(source)
    before = _committed(path)
    if before is not None:
        if "provenance" in before.metadata:
            notebook.metadata["provenance"] = before.metadata["provenance"]
        _keep_outputs(notebook, before)
    if path.exists() and (before is None or not _can_be_read(notebook)):
        print(f"NOTE: {path} is damaged; outputs are left out. `make render` makes them anew.")
        notebook = read_source(source)
    write_notebook(path, notebook)
    return [path]


def _can_be_read(notebook: NotebookNode) -> bool:
    try:
        readable_notebook(nbformat.writes(notebook))
    except (UnreadableError, ValueError):
        return False
    return True


def _keep_outputs(notebook: NotebookNode, before: NotebookNode) -> None:
    """Take over outputs where the source is the same to the letter; jupytext matches more loosely."""
    executed = [cell for cell in before.cells if cell.cell_type == "code"]
    for cell in notebook.cells:
        match = next((old for old in executed if old.source == cell.source), None)
        if cell.cell_type == "code" and match is not None and "outputs" in match:
            cell.outputs, cell.execution_count = match.outputs, match.get("execution_count")
            executed.remove(match)


# Asked of the kernel when all is done: it alone knows what it has loaded.
_QUESTION = "which-weights"
_WHICH_WEIGHTS = """
import json, sys
identity = sys.modules.get("helpers.identity")
print(json.dumps(identity.loaded_models() if identity else []))
"""


def _executed(source: Path, model: str) -> NotebookNode:
    notebook = read_source(source)
    question = nbformat.v4.new_code_cell(_WHICH_WEIGHTS, id=_QUESTION)
    notebook.cells.append(question)
    execute(notebook, source.parent, model, title=source.stem)
    notebook.cells.remove(question)
    [answer] = [output.text for output in question.outputs if output.get("name") == "stdout"]
    stamp(notebook, source, model, json.loads(answer))
    return notebook


def _elsewhere(in_place: bool) -> str:
    """How to write to another folder than the one that cannot be written to."""
    if in_place:
        return "Run it in a copy of the repository that can be written to, or with --out FOLDER."
    return "Name another one: --out FOLDER."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, help="percent-format .py demos")
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder to write into")
    parser.add_argument("--config", type=Path, default=Path("pyproject.toml"))
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--in-place",
        action="store_true",
        help="write outputs into the paired .ipynb (another model's: beside it)",
    )
    how.add_argument("--sync", action="store_true", help="pair without executing")
    arguments = parser.parse_args()
    missing = [str(source) for source in arguments.sources if not source.is_file()]
    if missing:
        parser.error(f"no such demo: {', '.join(missing)}")
    settings = read_settings(arguments.config)
    try:
        model = from_anywhere(os.environ.get("DEMO_MODEL") or settings.model)
    except ModelUnavailableError as error:
        sys.exit(str(error))
    for source in arguments.sources:
        try:
            if arguments.sync:
                written = sync(source)
            elif arguments.in_place:
                written = render_in_place(source, model, settings)
            else:
                written = render(source, arguments.out, model)
        except (RefusedError, ModelUnavailableError, KernelError) as error:
            sys.exit(str(error))
        except NotWrittenError as error:
            sys.exit(f"{error} {_elsewhere(arguments.in_place or arguments.sync)}")
        for path in written:
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
