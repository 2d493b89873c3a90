"""Formulas as MathML: what the converters draw, and what is shown as it is written."""

from __future__ import annotations

import re
from xml.etree.ElementTree import fromstring

import pytest

from helpers.notebooks.formulas import _html, to_mathml


def drawn(latex: str, block: bool = False) -> str:
    """The signs that a reader sees, without spaces."""
    mathml = to_mathml(latex, block)
    assert mathml is not None, latex
    return re.sub(r"[\s\u2061]", "", "".join(fromstring(_entities(mathml)).itertext()))


def _entities(mathml: str) -> str:
    return mathml.replace("&ApplyFunction;", "\u2061")  # known in HTML, not in XML


@pytest.mark.parametrize(
    ("latex", "signs"),
    [
        (r"a \dots b", "a…b"),
        (r"\frac12", "12"),
        (r"x^\frac12", "x12"),
        (r"\tfrac12 \iff \big( x \big)", "12⟺(x)"),
        (r"\text{logit of IO} - \mathrm{logit}(S)", "logitofIO-logit(S)".replace("-", "−")),
        (r"\operatorname*{argmax}_x f(x)", "argmaxxf(x)"),
        (r"\bm{x} \dots", "x…"),
        (r"\text{<b> & co} \dots", "<b>&co…"),
        (r"\texttt{hook\_z}", "hook_z"),
        (r"a < b \dots", "a<b…"),
        (r"\newcommand{\R}{\mathbb{R}} \R^n", "ℝn"),
        (r"a = b \label{eq:one} \tag{1}", "a=b"),
        (r"\begin{equation} a = b \end{equation}", "a=b"),
    ],
)
def test_draws_what_people_write(latex, signs):
    assert drawn(latex) == signs


@pytest.mark.parametrize(
    "environment",
    ["align", "align*", "aligned", "split", "eqnarray", "gather", "gather*", "multline"],
)
def test_draws_each_environment(environment):
    latex = rf"\begin{{{environment}}} a = b \\ c = d \end{{{environment}}}"
    assert drawn(latex, block=True) == "a=bc=d"


@pytest.mark.parametrize("environment", ["alignat", "alignat*", "alignedat"])
def test_draws_environments_with_a_number_of_columns(environment):
    latex = rf"\begin{{{environment}}}{{2}} a &= b & c &= d \end{{{environment}}}"
    assert drawn(latex, block=True) == "a=bc=d"


def test_a_block_has_a_line_of_its_own():
    for latex in (r"\frac{1}{2}", r"\frac12"):
        assert 'display="block"' in to_mathml(latex, True)
        assert 'display="block"' not in to_mathml(latex, False)


def test_styles_are_css_as_browsers_want_them():
    assert "font-weight: bold" in to_mathml(r"\textbf{x} \dots", False)


@pytest.mark.parametrize(
    "latex", [r"\nosuchcommand{x}", "x_", "a & b", r"\ref{x}", "% nothing", r"\ce{H2O}"]
)
def test_what_nothing_draws_is_shown_as_it_is_written(latex, capsys):
    assert to_mathml(latex, False) is None
    shown = latex.replace("&", "&amp;")
    assert _html(latex, block=False) == f'<code class="formula">{shown}</code>'
    assert _html(latex, block=True) == f'<pre><code class="formula">{shown}</code></pre>'
    assert latex in capsys.readouterr().err


# A formula cut anywhere: whatever a person leaves behind while writing.
@pytest.mark.parametrize(
    "latex",
    [
        r"\begin{cases} 1 & x>0 \\ \frac12 & \text{else} \end{cases}",
        r"\left( \sum_{i=1}^n \dots \right)^2",
        r"\operatorname*{arg\,max}_{x \in \mathbb{R}^{d \times n}} \sqrt[3]{x'}",
        r"\begin{align} a &= \underbrace{b}_{c} \\ &\xrightarrow[a]{b} \mathbf{d} \end{align}",
    ],
)
def test_nothing_that_is_written_stops_it(latex):
    for cut in range(len(latex) + 1):
        for piece in (latex[:cut], latex[cut:]):
            mathml = to_mathml(piece, block=True)
            assert mathml is None or fromstring(_entities(mathml)).tag.endswith("math")
