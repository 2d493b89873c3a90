"""The plugin in throw-away projects, each a notebook that a kernel executes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from helpers.figure_json import PLOTLY
from helpers.identity import files_identity
from helpers.notebooks.outputs import PNG
from tests.pictures import blank, striped
from tests.tiny_models import tiny_llama_hf, tiny_tokenizer

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


def test_a_folder_called_like_the_stamped_model_is_compared_if_it_is_that_model(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By name alone, the outputs of two models would be compared."""
    folders = [tmp_path / str(seed) / "twin" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        tiny_llama_hf(seed=seed).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
    weights = [{"model": "twin", "dtype": "float32", "weights": files_identity(folders[0])}]
    cells = [executed("print(2)", stream("1\n"))]
    notebook = new_notebook(cells=cells, metadata={"provenance": {"model": "twin", "weights": weights}})
    nbformat.write(notebook, project.path / "notebook.ipynb")
    command = ["--nbval", "--nbval-current-env", "notebook.ipynb"]
    monkeypatch.setenv("DEMO_MODEL", str(folders[0]))
    project.runpytest(*command).assert_outcomes(failed=1)
    monkeypatch.setenv("DEMO_MODEL", str(folders[1]))
    result = project.runpytest(*command)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*notebook.ipynb (rendered with another twin: they are of sha256*"])


# With the packages' __init__.py, all that another project would have to copy.
PARTS = [
    "figure_json",
    *(f"notebooks/{name}" for name in ["compare", "figures", "outputs", "provenance"]),
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


def test_leaves_other_runs_of_pytest_alone(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(): pass")
    result = project.runpytest()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("notebooks: *")
