"""Formulas of the web pages as MathML, which browsers draw themselves: a Sphinx extension.

LaTeX has more in it than any converter knows. What none of them can draw is shown as it is written, as
GitHub does, with a note for whoever makes the pages; it is no reason to make none.
"""

from __future__ import annotations

import html
import re
import sys
from xml.etree.ElementTree import Element, tostring

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from latex2mathml.converter import Converter
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

# What latex2mathml draws in the same way under another name, and does not know under this one.
_ALIGNED = re.compile(r"\\(begin|end)\{(?:aligned|split|eqnarray|align)\*?\}")
_ALIGNED_AT = re.compile(
    r"\\begin\{(?:alignedat|alignat)\*?\}\s*\{\d+\}|\\end\{(?:alignedat|alignat)\*?\}"
)
_GATHERED = re.compile(r"\\(begin|end)\{(?:gathered|gather|multlined|multline)\*?\}")
_LABEL = re.compile(r"\\(?:label|tag)\*?\{[^}]*\}|\\(?:notag|nonumber)\b")
# docutils takes the star for the operator's name, and draws it.
_STARRED = r"\operatorname*"
# Browsers take a letter's style from CSS only.
_STYLES = {
    "bold": "font-weight: bold",
    "italic": "font-style: italic",
    "bold-italic": "font-weight: bold; font-style: italic",
    "sans-serif": "font-family: sans-serif",
    "monospace": "font-family: monospace",
}


def to_mathml(latex: str, block: bool) -> str | None:
    """The formula as a ``<math>`` element; None if no converter draws all of it.

    Args:
        latex: without the dollars around it.
        block: whether it has a line of its own.
    """
    if _STARRED in latex:
        return _by_latex2mathml(latex, block)
    try:
        return str(tex2mathml(latex.replace(r"\bm{", r"\boldsymbol{"), as_block=block))
    except Exception:  # its own at commands it does not know, any at arguments without braces
        return _by_latex2mathml(latex, block)


def _by_latex2mathml(latex: str, block: bool) -> str | None:
    known = _ALIGNED.sub(r"\\\1{align*}", _LABEL.sub("", latex))
    known = _ALIGNED_AT.sub(lambda at: rf"\{at.group()[1:].partition('{')[0]}{{align*}}", known)
    known = _GATHERED.sub(lambda at: rf"\{at[1]}{{array}}" + ("{c}" if at[1] == "begin" else ""), known)
    try:
        formula = Converter(display="block" if block else "inline").convert_to_element(known)
    except Exception:  # it has no error of its own for what it cannot read: any may come
        return None
    for part in formula.iter():
        _finish(part)
    if any(map(_left_over, formula.iter())):
        return None
    return tostring(formula, encoding="unicode", short_empty_elements=False)


def _finish(part: Element) -> None:
    """Letters for the converter's HTML entities, signs for their escapes in text, CSS for styles."""
    part.text = html.unescape(part.text or "")
    if part.tag == "mtext":
        part.text = re.sub(r"\\([_%#&$])", r"\1", part.text)
    variant = part.attrib.pop("mathvariant", "normal")
    if variant in _STYLES:
        part.set("style", _STYLES[variant])


def _left_over(part: Element) -> bool:
    """Whether it is something that the converter did not understand."""
    text = part.text or ""
    unknown = part.tag in ("mi", "mo") and (text.startswith("\\") or text == "&")
    return unknown or "linebreak" in part.attrib


def _html(latex: str, block: bool) -> str:
    drawn = to_mathml(latex, block)
    if drawn is not None:
        return drawn
    print(f"NOTE: a formula is shown as it is written, no converter draws it: {latex}", file=sys.stderr)
    source = f'<code class="formula">{html.escape(latex)}</code>'
    return f"<pre>{source}</pre>" if block else source


def _inline_formula(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(_html(node.astext(), block=False))
    raise nodes.SkipNode


def _display_formula(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(_html(node.astext(), block=True))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_display_formula, None))  # type: ignore[arg-type]
    return {"parallel_read_safe": True}
