"""A notebook as GitHub shows it: nbconvert's HTML, with everything that could run or restyle removed.

GitHub says of itself that it strips scripts and styles; which tags and attributes survive is written
down in its html-pipeline (the sanitization filter). Of one output it shows HTML before a picture, and
Plotly's format not at all. Its own style sheet is only approximated here: column, colours, tables.
"""

from __future__ import annotations

import copy
from typing import Any

import nh3
from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode

# fmt: off
TAGS = {
    "h1", "h2", "h3", "h4", "h5", "h6", "br", "b", "i", "strong", "em", "a", "pre", "code", "img", "tt",
    "div", "ins", "del", "sup", "sub", "p", "picture", "ol", "ul", "table", "thead", "tbody", "tfoot",
    "blockquote", "dl", "dt", "dd", "kbd", "q", "samp", "var", "hr", "ruby", "rt", "rp", "li", "tr",
    "td", "th", "s", "strike", "summary", "details", "caption", "figure", "figcaption", "abbr", "bdo",
    "cite", "dfn", "mark", "small", "source", "span", "time", "wbr",
}
ATTRIBUTES = {
    "*": {
        "align", "alt", "border", "cellpadding", "cellspacing", "colspan", "dir", "height", "id", "name",
        "open", "rowspan", "title", "valign", "width",
    },
    "a": {"href"},
    "img": {"src"},
}
# fmt: on
PRIORITY = [
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "text/latex",
    "image/png",
    "image/jpeg",
    "text/plain",
]

STYLE = """
:root { --page: #ffffff; --text: #1f2328; --link: #0969da; --line: #d1d9e0; --shade: #f6f8fa; }
:root.dark { --page: #0d1117; --text: #f0f6fc; --link: #4493f8; --line: #3d444d; --shade: #151b23; }
body { background: var(--page); color: var(--text); font: 16px/1.5 sans-serif; margin: 0; }
main { box-sizing: border-box; max-width: 980px; margin: 0 auto; padding: 45px; }
a { color: var(--link); }
img { max-width: 100%; }
pre { overflow: hidden; font-size: 85%; padding: 8px; }
.input pre { background: var(--shade); }
table { border-collapse: collapse; display: block; overflow: auto; }
td, th { border: 1px solid var(--line); padding: 6px 13px; }
.prompt { display: none; }
"""


def sanitised(html: str) -> str:
    """The HTML without scripts, styles, event handlers, frames and forms."""
    return nh3.clean(
        html, tags=TAGS, attributes=ATTRIBUTES, url_schemes={"http", "https", "mailto", "data"}
    )


class _SanitisedOutputs(Preprocessor):
    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        for output in cell.get("outputs", []):
            for kind in {"text/html", "image/svg+xml"} & set(output.get("data", {})):
                output["data"][kind] = sanitised(output["data"][kind])
        return cell, resources


class _Exporter(HTMLExporter):
    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        return sanitised(super().markdown2html(context, source))


def github_page(notebook: NotebookNode, theme: str) -> str:
    """The whole page, in GitHub's light or dark theme."""
    exporter = _Exporter(template_name="basic", preprocessors=[_SanitisedOutputs])
    exporter.config.NbConvertBase.display_data_priority = PRIORITY
    body, _ = exporter.from_notebook_node(copy.deepcopy(notebook))
    return (
        f'<!doctype html><html class="{theme}"><head><meta charset="utf-8"><style>{STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>"
    )
