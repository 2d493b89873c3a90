"""Which renderer each environment gets, in real kernels that see what that environment sets.

JupyterLab itself is started in tests/browser/test_jupyterlab.py. VS Code's notebooks and interactive
window and Colab cannot be started here; what they set and import is simulated.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from choreographer.browsers.chromium import Chromium
from nbclient import NotebookClient

from helpers.figure_json import PLOTLY
from helpers.notebooks.pictures import PNG
from tests.conftest import checkpoint

pytestmark = pytest.mark.slow

DEMOS = sorted((Path(__file__).parent.parent / "demos").glob("*.py"))
SETTINGS = {"PLOTLY_RENDERER", "COLAB_NOTEBOOK_ID", "VSCODE_PID", "DISPLAY", "WAYLAND_DISPLAY"}
FIGURE = "from helpers.plotting import imshow\nimshow([[1.0, -1.0]], title='t', x='x', y='y')"

needs_chromium = pytest.mark.skipif(
    Chromium.find_browser(skip_local=False) is None and not os.environ.get("CI"),
    reason="no Chrome or Chromium: figures have no picture here",
)


def environment(**settings: str) -> dict[str, str]:
    return {**{k: v for k, v in os.environ.items() if k not in SETTINGS}, **settings}


def outputs(*cells: str, **settings: str) -> list[dict]:
    """The display data of the last cell, run in a fresh kernel in that environment."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, kernel_name="python3", timeout=120)
    client.execute(env=environment(**settings))
    return [output.data for output in notebook.cells[-1].outputs if "data" in output]


@needs_chromium
@pytest.mark.parametrize(
    "settings",
    [{}, {"VSCODE_PID": "1", "VSCODE_CWD": "/", "TERM_PROGRAM": "vscode"}],
    ids=["Jupyter", "VS Code"],
)
def test_jupyter_and_vs_code_get_the_live_figure_and_the_picture_in_one_output(settings):
    [data] = outputs(FIGURE, **settings)
    assert set(data) == {PLOTLY, PNG}


@pytest.fixture
def colab(tmp_path) -> dict[str, str]:
    """A package google.colab, and what else tells Colab's kernels."""
    package = tmp_path / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "COLAB_NOTEBOOK_ID": "1"}


def test_colab_keeps_its_own_renderer(colab):
    [data] = outputs("import google.colab", FIGURE, **colab)
    assert set(data) == {"text/html"}, "Plotly's renderer for Colab: a page in a frame"
    assert "Plotly.newPlot" in data["text/html"]
    choice = "from helpers.display import choose_renderer; import plotly.io as pio\n"
    [data] = outputs(
        "import google.colab", f"{choice}(choose_renderer(), pio.renderers.default)", **colab
    )
    assert data["text/plain"] == "(None, 'colab')"


@pytest.mark.parametrize("where", ["variable", "setting"])
def test_an_explicit_choice_is_kept(where):
    if where == "variable":
        [data] = outputs(FIGURE, PLOTLY_RENDERER="json")
    else:
        choose = "import helpers.display, plotly.io as pio; pio.renderers.default = 'json'"
        [data] = outputs(choose, FIGURE)
    assert set(data) == {"application/json"}


# --- plain scripts --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_model() -> Iterator[Path]:
    with checkpoint(width=96, layers=3) as built:
        yield built.folder


# Most of a script's time goes into importing what is no part of this project. Here it is imported once;
# each script then runs in a copy of the process, in which nothing of this project is imported yet.
LAUNCHER = """
import json, os, runpy, signal, sys
import transformer_lens.model_bridge

for line in sys.stdin:
    source, folder, stdout, stderr = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    signal.alarm(600)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in ((1, stdout), (2, stderr)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.stdin, sys.argv, sys.path[0] = open(0), [source], os.path.dirname(source)
    runpy.run_path(source, run_name="__main__")
    break
"""


@pytest.fixture(scope="module")
def launcher(small_model, tmp_path_factory) -> Iterator[subprocess.Popen[str]]:
    settings = {
        "DEMO_MODEL": str(small_model),
        "HF_HUB_OFFLINE": "1",
        "BROWSER": str(tmp_path_factory.mktemp("browser") / "no-browser"),
        "TQDM_DISABLE": "1",
        "OMP_NUM_THREADS": "1",  # a copy of a process has one thread, whatever the process had
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", LAUNCHER]
    with subprocess.Popen(command, env=environment(**settings), **pipes) as process:
        yield process


def run_script(launcher: subprocess.Popen[str], source: Path, folder: Path) -> tuple[str, str, str]:
    """Its exit status and what it printed, when it has run in an empty folder."""
    here, *said = (folder / name for name in ("here", "stdout", "stderr"))
    here.mkdir()
    print(json.dumps([str(path) for path in (source, here, *said)]), file=launcher.stdin, flush=True)
    status = launcher.stdout.readline().strip()
    assert list(here.iterdir()) == [], "it leaves nothing behind"
    return status, *(path.read_text() for path in said)


@pytest.mark.parametrize("source", DEMOS, ids=lambda source: source.stem)
def test_a_demo_runs_as_a_plain_script(source, launcher, tmp_path):
    """Without a display, without a terminal to ask, and without opening a browser: that would fail."""
    status, stdout, stderr = run_script(launcher, source, tmp_path)
    assert status == "0", stderr[-3000:]
    assert stdout.count("NOTE: figures are not shown in a plain script") == 1


def test_a_script_that_fails_is_noticed_and_finds_nothing_prepared(launcher, tmp_path):
    source = tmp_path / "script.py"
    source.write_text(
        "import sys\n"
        "print(__name__, sys.argv, sys.path[0], sys.stdin.read() == '')\n"
        "ours = [name for name in sys.modules if name.split('.')[0] in ('helpers', 'tests')]\n"
        "raise SystemExit(f'failed, {ours}')\n"
    )
    status, stdout, stderr = run_script(launcher, source, tmp_path)
    assert (status, stderr) == ("1", "failed, []\n")
    assert stdout == f"__main__ ['{source}'] {tmp_path} True\n"
