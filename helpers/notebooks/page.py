"""An executed notebook as one self-contained web page, its figures interactive and offline."""

from __future__ import annotations

import copy
import re
import sys
from importlib import resources
from typing import Any

import plotly.io as pio
from nbconvert import HTMLExporter
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode
from plotly.offline import get_plotlyjs

from helpers.figure_json import PLOTLY

_SCRIPT = re.compile(r"<script\b([^>]*)>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)
_IMPORT = re.compile(r'import \{[^}]*\} from "[^"]*circuitsvis[^"]*";\s*render\(\s*("[^"]*"),\s*(\w+),')
_UNKNOWN_IMPORT = re.compile(r"""\b(?:from|import)\b\s*\(?\s*["'][^"']*circuitsvis""")


class InteractiveOutputs(Preprocessor):
    """Turn Plotly's format and CircuitsVis's CDN scripts into HTML that runs from the page itself."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        for number, output in enumerate(cell.get("outputs", [])):
            data = output.get("data", {})
            if PLOTLY in data:
                output["data"] = {"text/html": _plotly_html(data[PLOTLY], f"figure-{index}-{number}")}
            elif "text/html" in data:
                data["text/html"] = _local_circuitsvis(data["text/html"])
        return cell, resources


def _plotly_html(figure: dict[str, Any], div_id: str) -> str:
    return pio.to_html(figure, include_plotlyjs=False, full_html=False, div_id=div_id, validate=False)


def _local_circuitsvis(html: str) -> str:
    """The HTML with its CircuitsVis views, if it has any, drawn by the page's own script."""
    local = _SCRIPT.sub(_local_script, html)
    # It writes <div .../>, which browsers take as open: what follows would become part of the view.
    return re.sub(r'(<div id="circuits-vis-[^>]*?)\s*/>', r"\1></div>", local)


def _local_script(script: re.Match[str]) -> str:
    attributes, code = script.groups()
    local, count = _IMPORT.subn(r"CircuitsVis.render(\1, CircuitsVis.\2,", code)
    if _UNKNOWN_IMPORT.search(local):
        print(
            "NOTE: a CircuitsVis view is imported in an unknown way; it needs a network", file=sys.stderr
        )
        return script.group()
    module = attributes.replace(' type="module"', "") if count else attributes
    return f"<script{module}>{local}</script>"


def to_html(notebook: NotebookNode, title: str) -> str:
    """The page, with the scripts of Plotly and CircuitsVis, and our style for the latter, inside it."""
    exporter = HTMLExporter(
        preprocessors=[InteractiveOutputs],
        template_name="lab",
        require_js_url="",
        mathjax_url="",
        mermaid_js_url="",
        jquery_url="",
    )
    body, _ = exporter.from_notebook_node(copy.deepcopy(notebook), {"metadata": {"name": title}})
    scripts = "".join(_inline_script(script) for script in (get_plotlyjs(), circuitsvis_script()))
    return body.replace("</head>", f"{scripts}<style>{_circuitsvis_style()}</style>\n</head>", 1)


def circuitsvis_script() -> str:
    """CircuitsVis's script from its Python package, which defines ``CircuitsVis`` for the whole page."""
    return resources.files("circuitsvis").joinpath("dist/cdn/iife.js").read_text(encoding="utf-8")


def _circuitsvis_style() -> str:
    return (
        resources.files(__package__).joinpath("web/static/circuitsvis.css").read_text(encoding="utf-8")
    )


def _inline_script(script: str) -> str:
    escaped = script.replace("</script>", r"<\/script>")  # or the page would end the script there
    return f"<script>{escaped}</script>\n"
