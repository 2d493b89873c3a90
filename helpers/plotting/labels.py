"""Text as it is written: what Plotly would read as markup, entities, formulas or templates is escaped.

Plotly draws text as SVG, and reads a little HTML in it on the way, wherever it stands: titles, ticks,
annotations, hover, legends, tables, menus. A token ``<s>`` would strike through what follows. Text in
which there is nothing to be read stays as it is, to the byte; ``<|im_start|>`` is such a text.
"""

from __future__ import annotations

import re
from typing import Any

# `<extra>` and `%{` mean something in hover templates only, into which other text is put.
_TAG = r"(?i:<(?=/?(?:a|b|br|em|extra|i|s|span|sub|sup|u)(?:[\s\ufeff>]|$)))"
_ENTITY = r"&(?=(?:#[0-9]+|#x[0-9a-fA-F]+|[a-z]+);)"
_READ = re.compile(rf"{_TAG}|{_ENTITY}|\$|%(?={{)|\r\n?|\n")
_WRITTEN = {"<": "&lt;", "&": "&amp;", "$": "&#36;", "%": "&#37;"}


def as_written(text: str) -> str:
    """The text that Plotly draws as this one, a line break as a line break.

    What it gives is for Plotly alone: escaped twice it is drawn as ``&lt;s>``.
    """
    return _READ.sub(lambda found: _WRITTEN.get(found[0], "<br>"), text)


def all_written(texts: list[str]) -> list[str]:
    """Each text as :func:`as_written` gives it."""
    return [as_written(text) for text in texts]


def as_hover_name(name: str) -> str:
    """A series' name for ``<extra>…</extra>``, where Plotly drops every tag, known or not."""
    return as_written(name).replace("<br>", " ").replace("<", "&lt;")


def whole_name(name: str) -> dict[str, Any]:
    """What a trace needs for an escaped name to be hovered whole: Plotly cuts after 15 characters.

    Other names are cut as ever.
    """
    return {} if as_hover_name(name) == name else {"hoverlabel": {"namelength": -1}}
