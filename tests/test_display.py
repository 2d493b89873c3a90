"""The static picture beside each figure: its size, its colours, and whose picture it says it is."""

from __future__ import annotations

import base64
import errno
import io
import os

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from choreographer.channels.pipe import Pipe
from PIL import Image

from helpers import display
from helpers.figure_json import PLOTLY
from helpers.notebooks.pictures import figure_of_picture, foreign_picture_fault
from tests.pictures import encoded

pytestmark = pytest.mark.slow

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_cells(left: float, right: float) -> go.Figure:
    """A heatmap of two cells that fill the whole picture: red for 0, blue for 1."""
    fig = go.Figure(
        go.Heatmap(
            z=np.array([[left, right]], dtype=np.float32),
            zmin=0,
            zmax=1,
            colorscale=[[0, "rgb(255,0,0)"], [1, "rgb(0,0,255)"]],
            showscale=False,
        )
    )
    fig.update_xaxes(visible=False)
    fig.update_yaxes(visible=False)
    return fig.update_layout(width=320, height=200, margin={"l": 0, "r": 0, "t": 0, "b": 0})


def drawn(fig: go.Figure) -> dict[str, str]:
    return pio.renderers["static_png"].to_mimebundle(fig.to_dict())


def opened(picture: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture)))


@pytest.mark.parametrize(("values", "colours"), [((0, 1), (RED, BLUE)), ((1, 0), (BLUE, RED))])
def test_the_picture_shows_the_figure(
    static_pictures: None, values: tuple[float, float], colours: tuple[object, object]
) -> None:
    picture = opened(drawn(two_cells(*values))["image/png"])
    assert (picture.format, picture.mode, picture.size) == ("PNG", "P", (320, 200))
    pixels = picture.convert("RGB")
    assert (pixels.getpixel((80, 100)), pixels.getpixel((240, 100))) == colours


def test_the_picture_names_the_figure_as_the_notebook_stores_it(static_pictures: None) -> None:
    figure = two_cells(0.1, float("nan"))
    stored = pio.renderers["plotly_mimetype"].to_mimebundle(figure.to_dict())[PLOTLY]
    picture = drawn(figure)["image/png"]
    assert foreign_picture_fault(stored, picture) is None
    assert drawn(figure)["image/png"] == picture, "a second drawing has the same bytes"
    assert figure_of_picture(drawn(two_cells(0.1, 0.2))["image/png"]) != figure_of_picture(picture)


def shaded() -> Image.Image:
    """Thousands of colours, as where a browser smooths edges: a gradient and a little noise."""
    rows, columns = np.mgrid[0:200, 0:300]
    gradient = np.stack([rows, columns // 2, rows // 2], axis=-1)
    noise = np.random.default_rng(0).integers(0, 8, size=gradient.shape)
    return Image.fromarray((gradient + noise).astype(np.uint8))


def as_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def test_few_colours_stay_as_they_are() -> None:
    image = Image.new("RGB", (40, 20), "white")
    image.paste((12, 34, 56), (5, 5, 20, 15))
    image.paste((210, 180, 90), (25, 5, 35, 15))
    smaller = opened(encoded(display._smaller(as_png(image), {"key": "text"})))
    assert smaller.info["key"] == "text"
    assert smaller.convert("RGB").tobytes() == image.tobytes()


def test_many_colours_become_256_that_look_the_same() -> None:
    image = shaded()
    smaller = display._smaller(as_png(image), {})
    colours = opened(encoded(smaller)).convert("RGB")
    assert colours.getcolors(maxcolors=256) is not None
    # 256 boxes over some 200 x 150 x 8 levels are about 12 levels wide: 3 off on average, as measured.
    assert np.abs(np.asarray(colours, dtype=int) - np.asarray(image, dtype=int)).mean() < 6
    assert len(smaller) < len(as_png(image)) / 2


SILENT = "exec sleep 600"  # it starts, and never answers
BROKEN = "exit 1"


@pytest.mark.parametrize("what", [SILENT, BROKEN])
def test_a_browser_that_does_not_work_is_said_and_not_waited_for(what, tmp_path, monkeypatch, capsys):
    chrome = tmp_path / "chrome"
    chrome.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{what}\n")
    chrome.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(chrome))
    monkeypatch.setattr(display, "BROWSER_SECONDS", 1.0)
    display._note_once.cache_clear()
    assert display._browser_problem.__wrapped__() is not None
    assert "NOTE: no static pictures: they need Chrome" in capsys.readouterr().out
    display._note_once.cache_clear()
    with pytest.raises(ProcessLookupError):  # no process is left behind
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_full_disk_under_the_browser_is_said_and_figures_stay(monkeypatch, capsys):
    async def full(seconds: float) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(display, "_try_browser", full)
    display._note_once.cache_clear()
    assert "No space left" in display._browser_problem.__wrapped__()
    display._note_once.cache_clear()
    said = capsys.readouterr().out
    assert "none could be started (No space left on device). Figures stay interactive" in said


def test_a_browsers_goodbye_in_one_piece_with_an_answer_is_no_trace_in_a_notebook(caplog):
    """Choreographer ends a browser with a word that is no JSON; it may be read after an answer."""
    pipe = Pipe()
    pipe.open()
    os.write(pipe.from_external_to_choreo, b'{"id": 1}\0{bye}\n\0')
    answers, _ = pipe.read_jsons()
    assert answers == [{"id": 1}]
    assert caplog.records == []
    os.write(pipe.from_external_to_choreo, b'{"id": 2, broken\0')
    assert pipe.read_jsons()[0] == []
    pipe.close()
    assert [record.exc_info is None for record in caplog.records] == [False], "anything else is said"
