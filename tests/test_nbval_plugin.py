"""The plugin in throw-away projects, each a notebook that a kernel executes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from helpers.figure_json import PLOTLY
from helpers.notebooks.compare import Tolerance
from helpers.notebooks.kernel import how_it_ended
from helpers.notebooks.outputs import compare_outputs
from helpers.notebooks.pictures import PNG
from tests.pictures import blank, striped

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

FIGURE = {"data": [{"type": "heatmap", "z": [[1.5, -2.25]]}], "layout": {}}


def stream(text: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=text)


def executed(source: str, *outputs: NotebookNode, count: int | None = 1) -> NotebookNode:
    return new_code_cell(source, outputs=list(outputs), execution_count=count)


def shows(data: Mapping[str, object]) -> str:
    """Code that displays this MIME bundle."""
    return f"from IPython.display import display\ndisplay({data!r}, raw=True)"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project that uses the plugin as its documentation says, importing it from this one."""
    pytester.makeconftest('pytest_plugins = ["helpers.notebooks.nbval_plugin"]')
    pytester.syspathinsert(Path(__file__).parents[1])
    return pytester


def nbval(project: pytest.Pytester, *cells: NotebookNode, model: str = "") -> pytest.RunResult:
    notebook = new_notebook(cells=list(cells))
    if model:
        notebook.metadata.provenance = NotebookNode(model=model)
    nbformat.write(notebook, project.path / "notebook.ipynb")
    return project.runpytest("--nbval", "--nbval-current-env", "notebook.ipynb")


def test_passes_numbers_within_the_tolerance(project: pytest.Pytester) -> None:
    result = nbval(project, executed("print('loss 3.9519')", stream("loss 3.9520\n")))
    result.assert_outcomes(passed=1)


def test_fails_2_percent_and_tells_a_maintainer_all_there_is(project: pytest.Pytester) -> None:
    result = nbval(
        project,
        executed("x = 1", count=1),
        executed("print('loss', 4.72)", stream("loss 4.81\n"), count=2),
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*notebook.ipynb, code cell 1 (In [[]2[]])*",
            "*output 1, stdout, line 1*",
            "*committed*4.81*loss 4.81*",
            "*this run*4.72*loss 4.72*",
            "*differs by 0.09*allowed 0.0481*",
            "*If the new outputs are right: make render*",
        ]
    )


def test_ini_options_set_tolerance_and_command(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\nnbval_rtol = 1e-4\nnbval_accept = tox -e notebooks\n")
    result = nbval(project, executed("print(4.7205)", stream("4.7300\n")))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*allowed 0.000473*", "*right: tox -e notebooks*"])


@pytest.mark.parametrize("outputs", [[], [stream("1\n")]])
def test_fails_a_cell_that_was_never_executed(
    project: pytest.Pytester, outputs: list[NotebookNode]
) -> None:
    nbval(project, executed("print(1)", *outputs, count=None)).assert_outcomes(failed=1)


def test_a_cell_that_was_never_executed_still_runs_for_those_below(
    project: pytest.Pytester,
) -> None:
    result = nbval(project, executed("x = 1", count=None), executed("print(x)", stream("1\n"), count=2))
    result.assert_outcomes(failed=1, passed=1)


def test_passes_an_empty_cell(project: pytest.Pytester) -> None:
    nbval(project, executed("", count=None)).assert_outcomes(passed=1)


def test_fails_a_new_warning(project: pytest.Pytester) -> None:
    source = "import warnings\nwarnings.warn('changed')\nprint(1)"
    result = nbval(project, executed(source, stream("1\n")))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*a new output*"])


def test_fails_an_error(project: pytest.Pytester) -> None:
    nbval(project, executed("1 / 0")).assert_outcomes(failed=1)


def test_merges_what_is_printed_in_pieces(project: pytest.Pytester) -> None:
    source = "import sys\nfor i in range(3):\n    print(i)\n    sys.stdout.flush()"
    result = nbval(project, executed(source, stream("0\n1\n"), stream("2\n")))
    result.assert_outcomes(passed=1)


def test_compares_figures_by_their_data(project: pytest.Pytester) -> None:
    flipped = {"data": [{"type": "heatmap", "z": [[-1.5, 2.25]]}], "layout": {}}
    committed = new_output("display_data", data={PLOTLY: FIGURE, PNG: striped()})
    result = nbval(
        project,
        executed(shows({PLOTLY: FIGURE}), committed, count=1),
        executed(shows({PLOTLY: flipped}), committed, count=2),
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*trace 0 (heatmap), z[[]0[]][[]0[]]*", "*committed*1.5*"])


@pytest.mark.parametrize("data", [{PLOTLY: FIGURE}, {PLOTLY: FIGURE, PNG: blank()}])
def test_fails_a_committed_figure_without_its_picture(
    project: pytest.Pytester, data: dict[str, object]
) -> None:
    committed = new_output("display_data", data=data)
    nbval(project, executed(shows({PLOTLY: FIGURE}), committed)).assert_outcomes(failed=1)


def test_fails_displays_in_another_order(project: pytest.Pytester) -> None:
    texts = [{"text/plain": "first"}, {"text/plain": "second"}]
    outputs = [new_output("display_data", data=data) for data in texts]
    source = f"{shows(texts[1])}\n{shows(texts[0])}"
    nbval(project, executed(source, *outputs)).assert_outcomes(failed=1)


def test_keeps_to_the_sanitize_rules_and_ignore_tags_of_nbval(project: pytest.Pytester) -> None:
    rules = project.path / "rules.cfg"
    rules.write_text("[all]\nregex: run \\w+\nreplace: run ID\n")
    ignored = executed("print(2)", stream("1\n"), count=2)
    ignored.metadata.tags = ["nbval-ignore-output"]
    cells = [executed("print('run b')", stream("run a\n")), ignored]
    nbformat.write(new_notebook(cells=cells), project.path / "notebook.ipynb")
    result = project.runpytest(
        "--nbval", "--nbval-current-env", f"--nbval-sanitize-with={rules}", "notebook.ipynb"
    )
    result.assert_outcomes(passed=2)


def test_what_needs_an_absent_package_is_only_executed(project: pytest.Pytester) -> None:
    """What needs a present one is compared; and an error is one in either case."""
    cells = [executed(source, stream("2\n"), count=i) for i, source in enumerate(["print(1)"] * 2, 1)]
    cells.append(executed("1 / 0", count=3))
    for cell, package in zip(cells, ("no_such_package", "nbformat", "no_such_package"), strict=True):
        cell.metadata.tags = [f"needs-{package}"]
    nbval(project, *cells).assert_outcomes(passed=1, failed=2)


def test_runs_only_on_another_model_and_says_so(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMO_MODEL", "large")
    differs = executed("print(1)", stream("2\n"))
    broken = executed("1 / 0", count=2)
    result = nbval(project, differs, broken, model="small")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*DEMO_MODEL=large*no output is compared*",
            "*run only: no output was compared*",
            "*notebook.ipynb (rendered with small)*",
        ]
    )


@pytest.mark.parametrize("variable", ["DEMO_MODEL", "MY_MODEL"])
def test_compares_on_the_model_it_was_rendered_with(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    project.makeini(f"[pytest]\nnbval_model_env = {variable}\n")
    monkeypatch.setenv(variable, "small")
    nbval(project, executed("print(1)", stream("2\n")), model="small").assert_outcomes(failed=1)


def test_notebooks_can_be_tested_side_by_side(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By pytest-xdist: the same verdicts, messages and summary, cells in order in one kernel."""
    monkeypatch.setenv("DEMO_MODEL", "large")
    for name, model, printed in [("a", "small", "2\n"), ("b", "large", "1\n"), ("c", "large", "2\n")]:
        cells = [executed("x = 1"), executed("print(x)", stream(printed), count=2)]
        notebook = new_notebook(cells=cells, metadata={"provenance": {"model": model}})
        nbformat.write(notebook, project.path / f"{name}.ipynb")
    options = ["-p", "xdist", "-n", "2", "--dist", "loadfile", "--nbval", "--nbval-current-env"]
    result = project.runpytest_subprocess(*options, "a.ipynb", "b.ipynb", "c.ipynb")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*c.ipynb, code cell 1*the outputs are not the committed ones*",
            "*run only: no output was compared*",
            "*a.ipynb (rendered with small)*",
        ]
    )
    assert result.stdout.str().count("rendered with small") == 1


# --- a kernel that dies ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "how"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL (*memory*"),
        ("import os\nos._exit(3)", "exit status 3"),
        (
            "import os, threading, time\nthreading.Timer(1, os._exit, [4]).start()\ntime.sleep(60)",
            "status 4",
        ),
        ("print('x' * 100_000)\nimport os\nos.abort()", "killed by SIGABRT"),
    ],
)
def test_says_at_once_that_the_kernel_died(project: pytest.Pytester, source: str, how: str) -> None:
    start = time.monotonic()
    below = [executed("print(1)", stream("1\n"), count=number) for number in (3, 4)]
    result = nbval(project, executed("x = 1"), executed(source, count=2), *below)
    assert time.monotonic() - start < 30
    result.assert_outcomes(passed=1, failed=1, skipped=2)
    result.stdout.fnmatch_lines([f"*code cell 1 (In [[]2[]]): the kernel died: *{how}*"])
    result.stdout.no_fnmatch_line("*[Tt]imeout*")
    result.stdout.no_fnmatch_line("*make render*")


def test_says_that_the_kernel_was_gone_before_a_cell(project: pytest.Pytester) -> None:
    late = "import os, threading\nthreading.Timer(0.2, os._exit, [5]).start()"
    project.makeconftest(
        'pytest_plugins = ["helpers.notebooks.nbval_plugin"]\n'
        "def pytest_runtest_teardown(item, nextitem):\n"
        "    import time\n"
        "    time.sleep(2)\n"
    )
    result = nbval(project, executed(late), executed("x = 1", count=2))
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*code cell 1*the kernel died: after the cell before, exit status 5*"])


def test_a_cell_over_its_time_limit_is_still_a_timeout(project: pytest.Pytester) -> None:
    cells = [executed("import time\ntime.sleep(60)"), executed("x = 1", count=2)]
    nbformat.write(new_notebook(cells=cells), project.path / "notebook.ipynb")
    result = project.runpytest(
        "--nbval", "--nbval-current-env", "--nbval-cell-timeout=2", "notebook.ipynb"
    )
    result.stdout.fnmatch_lines(["*Timeout of 2 seconds exceeded*"])
    result.stdout.no_fnmatch_line("*kernel died*")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-9, "killed by SIGKILL (what Linux does when memory runs out)"),
        (-15, "killed by SIGTERM"),
        (-99, "killed by signal 99"),
        (0, "exit status 0"),
        (None, "how is not known"),
    ],
)
def test_an_exit_status_in_words(status: int | None, words: str) -> None:
    assert how_it_ended(status) == words


# --- nbval's other mode ---------------------------------------------------------------------------


def lax(project: pytest.Pytester, *cells: NotebookNode) -> pytest.RunResult:
    nbformat.write(new_notebook(cells=list(cells)), project.path / "notebook.ipynb")
    return project.runpytest("--nbval-lax", "--nbval-current-env", "notebook.ipynb")


def test_runs_cells_that_were_never_executed_if_nothing_is_compared(project: pytest.Pytester) -> None:
    result = lax(
        project,
        executed("x = 1", count=None),
        executed("print(x)", stream("of another time\n"), count=None),
        executed("1 / 0", count=None),
    )
    result.assert_outcomes(passed=2, failed=1)


def test_fails_a_cell_that_was_never_executed_where_its_output_is_to_be_checked(
    project: pytest.Pytester,
) -> None:
    result = lax(project, executed("# NBVAL_CHECK_OUTPUT\nprint(1)", count=None))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*never executed*"])


# --- outputs that are cleared or replaced ---------------------------------------------------------

SHOW = "from IPython.display import clear_output, display, update_display\n"


def shown(text: str) -> NotebookNode:
    return new_output("display_data", data={"text/plain": repr(text)})


REPLACED = [
    ("print(1)\nclear_output()\nprint(2)", [stream("2\n")]),
    ("print(1)\nclear_output(wait=True)\nprint(2)", [stream("2\n")]),
    ("print(1)\nclear_output(wait=True)", [stream("1\n")]),
    ("print(1)\nclear_output()", []),
    ("display('a')\nclear_output()\ndisplay('b')\nprint(3)", [shown("b"), stream("3\n")]),
    ("for i in range(3):\n    clear_output(wait=True)\n    display(str(i))", [shown("2")]),
    ("h = display('a', display_id=True)\nh.update('b')", [shown("b")]),
    (
        "display('a', display_id='i')\nprint(1)\nupdate_display('b', display_id='i')",
        [shown("b"), stream("1\n")],
    ),
    ("display('a', display_id='j')\n_ = display('b', display_id='j')", [shown("b"), shown("b")]),
    (
        "h = display('a', display_id=True)\nclear_output()\nh.display('b')\nh.update('c')",
        [shown("c")],
    ),
]


def test_follows_what_a_cell_clears_and_replaces(project: pytest.Pytester) -> None:
    """As the renderer does: what it makes of the cells is what the test expects."""
    sources = [SHOW + source for source, _ in REPLACED]
    made = new_notebook(cells=[new_code_cell(source) for source in sources])
    NotebookClient(made, kernel_name="python3").execute()
    for cell, (source, outputs) in zip(made.cells, REPLACED, strict=True):
        assert compare_outputs(outputs, cell.outputs, Tolerance()) == [], source
    right = [executed(SHOW + source, *outputs) for source, outputs in REPLACED]
    nbval(project, *right).assert_outcomes(passed=len(REPLACED))
    other = stream("another\n", name="stderr")
    wrong = [executed(SHOW + source, *outputs, other) for source, outputs in REPLACED]
    nbval(project, *wrong).assert_outcomes(failed=len(REPLACED))


def test_a_cell_that_replaces_the_output_of_another_is_told_so(project: pytest.Pytester) -> None:
    result = nbval(
        project,
        executed(SHOW + "h = display('a', display_id=True)", shown("a")),
        executed("h.update('b')", count=2),
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*updates a display that another cell has made*"])


def test_a_styled_table_is_itself_in_every_run(project: pytest.Pytester) -> None:
    source = "import pandas as pd\npd.DataFrame({'a': [1.5, 2.5]}).style.format('{:.2f}')"
    made = new_notebook(cells=[new_code_cell(source)])
    NotebookClient(made, kernel_name="python3").execute()
    nbval(project, executed(source, *made.cells[0].outputs)).assert_outcomes(passed=1)
    changed = [NotebookNode(output) for output in made.cells[0].outputs]
    changed[0].data["text/html"] = changed[0].data["text/html"].replace("2.50", "2.70")
    nbval(project, executed(source, *changed)).assert_outcomes(failed=1)


# With the packages' __init__.py, all that another project would have to copy.
PARTS = [
    "figure_json",
    *(
        f"notebooks/{name}"
        for name in [
            "compare",
            "figure_places",
            "figures",
            "kernel",
            "tables",
            "names",
            "outputs",
            "pictures",
            "provenance",
        ]
    ),
]


def test_needs_nothing_else_of_this_project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few files, alone in another folder, do the whole comparison there."""
    ours, copies = Path(__file__).parents[1] / "helpers", pytester.path / "helpers"
    for part in ["__init__", "notebooks/__init__", *PARTS, "notebooks/nbval_plugin"]:
        (copies / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ours / f"{part}.py", copies / f"{part}.py")
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    pytester.makeconftest(
        'pytest_plugins = ["helpers.notebooks.nbval_plugin"]\n'
        "def pytest_sessionfinish():\n"
        "    import sys\n"
        "    ours = {m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'helpers'}\n"
        f"    assert ours and all(file.startswith({str(copies)!r}) for file in ours), ours\n"
    )
    committed = new_output("display_data", data={PLOTLY: FIGURE, PNG: striped()})
    flipped = {"data": [{"type": "heatmap", "z": [[-1.5, 2.25]]}], "layout": {}}
    cells = [
        executed("print('loss 3.9519')", stream("loss 3.9520\n"), count=1),
        executed(shows({PLOTLY: FIGURE}), committed, count=2),
        executed("print('loss', 4.72)", stream("loss 4.81\n"), count=3),
        executed(shows({PLOTLY: flipped}), committed, count=4),
    ]
    nbformat.write(new_notebook(cells=cells), pytester.path / "notebook.ipynb")
    result = pytester.runpytest_subprocess("--nbval", "--nbval-current-env", "notebook.ipynb")
    result.assert_outcomes(passed=2, failed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("command", [["sleep", "600"], ["false"]], ids=["silent", "broken"])
def test_a_kernel_that_does_not_start_is_given_up(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    kernel_of_no_use(project.path, command, monkeypatch)
    spec = {"name": "python3", "display_name": "Python 3"}
    notebook = new_notebook(cells=[executed("print(1)")], metadata={"kernelspec": spec})
    nbformat.write(notebook, project.path / "notebook.ipynb")
    result = project.runpytest("--nbval", "--nbval-kernel-startup-timeout=2", "notebook.ipynb")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*notebook.ipynb: no kernel answered within 2 seconds*"])


def kernel_of_no_use(folder: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts another program in the place of the kernel that is called python3."""
    place = folder / "jupyter" / "kernels" / "python3"
    place.mkdir(parents=True)
    spec = {"argv": command, "display_name": "Python 3", "language": "python"}
    (place / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))


def test_leaves_other_runs_of_pytest_alone(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(): pass")
    result = project.runpytest()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("notebooks: *")
