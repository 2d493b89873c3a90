"""A demo's first cells in a real JupyterLab: run in the browser, until a figure is seen."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import nbformat
import pytest
from nbformat import NotebookNode
from playwright.sync_api import Page, expect

from helpers.figure_json import PLOTLY
from helpers.notebooks.pictures import PNG
from tests.browser.conftest import ROOT
from tests.browser.looks import pixels

pytestmark = pytest.mark.smollm2

DEMO = ROOT / "demos" / "Exploratory_Analysis_Demo.ipynb"
SECONDS = 180  # for a server to start, or a model to load, on a busy machine


def has_figure(cell: NotebookNode) -> bool:
    return any(PLOTLY in output.get("data", {}) for output in cell.get("outputs", []))


@pytest.fixture(scope="module")
def notebook(tmp_path_factory) -> Path:
    """The demo's cells up to its first figure, as a reader gets them, but never run."""
    notebook = nbformat.read(DEMO, 4)
    last = next(number for number, cell in enumerate(notebook.cells) if has_figure(cell))
    notebook.cells = notebook.cells[: last + 1]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    del notebook.metadata["jupytext"]  # its script stays at home
    path = tmp_path_factory.mktemp("lab") / "Demo.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def lab(notebook, tmp_path_factory) -> Iterator[str]:
    """JupyterLab's address, with settings of its own and the environment of a reader's terminal."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = tmp_path_factory.mktemp("settings")
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR")
    environment = {k: v for k, v in os.environ.items() if k not in ("PLOTLY_RENDERER", "TQDM_DISABLE")}
    log = settings / "log"
    with log.open("w") as said:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                *(f"--ServerApp.root_dir={notebook.parent}", f"--ServerApp.port={port}"),
                *("--ServerApp.ip=127.0.0.1", "--IdentityProvider.token=test"),
                "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
            ],
            env={**environment, "DEMO_MODEL": "smollm2-135m", **{k: str(settings / k) for k in folders}},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/api/status?token=test", server, log)
        yield f"{address}/lab/tree/{notebook.name}?token=test"
    finally:
        end(server)


def end(server: subprocess.Popen, seconds: float = 60.0) -> None:
    """Ask it to end, and its kernels with it; after some seconds, do not ask."""
    server.terminate()
    try:
        server.wait(seconds)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(seconds)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=10):
                return
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)
    pytest.fail(
        f"JupyterLab did not answer at {address}; its exit status is {server.poll()}. It said: "
        f"{log.read_text()[-2000:]}"
    )


@pytest.fixture(scope="module")
def page(browser, lab) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(SECONDS * 1000)
    page.goto(lab)
    expect(page.locator(".jp-Notebook")).to_be_visible(timeout=SECONDS * 1000)
    expect(page.locator(".jp-NotebookPanel-toolbar")).to_contain_text("Python 3", timeout=SECONDS * 1000)
    yield page
    page.close()


def test_the_first_cells_end_in_a_live_figure(page, notebook, screenshots):
    expected = next(cell for cell in nbformat.read(DEMO, 4).cells if has_figure(cell))
    [title] = [o.data[PLOTLY]["layout"]["title"]["text"] for o in expected.outputs if PLOTLY in o.data]
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    figure = page.locator(".jp-OutputArea .js-plotly-plot")
    scroller = page.locator(".jp-Notebook .jp-WindowedPanel-outer")
    for _ in range(SECONDS):  # JupyterLab puts only cells near the window on the page
        if figure.count():
            break
        scroller.evaluate("panel => panel.scrollTo(0, panel.scrollHeight)")
        page.wait_for_timeout(1000)
    expect(figure.locator(".main-svg").first).to_be_visible()
    expect(figure.locator(".gtitle")).to_have_text(title)
    figure.scroll_into_view_if_needed()
    page.screenshot(path=screenshots / "jupyterlab.png")
    assert pixels(figure.screenshot())[..., :3].std() > 0.02, "something is drawn"
    assert page.locator(".jp-OutputArea [data-mime-type='application/vnd.jupyter.stderr']").count() == 0

    page.keyboard.press("Control+s")
    for _ in range(SECONDS):
        saved = nbformat.read(notebook, 4).cells[-1]
        if has_figure(saved):
            break
        page.wait_for_timeout(1000)
    [data] = [output.data for output in saved.outputs if PLOTLY in output.data]
    assert set(data) == {PLOTLY, PNG}, "both in one output, as JupyterLab's kernel got it"


def test_a_saved_figure_is_a_picture_that_comes_alive(browser, lab, notebook):
    """As after cloning: nothing was run here, and nobody said that the outputs can be trusted."""
    saved = nbformat.read(DEMO, 4)
    saved.cells = [next(cell for cell in saved.cells if has_figure(cell))]
    del saved.metadata["jupytext"]
    nbformat.write(saved, notebook.parent / "Saved.ipynb")
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(SECONDS * 1000)
    # In a workspace of its own: the other test's notebook would be opened beside it.
    page.goto(lab.replace(f"tree/{notebook.name}", "workspaces/saved/tree/Saved.ipynb"))
    output = page.locator(".jp-OutputArea .jp-RenderedPlotly")
    picture = output.locator("img.plot-img")
    expect(picture).to_be_visible(timeout=SECONDS * 1000)
    assert pixels(picture.screenshot())[..., :3].std() > 0.02, "something is drawn"
    box = picture.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(output.locator(".main-svg").first).to_be_visible(timeout=SECONDS * 1000)
    expect(picture).to_be_hidden()
    page.close()


def test_a_server_that_does_not_end_is_ended():
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"{ignore}; print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as deaf:
        deaf.stdout.read(1)
        end(deaf, seconds=0.5)
    assert deaf.returncode == -signal.SIGKILL
