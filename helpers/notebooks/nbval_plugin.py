"""A pytest plugin that gives nbval a comparison which can fail: numbers with tolerance, figures.

In the conftest.py at the root of a project:

    pytest_plugins = ["helpers.notebooks.nbval_plugin"]

Then `pytest --nbval notebooks/` executes each notebook and compares. Under nbval alone, 3.9520 and
3.9519 differ, a blank heatmap passes, and a cell that was never executed is not compared at all.

What is compared: printed text (words and names exactly, numbers within the tolerance); Plotly
figures of every type by their data and settings; circuitsvis views by tokens and weights; tables in
HTML by cells, all other HTML, Markdown, LaTeX, SVG and JSON as text; PNG, JPEG, GIF and WebP
without data (Matplotlib's) by their pixels, so that a change which moves nothing by a pixel is not
seen. What is not: the pixels of a Plotly figure's picture (its data are), the template of a figure,
ids that pandas and others draw at random, memory addresses, metadata of outputs. Widgets need a
kernel, and are refused by the static checks. SVG of Matplotlib holds random ids and the date: set
`svg.hashsalt` and no date, or show PNG.

A cell tagged `needs-PACKAGE` is compared where that package is installed, and only executed elsewhere.

Ini options: nbval_rtol, nbval_atol, nbval_data_rtol, nbval_data_atol, nbval_noise, nbval_accept,
nbval_model_env.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest
from jupyter_client.kernelspec import NoSuchKernel
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile

from helpers.notebooks.compare import Difference, Tolerance
from helpers.notebooks.kernel import KernelDiedError, WatchedKernel
from helpers.notebooks.outputs import compare_outputs, unrun_fault
from helpers.notebooks.provenance import model_name

# What nbval's own sanitize rules must not rewrite: base64, and things that are no text.
_NOT_TEXT = ("metadata", "output_type", "name", "execution_count", "image/png", "image/jpeg")


TOLERANCES = {
    "rtol": "relative tolerance of printed numbers",
    "atol": "absolute tolerance of printed numbers",
    "data_rtol": "relative tolerance of numbers in figures and other JSON",
    "data_atol": "absolute tolerance of numbers in figures and other JSON",
    "noise": "tolerance of an array's entries, relative to its largest",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    defaults = Tolerance()
    for option, what in TOLERANCES.items():
        parser.addini(f"nbval_{option}", what, default=str(getattr(defaults, option)))
    parser.addini("nbval_accept", "command that accepts new values", default="make render")
    parser.addini(
        "nbval_model_env",
        "environment variable that names the model of this run; a notebook whose metadata "
        "(provenance.model) name another one is run, not compared",
        default="DEMO_MODEL",
    )


def _tolerance(config: pytest.Config) -> Tolerance:
    read: dict[str, Any] = {option: float(config.getini(f"nbval_{option}")) for option in TOLERANCES}
    return Tolerance(**read)


def _run_model(config: pytest.Config) -> str | None:
    model = os.environ.get(config.getini("nbval_model_env"))
    return model_name(model) if model else None


def _other_rendering(notebook: NotebookNode, config: pytest.Config) -> str | None:
    """With which other model than this run's a notebook was rendered; None if with the same.

    Of a name, other weights are a reason to fail, not to compare nothing; folders' names say little.
    """
    model = os.environ.get(config.getini("nbval_model_env"))
    stamped = notebook.metadata.get("provenance", {})
    rendered = stamped.get("model")
    if not model or not rendered:
        return None
    if rendered != model_name(model):
        return str(rendered)
    if "weights" not in stamped or not Path(model).expanduser().is_dir():
        return None
    # Imported here: a project without such stamps needs nothing of what knows models.
    from helpers.notebooks.weights import other_weights

    fault = other_weights(notebook, model)
    return f"another {rendered}: {fault}" if fault else None


class CellFailedError(Exception):
    """A cell's outputs are not the committed ones, or it gave none; the message says so."""


def _described(difference: Difference) -> str:
    lines = [f"  {difference.where}"]
    for label, value in (("committed", difference.expected), ("this run", difference.got)):
        if value:
            lines.append(f"    {label:<10} {value if len(value) < 200 else value[:200] + ' …'}")
    return "\n".join([*lines, f"    {difference.note}"] if difference.note else lines)


# Messages that add an output to a cell.
_SHOWN = ("stream", "display_data", "execute_result", "error")


class _Screen:
    """What nbval leaves out when it collects a cell's outputs: that they are cleared, or replaced.

    It follows nbclient, which makes the committed notebooks.
    """

    def __init__(self, outputs: list[NotebookNode]) -> None:
        self._outputs = outputs  # nbval's list, to which nbval appends
        self._clear_before_next = False
        self._places: dict[str, list[int]] = {}  # of the outputs with a display id

    def receive(self, message: dict[str, Any]) -> None:
        """Take note of a message of this cell, before nbval does. Raises LookupError for an update of
        a display that this cell has not made.
        """
        kind, content = message["msg_type"], message["content"]
        if kind == "clear_output":
            self._clear_before_next = bool(content.get("wait"))
            if not self._clear_before_next:
                self._clear()
        elif kind in _SHOWN:
            if self._clear_before_next:
                self._clear()
            self._clear_before_next = False
        display_id = content.get("transient", {}).get("display_id")
        if display_id and kind in ("update_display_data", "display_data", "execute_result"):
            self._replace(display_id, content)
            if kind != "update_display_data":
                self._places.setdefault(display_id, []).append(len(self._outputs))
            elif display_id not in self._places:
                raise LookupError(display_id)

    def _clear(self) -> None:
        self._outputs.clear()
        self._places = {display_id: [] for display_id in self._places}

    def _replace(self, display_id: str, content: dict[str, Any]) -> None:
        for place in self._places.get(display_id, []):
            self._outputs[place].data = content["data"]
            self._outputs[place].metadata = content["metadata"]


class NotebookCell(IPyNbCell):  # type: ignore[misc]
    """A code cell, executed by nbval and compared here."""

    _screen: _Screen | None = None

    def _fail(self, what: str, details: Sequence[str] = (), accept: bool = True) -> NoReturn:
        count = self.cell.execution_count
        place = f"{self.path.name}, code cell {self.cell_num} (In [{count or ' '}])"
        command = self.config.getini("nbval_accept")
        ways = [f"If the new outputs are right: {command}"] if accept else []
        raise CellFailedError("\n".join([f"{place}: {what}", *details, *ways]))

    def runtest(self) -> None:
        if self.parent.kernel_died:
            pytest.skip(self.parent.kernel_died)
        if not self.options["check"] and self.cell.execution_count is None:
            self.cell.outputs = []  # with outputs nbval would fail it
        self.parent.running, self._screen = self, None
        try:
            if not (self.options["skip"] or self.parent.kernel.is_alive()):
                raise KernelDiedError(f"after the cell before, {self.parent.kernel.ending()}")
            super().runtest()
        except KernelDiedError as error:
            self.parent.kernel_died = f"not run: the kernel died in code cell {self.cell_num}"
            self._fail(f"the kernel died: {error}. The cells below are not run", accept=False)
        fault = unrun_fault(self.cell)
        if fault and self.options["check"]:
            self._fail(fault)

    def receive(self, message: dict[str, Any]) -> None:
        """A message of the kernel's about this cell, before nbval has it."""
        if self._screen is None:  # nbval makes the list of outputs after it has begun
            self._screen = _Screen(self.test_outputs)
        try:
            self._screen.receive(message)
        except LookupError:
            self._fail(
                "it updates a display that another cell has made. That cell's outputs are compared "
                "when it has run: update a display in the cell that makes it",
                accept=False,
            )

    def compare_outputs(
        self, test: list[NotebookNode], ref: list[NotebookNode], skip_compare: Any = None
    ) -> bool:
        """nbval's hook. Raises CellFailedError, which says more than nbval's False would."""
        if self.parent.run_only or _needs_absent(self.cell):
            return True
        reference, fresh = (self.sanitize_outputs(side, _NOT_TEXT) for side in (ref, test))
        differences = compare_outputs(reference, fresh, _tolerance(self.config))
        if differences:
            self._fail("the outputs are not the committed ones", [_described(d) for d in differences])
        return True

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:
        if isinstance(excinfo.value, CellFailedError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))


def _needs_absent(cell: NotebookNode) -> bool:
    """Whether a cell says, by a tag such as ``needs-ray``, that it shows what a package does that is not
    installed here: it is executed, and its outputs are not compared."""
    tags = (tag for tag in cell.metadata.get("tags", []) if tag.startswith("needs-"))
    return any(find_spec(tag.removeprefix("needs-")) is None for tag in tags)


class Notebook(IPyNbFile):  # type: ignore[misc]
    """A notebook, collected by nbval; `run_only` if it was rendered with another model."""

    run_only = False
    kernel_died = ""  # in which cell, as a sentence
    running: NotebookCell | None = None

    def teardown(self) -> None:
        super().teardown()
        if self.kernel is not None and self.kernel_died:
            self.kernel.kc.stop_channels()
            self.kernel.km.cleanup_resources()

    def get_kernel_message(self, timeout: float | None = None, stream: str = "iopub") -> dict[str, Any]:
        """nbval's hook: the next message. What nbval does not know is done here, and hidden from it."""
        message: dict[str, Any] = super().get_kernel_message(timeout, stream)
        ours = message["parent_header"].get("msg_id") == self.kernel.executing
        if self.running is not None and ours:
            self.running.receive(message)
            if message["msg_type"] in ("clear_output", "update_display_data"):
                return {**message, "msg_type": "comm_msg"}  # passed over
        return message

    def setup(self) -> None:
        problem = None
        try:
            super().setup()
        except (NoSuchKernel, RuntimeError) as error:
            problem = str(error)
        if problem:
            limit = self.config.option.nbval_kernel_startup_timeout
            pytest.fail(
                f"{self.path.name}: no kernel answered within {limit:g} seconds ({problem}). `python -m "
                "ipykernel` in this environment should start one, and say what is wrong; "
                "--nbval-kernel-startup-timeout sets the limit.",
                pytrace=False,
            )
        self.kernel: WatchedKernel = WatchedKernel(self.kernel)

    def collect(self) -> Iterator[NotebookCell]:
        cells = list(super().collect())
        other = _other_rendering(self.nb, self.config)
        if other:
            self.run_only = True
            self.config.stash[_RUN_ONLY].append(f"{self.path.name} (rendered with {other})")
        for cell in cells:
            yield NotebookCell.from_parent(
                self, name=cell.name, cell_num=cell.cell_num, cell=cell.cell, options=cell.options
            )


_RUN_ONLY = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RUN_ONLY] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands on what the summary says; each has collected every notebook."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["nbval_run_only"] = session.config.stash[_RUN_ONLY]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    names = node.config.stash[_RUN_ONLY]
    told = getattr(node, "workeroutput", {}).get("nbval_run_only", [])  # one that crashed tells nothing
    names += [name for name in told if name not in names]


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Put our notebook in the place of nbval's."""
    collected = yield
    return [
        Notebook.from_parent(parent, path=file_path) if isinstance(node, IPyNbFile) else node
        for node in collected
    ]


def pytest_report_header(config: pytest.Config) -> list[str]:
    if not (config.option.nbval or config.option.nbval_lax):
        return []
    tolerance = _tolerance(config)
    lines = [
        f"notebooks: printed numbers with rtol {tolerance.rtol}, atol {tolerance.atol}, figures "
        f"with rtol {tolerance.data_rtol}, atol {tolerance.data_atol}"
    ]
    model = _run_model(config)
    if model:
        variable = config.getini("nbval_model_env")
        lines.append(
            f"notebooks: run with {variable}={model}; one rendered with another model is only run: "
            "errors fail, no output is compared"
        )
    return lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    names = config.stash[_RUN_ONLY]
    if names:
        terminalreporter.section("run only: no output was compared")
        terminalreporter.line(f"this run's model: {_run_model(config)}")
        for name in names:
            terminalreporter.line(f"  {name}")
