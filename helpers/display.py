"""How a figure gets on to the page: which renderer, and the static picture beside the live one.

GitHub shows a figure only as a picture, JupyterLab and VS Code show Plotly's own format, and Colab
has a renderer of its own. Outside Colab each figure is therefore one output that holds both Plotly's
format and a PNG, so the same notebook is interactive where it can be and never blank.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import logging
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import kaleido
import plotly.graph_objects as go
import plotly.io as pio
from choreographer.errors import BrowserFailedError
from circuitsvis.utils.render import RenderedHTML
from IPython import get_ipython
from IPython.display import HTML, display
from kaleido.errors import ChromeNotFoundError
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from plotly.io.base_renderers import MimetypeRenderer

from helpers.figure_json import PICTURE_KEY, figure_sha256

PLOTLY_DEFAULT = pio.renderers.default

# A browser that has not drawn an empty figure by then is not going to: idle, it takes three seconds.
BROWSER_SECONDS = 30.0


def _is_no_goodbye(record: logging.LogRecord) -> bool:
    """Choreographer ends a pipe with a word that is no JSON, and logs a trace if it reads it itself."""
    error = record.exc_info[1] if record.exc_info else None
    return "{bye}" not in getattr(error.__cause__ if error else None, "doc", "")


logging.getLogger("choreographer.channels.pipe").addFilter(_is_no_goodbye)


class ShownFigure(go.Figure):
    """A figure that shows itself when made, and not once more as the last line of the same cell.

    Example:
        >>> fig = ShownFigure({"data": [{"y": [1, 3, 2]}]})
        >>> fig.show_now()
    """

    def show_now(self) -> None:
        self._shown_in_cell = _cell_number()
        renderer = choose_renderer()
        if renderer == "":
            _note_once("figures are not shown in a plain script; PLOTLY_RENDERER=browser opens them")
        else:
            self.show(renderer)

    def _ipython_display_(self) -> None:
        if getattr(self, "_shown_in_cell", None) != _cell_number():
            self.show_now()


def choose_renderer() -> str | None:
    """Plotly renderer for this environment; ``None`` leaves the choice to Plotly, ``""`` is none.

    A choice made by the user (``PLOTLY_RENDERER`` or ``plotly.io.renderers.default``) and Colab's own
    renderer are left alone.

    Example:
        >>> choose_renderer() in (None, "", "plotly_mimetype", "plotly_mimetype+static_png")
        True
    """
    if os.environ.get("PLOTLY_RENDERER") or pio.renderers.default != PLOTLY_DEFAULT:
        return None
    if "google.colab" in sys.modules or "COLAB_NOTEBOOK_ID" in os.environ:
        return None
    shell = get_ipython()
    if shell is None:
        return ""
    if not hasattr(shell, "kernel"):  # the IPython terminal, where Plotly opens a browser
        return None
    return "plotly_mimetype+static_png" if _browser_problem() is None else "plotly_mimetype"


def show_circuitsvis(view: RenderedHTML) -> None:
    """Show a CircuitsVis view, with a name made from its content instead of a random one.

    The script comes from CircuitsVis's CDN, so the view needs a network; put a static picture beside
    it. (``RenderedHTML`` itself would ask the network at each display, and inline 1.3 MB if offline.)

    Example:
        >>> import circuitsvis
        >>> view = circuitsvis.attention.attention_heads([[[1.0, 0.0], [0.5, 0.5]]], ["a", "b"])
        >>> show_circuitsvis(view)
        <IPython.core.display.HTML object>
    """
    html = view.show_code()
    random_id = re.search(r'id="(circuits-vis-[^"]+)"', html)
    if random_id is None:
        raise ValueError("This CircuitsVis view names no <div id>; its HTML has changed.")
    html = _whole_script(html)
    anonymous = html.replace(random_id[1], "")
    name = "circuits-vis-" + hashlib.sha256(anonymous.encode()).hexdigest()[:12]
    display(HTML(html.replace(random_id[1], name)))


def _whole_script(html: str) -> str:
    """So that no text in a view's script, a token such as ``</script>``, ends it for a browser."""
    start, end = re.search(r"<script\b[^>]*>", html), html.rfind("</script>")
    if start is None or end < start.end():
        raise ValueError("This CircuitsVis view holds no script; its HTML has changed.")
    # All that a parser of HTML looks for in a script; in JavaScript it stands in strings only.
    script = re.sub(r"<(?=/?script|!--)", r"\\u003c", html[start.end() : end], flags=re.IGNORECASE)
    return html[: start.end()] + script + html[end:]


class _StaticPng(MimetypeRenderer):
    """A PNG from one browser that stays open; Plotly's own renderer starts one for each figure.

    The PNG names the figure it shows, by the hash of what the notebook stores of it.
    """

    def to_mimebundle(self, fig_dict: dict) -> dict[str, str]:
        kaleido.start_sync_server(plotlyjs=pio.defaults.plotlyjs, mathjax=False, silence_warnings=True)
        return {"image/png": base64.b64encode(_png(fig_dict)).decode("ascii")}


pio.renderers["static_png"] = _StaticPng()


def _png(fig_dict: dict) -> bytes:
    layout = fig_dict.get("layout", {})
    size = {"width": layout.get("width", 900), "height": layout.get("height", 450)}
    picture = kaleido.calc_fig_sync(fig_dict, opts={"format": "png", **size})
    # As the renderer beside this one writes it into the notebook.
    stored = json.loads(pio.to_json(fig_dict, validate=False, remove_uids=False))
    return _smaller(picture, {PICTURE_KEY: figure_sha256(stored)})


def _smaller(png: bytes, texts: dict[str, str]) -> bytes:
    """The picture with a palette of 256 colours: a third of the size, and no difference to see.

    `texts` go into the file beside the picture.
    """
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    compressed = io.BytesIO()
    picture.save(compressed, format="PNG", optimize=True, pnginfo=info)
    return compressed.getvalue()


async def _try_browser(seconds: float) -> None:
    """Start a browser, draw, and end it; one that does not answer within the seconds is killed."""
    browser = kaleido.Kaleido(plotlyjs=pio.defaults.plotlyjs, mathjax=False)
    try:
        await asyncio.wait_for(browser.open(), seconds)
        await asyncio.wait_for(browser.calc_fig(go.Figure().to_dict(), opts={"format": "png"}), seconds)
        await asyncio.wait_for(browser.close(), seconds)
    finally:
        process = getattr(browser, "subprocess", None)
        if process is not None and process.poll() is None:
            process.terminate()  # choreographer's wrapper, which then ends the browser
            await asyncio.to_thread(process.wait, 10)


@cache
def _browser_problem() -> str | None:
    """Why no static picture can be made here; ``None`` if one could.

    Tried once, without the server, because a server whose browser does not start waits for ever.
    """
    try:
        with ThreadPoolExecutor(1) as pool:  # a kernel's own thread has an event loop already
            pool.submit(asyncio.run, _try_browser(BROWSER_SECONDS)).result()
    # OSError: it needs a temporary folder of its own, and the disk may be full.
    except (ChromeNotFoundError, BrowserFailedError, OSError, asyncio.TimeoutError) as error:
        _note_once(
            "no static pictures: they need Chrome or Chromium, and none could be started "
            f"({getattr(error, 'strerror', None) or type(error).__name__}). "
            "Figures stay interactive, but GitHub will show none. "
            "Install one, or run plotly_get_chrome"
        )
        return str(error)
    return None


@cache
def _note_once(text: str) -> None:
    print(f"NOTE: {text}.")


def _cell_number() -> int | None:
    shell = get_ipython()
    return None if shell is None else shell.execution_count
