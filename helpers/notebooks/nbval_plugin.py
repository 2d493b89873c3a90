"""A pytest plugin that gives nbval a comparison which can fail: numbers with tolerance, figures.

In the conftest.py at the root of a project:

    pytest_plugins = ["helpers.notebooks.nbval_plugin"]

Then `pytest --nbval notebooks/` executes each notebook and compares. Under nbval alone, 3.9520 and
3.9519 differ, a blank heatmap passes, and a cell that was never executed is not compared at all.
Ini options: nbval_rtol, nbval_atol, nbval_data_rtol, nbval_data_atol, nbval_noise, nbval_accept,
nbval_model_env.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile

from helpers.notebooks.compare import Difference, Tolerance
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
    return Tolerance(**{option: float(config.getini(f"nbval_{option}")) for option in TOLERANCES})


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


class OutputsDifferError(Exception):
    """A cell's outputs are not the committed ones; the message is for the maintainer."""


def _described(difference: Difference) -> str:
    lines = [f"  {difference.where}"]
    for label, value in (("committed", difference.expected), ("this run", difference.got)):
        if value:
            lines.append(f"    {label:<10} {value if len(value) < 200 else value[:200] + ' …'}")
    return "\n".join([*lines, f"    {difference.note}"] if difference.note else lines)


class NotebookCell(IPyNbCell):  # type: ignore[misc]
    """A code cell, executed by nbval and compared here."""

    def _fail(self, what: str, differences: Sequence[Difference] = ()) -> None:
        count = self.cell.execution_count
        place = f"{self.path.name}, code cell {self.cell_num} (In [{count or ' '}])"
        details = [_described(difference) for difference in differences]
        accept = f"If the new outputs are right: {self.config.getini('nbval_accept')}"
        raise OutputsDifferError("\n".join([f"{place}: {what}", *details, accept]))

    def runtest(self) -> None:
        super().runtest()
        fault = unrun_fault(self.cell)
        if fault:
            self._fail(fault)

    def compare_outputs(
        self, test: list[NotebookNode], ref: list[NotebookNode], skip_compare: Any = None
    ) -> bool:
        """nbval's hook. Raises OutputsDifferError, which says more than nbval's False would."""
        if self.parent.run_only:
            return True
        reference, fresh = (self.sanitize_outputs(side, _NOT_TEXT) for side in (ref, test))
        differences = compare_outputs(reference, fresh, _tolerance(self.config))
        if differences:
            self._fail("the outputs are not the committed ones", differences)
        return True

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:
        if isinstance(excinfo.value, OutputsDifferError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))


class Notebook(IPyNbFile):  # type: ignore[misc]
    """A notebook, collected by nbval; `run_only` if it was rendered with another model."""

    run_only = False

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
