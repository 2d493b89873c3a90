"""Tokens and names are drawn as they are written, whatever Plotly or a browser would read in them."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch

from helpers import display
from helpers.atlas.table import Atlas
from helpers.atlas.views import head_table, score_table, sortable_table
from helpers.figure_json import PLOTLY
from helpers.notebooks.atlas_page import AtlasPage, Entry
from helpers.plotting import (
    attention_patterns,
    circuit_graph,
    imshow,
    intervals,
    line,
    scatter,
    waterfall,
)
from helpers.plotting.labels import as_written
from helpers.tables import show_table
from tests.test_atlas_page import made_up

ROOT = Path(__file__).parents[1]

# Tokens of Llama, Mistral, Gemma, GPT and code, and what people call folders and series.
READ = [
    *("<s>", "</s>", "<b>", "</b>", "<i>", "<em>", "<u>", "<sub>", "<sup>", "<a>", "<span>", "<br>"),
    *("<S>", "<Br>", "<br />", "<b >", "<a href='x'>", '<span style="color:red">', "<br class=x>"),
    *(
        "&amp;",
        "&lt;",
        "&gt;",
        "&nbsp;",
        "&mu;",
        "&#60;",
        "&#x3c;",
        "&#X3C; &#x3C;",
        "&amp;amp;",
        "&lt;s>",
    ),
    *("a <b> c", "<b>bold</b>", "x<sub>1</sub>", "<<s>>", "</s><s>", "<s", "<s <b>", "$x$", "$", "%{y}"),
    *("<extra>", "</extra>", "%{customdata}", "line\nbreak", "line\r\nbreak", "\n"),
]
USUAL = [
    *("<|im_start|>", "<|endoftext|>", "<unk>", "<pad>", "<bos>", "<0x0A>", "<mask>", "<start_of_turn>"),
    *(
        " Mary",
        "L9H9",
        "a < b",
        "a > b",
        "R&D",
        "&",
        "<",
        ">",
        "<>",
        "</>",
        "100%",
        "{x}",
        "é",
        "名前",
        "",
    ),
    *(
        "< s>",
        "<s-1>",
        "<body>",
        "<brother>",
        "A&B;",
        "&#X3C;",
        "<br/>",
        "&;",
        "-->",
        "_",
        "→ 3",
        "<sup.>",
        'it\'s "so"',
    ),
]

# --- Plotly's reading of text, as its svg_text_utils.js does it -------------------------------------

_KNOWN = {"sup", "sub", "s", "u", "b", "i", "a", "span", "em"}
_ENTITIES = dict(mu="μ", amp="&", lt="<", gt=">", nbsp="\xa0", times="×", plusmn="±", deg="°")


def _entity(found: re.Match[str]) -> str:
    name = found[1]
    if name.startswith("#x"):
        return chr(int(name[2:], 16))
    return chr(int(name[1:])) if name.startswith("#") else _ENTITIES.get(name, found[0])


def drawn(text: str) -> str:
    """What stands in the figure; a line break for each that is drawn."""
    parts = []
    for chunk in re.split(r"(<[^<>]*>)", re.sub(r"\r\n?|\n", " ", text)):
        tag = re.search(r"<(/?)([^ >]*)(\s+(.*))?>", chunk)
        name = tag[2].lower() if tag else ""
        if name == "br":
            parts.append("\n")
        elif name not in _KNOWN:
            parts.append(re.sub(r"&(#\d+|#x[\da-fA-F]+|[a-z]+);", _entity, chunk))
    return "".join(parts)


def hovered(template: str, values: dict[str, str]) -> str:
    """What the box of a point says, but for its numbers: templates are filled first, then read."""
    filled = re.sub(r"%{([^\s%{}:]*)(:[^}]*)?}", lambda found: values.get(found[1], "NUMBER"), template)
    return drawn(re.sub(r"<extra>([\s\S]*)</extra>", r" \1", filled))


def lines(text: str) -> str:
    return re.sub(r"\r\n?", "\n", text)


@pytest.mark.parametrize("text", READ)
def test_what_plotly_reads_is_drawn_as_it_is_written(text):
    assert as_written(text) != text
    assert drawn(as_written(text)) == lines(text)
    assert hovered(f"{as_written(text)}: %{{y:.2f}}<extra></extra>", {}) == f"{lines(text)}: NUMBER "


@pytest.mark.parametrize("text", USUAL)
def test_what_plotly_draws_as_it_is_written_stays_to_the_byte(text):
    assert drawn(text) == as_written(text) == text


def test_texts_of_all_that_could_be_read_are_drawn_as_they_are_written():
    pieces = [*"<>/&;#x% ${}\n", "br", "b", "s", "sub", "amp", "lt", "extra", "60", "a", "\ufeff", "\t"]
    numbers = random.Random(0)
    for _ in range(20_000):
        one, two = ("".join(numbers.choices(pieces, k=numbers.randint(1, 7))) for _ in range(2))
        assert drawn(as_written(one)) == lines(one)
        for between in (": ", ", ", " → "):  # as helpers put two together
            assert drawn(as_written(one) + between + as_written(two)) == lines(one + between + two)
        template = f"%{{customdata}}<br>{as_written(two)}: %{{y:.2f}}<extra></extra>"
        assert hovered(template, {"customdata": as_written(one)}) == lines(f"{one}\n{two}: NUMBER ")


def test_no_formula_is_found_in_a_text():
    """Where MathJax is loaded, Plotly looks for dollar signs before it reads anything else."""
    assert "$" not in as_written("from $5 to $6")


# --- every plot -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quiet(monkeypatch) -> list:
    shown: list = []
    monkeypatch.setattr(display.ShownFigure, "show_now", lambda self: shown.append(self))
    monkeypatch.setattr("helpers.display.display", shown.append)
    return shown


def texts_of(part, *path: str) -> list[tuple[str, str]]:
    """Every text in a figure with its place, but for settings, which are lower-case words."""
    if isinstance(part, dict):
        return [found for key, value in part.items() for found in texts_of(value, *path, key)]
    if isinstance(part, list):
        return [found for value in part for found in texts_of(value, *path)]
    return [(".".join(path), part)] if isinstance(part, str) else []


A, B, C, D, E = "<s>", "</s> b", "x<sub>1</sub>", "&amp;", "%{y} <br> $t$"
GRID = [[1.0, -1.0], [0.5, 0.25]]
PLOTS = {
    "imshow": lambda: imshow(
        GRID, title=A, x=B, y=C, x_labels=[A, A], y_labels=[D, E], value_name=D, annotate=1
    ),
    "imshow with facets": lambda: imshow(
        [GRID, GRID], title=A, x=B, y=C, facet_labels=[A, B], names=[[A, A], [D, E]], value_name=D,
        annotate=4,
    ),
    "imshow with narrow cells": lambda: imshow(
        torch.eye(60), title=A, x=B, y=C, names=[[A] * 60] * 60, value_name=D, annotate=2
    ),
    "line": lambda: line(
        {A: [1.0, 2.0], B: [2.0, 1.0]}, title=C, x=D, y=E, x_labels=[A, A], annotate=2
    ),
    "scatter": lambda: scatter([1.0, 2.0], [0.5, 3.0], names=[A, A], title=B, x=C, y=E),
    "intervals": lambda: intervals(
        {A: ([1.0, 2.0], [0.0, 1.0], [2.0, 3.0]), B: ([1.0, 2.0], [0.0, 1.0], [2.0, 3.0])},
        title=B, x=C, y=E, labels=[A, D],
    ),
    "waterfall": lambda: waterfall({A: 1.0, B: -0.5}, start=(C, 1.0), end=D, title=B, y=E),
    "circuit": lambda: circuit_graph(
        {A: (0, 0), B: (1, 1)}, [(A, B, C, 0.5)], title=D, x=E, y=A, x_labels=[A, A],
        y_labels={0: C, 1: D},
    ),
    "attention": lambda: attention_patterns(
        [[[1.0, 0.0], [0.5, 0.5]]], tokens=[A, "</script>"], names=[B], title=C, notes=[D]
    ),
}  # fmt: skip


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS.keys())
def test_every_text_of_a_plot_is_drawn_as_it_is_written(plot):
    """Whatever is drawn is made of what was given: nothing of it is read as a tag or an entity."""
    figure = json.loads(plot().to_json())
    del figure["layout"]["template"]
    read = 0
    for place, text in texts_of(figure):
        if place.endswith("hovertemplate"):
            text = hovered(text, {"customdata": "", "text": ""})
        else:
            # What the plots themselves put: names above a facet, in a line and a size of their own.
            text = drawn(re.sub(r"<br><span style='font-size: 11px'>(.*)</span>", r"<br>\1", text))
        rest = text
        for given in (A, B, C, D, E, "</script>"):
            rest, read = rest.replace(given, ""), read + rest.count(given)
        assert not re.search("[<>&$]|%{", rest), (place, text)
        assert text == "" or "<sub" not in text or "</sub>" in text
    assert read > 6, "the texts are there"


def test_labels_stand_where_they_were_put_and_count_as_ever():
    fig = PLOTS["imshow"]()
    assert [drawn(text) for text in fig.layout.xaxis.ticktext] == [A, A]
    assert list(fig.layout.xaxis.tickvals) == [0, 1], "by place: equal labels are two columns"
    assert [drawn(text) for text in fig.layout.yaxis.ticktext] == [D, E]
    assert drawn(fig.layout.title.text) == A
    assert drawn(fig.layout.coloraxis.colorbar.title.text) == f"\N{NO-BREAK SPACE}\n{D}"
    assert drawn(fig.data[0].customdata[1][0]) == f"{E}, {A}"
    plain = imshow(GRID, title="t", x="x", y="y", x_labels=["abc", "abc"])
    assert fig.layout.xaxis.tickangle == plain.layout.xaxis.tickangle == 0, "measured as it is drawn"


def test_a_line_break_in_a_title_is_one_in_the_figure():
    assert line([1.0, 2.0], title="first\nsecond", x="x", y="y").layout.title.text == "first<br>second"


def test_an_escaped_name_is_not_cut_in_the_middle_of_an_entity():
    escaped, usual = line({A: [1.0], "usual": [2.0]}, title="t", x="x", y="y").data
    assert escaped.hoverlabel.namelength == -1
    assert usual.hoverlabel.namelength is None
    unknown, _ = line({"<unk>": [1.0], "<s>": [2.0]}, title="t", x="x", y="y").data
    assert "<extra>&lt;unk></extra>" in unknown.hovertemplate, "there, unlike elsewhere, dropped"
    assert unknown.name == "<unk>"


def test_the_committed_figures_hold_nothing_that_is_written_otherwise():
    """Their bytes stay: only what this package puts itself is read by Plotly, and is not escaped."""
    ours = re.compile(r"<br><span style='font-size: 11px'>|^&nbsp;<br>|&nbsp;|</span>")
    texts = {
        text
        for path in (ROOT / "demos").glob("*.ipynb")
        for cell in nbformat.read(path, 4).cells
        for output in cell.get("outputs", [])
        for place, text in texts_of(output.get("data", {}).get(PLOTLY, {}))
        if not place.endswith("hovertemplate")
    }
    assert "<|im_start|>" in texts
    changed = {text for text in texts if as_written(ours.sub("", text)) != ours.sub("", text)}
    assert changed == set()


# --- CircuitsVis ----------------------------------------------------------------------------------


class Scripts(HTMLParser):
    """What a browser takes for scripts, and what for text."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.text = ""

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts.append(data)
        else:
            self.text += data


ENDS = ["</script>", "</SCRIPT >", "<!--", "<!-- <script>", "<script", "</scripty", "<s>", '"</script>"']


@pytest.mark.parametrize("token", ENDS)
def test_no_token_ends_the_script_of_a_view(quiet, token):
    attention_patterns([[[1.0, 0.0], [0.5, 0.5]]], tokens=[token, "b"], names=[token], title="t")
    view = quiet[0].data
    page = Scripts()
    page.feed(view)
    page.close()
    script = "".join(page.scripts)
    assert page.text.strip() == ""
    assert not re.search(r"<(/?script|!--)", script, re.IGNORECASE)
    values = json.loads(script[script.index("{", script.index("render(")) : script.rindex("}") + 1])
    assert values["tokens"] == [token, "b"]
    assert values["attentionHeadNames"] == [token]


def test_a_usual_view_stays_to_the_byte(quiet):
    tokens = ["<|im_start|>", " Mary"]
    attention_patterns([[[1.0, 0.0], [0.5, 0.5]]], tokens=tokens, names=["L0H0"], title="t")
    assert '"<|im_start|>"' in quiet[0].data
    assert "u003c" not in quiet[0].data


# --- tables and the atlas -------------------------------------------------------------------------


@pytest.fixture
def atlas() -> Atlas:
    """Of a model, with a score, that are called like markup."""
    plain = made_up("<b>&amp;", **{"<i>": torch.arange(12.0).reshape(3, 4)})
    about = {"<i>": {"meaning": "a <s> & </td>", "range": "<0", "null": "&lt;", "samples": 2}}
    return replace(plain, info=plain.info | {"scores": about})


def test_the_tables_of_the_atlas_show_names_as_they_are_written(atlas):
    html = head_table(atlas, "<i>").data + score_table(atlas).data
    assert "<i>" not in html
    assert "<s>" not in html
    assert "<th>&lt;i></th>" in html
    assert "<td>a &lt;s> &amp; &lt;/td></td>" in html
    fig = sortable_table(atlas, by="<i>")
    assert drawn(fig.layout.title.text) == "Top heads of <b>&amp;: choose a score to sort by"
    assert "<i>" in [drawn(text) for text in fig.data[0].header["values"]]
    button = fig.layout.updatemenus[0].buttons[0]
    assert drawn(button.label) == "<i>"
    assert "<i>" in [drawn(text) for text in button.args[0]["header.values"][0]]


def test_the_promise_of_the_atlas_page_names_a_model_as_it_is_written(atlas):
    [paragraph] = re.findall(r"head of (.*): search", AtlasPage([Entry("x", atlas, None)]).promise)
    assert paragraph == r"\<b>\&amp;"


@pytest.mark.parametrize("token", ["<s>", "&amp;", "</script>", "<b>bold</b>"])
def test_a_table_of_pandas_shows_tokens_as_they_are_written(monkeypatch, token):
    shown = []
    monkeypatch.setattr("helpers.tables.display", lambda table: shown.append(table._repr_html_()))
    show_table(pd.DataFrame({"token": [token], token: [1.0]}, index=[token]))
    [html] = shown
    assert [unescape(text) for text in re.findall(r"<t[hd]>([^<]*)</t[hd]>", html)] == [
        *("", "token", token),
        *(token, token, "1.000"),
    ]
