"""What Chrome draws of tokens that Plotly and browsers would read as markup: the tokens, as written."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import plotly.graph_objects as go
import pytest
from playwright.sync_api import Browser, Page
from plotly.offline import get_plotlyjs

from helpers import display
from helpers.atlas.views import sortable_table
from helpers.notebooks.page import _local_circuitsvis, circuitsvis_script
from helpers.plotting import (
    attention_patterns,
    circuit_graph,
    head_map,
    imshow,
    intervals,
    line,
    scatter,
    waterfall,
)
from tests.test_atlas_page import made_up
from tests.test_labels import READ, USUAL, drawn

# A line break is drawn as one, in two elements; all else is compared to the letter.
TOKENS = [text for text in READ + USUAL if text.split() and not {*text} & {*"\r\n"}]


@pytest.fixture(autouse=True)
def quiet(monkeypatch) -> list:
    shown: list = []
    monkeypatch.setattr(display.ShownFigure, "show_now", lambda self: None)
    monkeypatch.setattr("helpers.display.display", shown.append)
    return shown


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1400, "height": 2000})
    page.set_default_timeout(15_000)
    page.set_content("<!doctype html><meta charset='utf-8'><div id='figure'></div>")
    page.add_script_tag(content=get_plotlyjs())
    yield page
    page.close()


def draw(page: Page, figure: go.Figure) -> Callable[[str], list[str]]:
    """The figure on the page; and what reads the texts of all elements that match a selector."""
    page.evaluate(
        "json => { const f = JSON.parse(json); Plotly.purge('figure');"
        " return Plotly.newPlot('figure', f.data, f.layout).then(() => null) }",
        figure.to_json(),
    )

    def texts(selector: str) -> list[str]:
        # Plotly puts a zero-width space around raised text, and none elsewhere.
        return page.locator(f"#figure {selector}").evaluate_all("all => all.map(e => e.textContent)")

    return texts


def hover(page: Page, x: float, y: float, subplot: str = "xy") -> list[str]:
    """What the box says at a point of the data."""
    page.evaluate(
        "([x, y, subplot]) => Plotly.Fx.hover('figure', [{xval: x, yval: y}], subplot)", [x, y, subplot]
    )
    return page.locator("#figure .hovertext text").evaluate_all("all => all.map(e => e.textContent)")


def test_ticks_and_titles(page):
    """Every token, on both axes and in every title, some at a time."""
    for at in range(0, len(TOKENS), 8):
        some = TOKENS[at : at + 8]
        fig = imshow(
            np.eye(len(some)),
            title=some[0],
            x=some[-1],
            y=some[1],
            x_labels=some,
            y_labels=some,
            value_name=some[2],
        )
        texts = draw(page, fig)
        assert texts(".xtick text") == some
        assert texts(".ytick text") == some
        assert texts(".gtitle") == [some[0]]
        assert texts(".xtitle") == [some[-1]]
        assert texts(".ytitle") == [some[1]]
        # An empty line first; and on a colour bar Plotly leaves out spaces at the end.
        assert texts(".cbtitle text") == ["\N{NO-BREAK SPACE}" + some[2].rstrip()]


@pytest.mark.parametrize("token", TOKENS)
def test_hover_legend_and_annotations_of_lines(page, token):
    fig = line(
        {token: [1.0, 2.0], "other": [3.0, 3.0]},
        title="t",
        x="x",
        y=token,
        x_labels=["first", token],
        annotate=1,
    )
    texts = draw(page, fig)
    assert texts(".legendtext") == [token, "other"]
    assert f"{token}: 2.00" in texts(".annotation-text")
    # Lines of a box are elements of their own, so that nothing stands between them.
    assert f"{token}{token}: 2.0000" in hover(page, 1, 2)
    assert token in hover(page, 1, 2), "the series' name beside it, whole"


def test_two_columns_with_one_label_are_two_columns(page):
    texts = draw(page, imshow([[1.0, 2.0]], title="t", x="x", y="y", x_labels=["<s>", "<s>"]))
    assert texts(".xtick text") == ["<s>", "<s>"]
    places = page.locator("#figure .xtick").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect().x)"
    )
    assert places[1] - places[0] > 100


def test_a_line_break_is_drawn_as_one(page):
    draw(page, line([1.0, 2.0], title="<b>first</b>\nsecond", x="x", y="y"))
    assert page.locator("#figure .gtitle tspan.line").all_text_contents() == ["<b>first</b>", "second"]


def test_what_helpers_put_themselves_is_read(page):
    """Names above narrow cells stand in a line and a size of their own."""
    texts = draw(page, head_map(np.eye(60), title="t", annotate=2, facet_labels=None))
    assert texts(".annotation-text") != []
    assert not any("<" in text or "&" in text for text in texts("text"))
    assert hover(page, 0, 0) == ["L0H0value: 1.0000"]


def test_cells_points_bars_and_nodes(page):
    evil = "<s>&lt;%{y}"
    names = [[evil, "</s>"], ["a", "b"]]
    texts = draw(
        page, imshow([[2.0, 1.0], [0.0, 0.5]], title="t", x="x", y="y", names=names, annotate=2)
    )
    assert sorted(texts(".annotation-text")) == sorted([evil, "</s>"])
    assert hover(page, 0, 0) == [f"{evil}value: 2.0000"]
    texts = draw(page, scatter([1.0, 5.0], [1.0, 5.0], names=[evil, evil], title="t", x=evil, y="<i>"))
    assert texts(".textpoint text") == [evil, evil]
    assert hover(page, 5, 5) == [f"{evil}{evil}: 5.0000<i>: 5.0000"]
    ones = ([1.0, 2.0], [0.0, 1.0], [2.0, 3.0])
    texts = draw(page, intervals({evil: ones, "b": ones}, title="t", x="x", y="y", labels=[evil, "<b>"]))
    assert texts(".xtick text") == [evil, "<b>"]
    assert texts(".legendtext") == [evil, "b"]
    texts = draw(page, waterfall({evil: 1.0}, start=("<b>", 1.0), end="</b>", title="t", y=evil))
    assert texts(".xtick text") == ["<b>", evil, "</b>"]
    assert texts(".ytitle") == [evil]
    edges = [("<s>", "</s>", evil, 1.0)]
    nodes = {"<s>": (0, 0), "</s>": (1, 1)}
    columns, rows = ["<i>", "</i>"], {0: evil, 1: "&mu;"}
    fig = circuit_graph(nodes, edges, title="t", x=evil, y="y", x_labels=columns, y_labels=rows)
    texts = draw(page, fig)
    assert texts(".textpoint text") == ["<s>", "</s>"]
    assert evil in texts(".annotation-text")
    assert texts(".xtick text") == ["<i>", "</i>"]
    assert texts(".ytick text") == [evil, "&mu;"]


def test_the_table_and_menu_of_the_atlas(page):
    scores = {"<i>": np.arange(12.0).reshape(3, 4), "&amp;": np.ones((3, 4))}
    fig = sortable_table(made_up("<b>x</b>", **scores), by="<i>", columns=["&amp;"])
    texts = draw(page, fig)
    assert texts(".gtitle") == ["Top heads of <b>x</b>: choose a score to sort by"]
    header = [text.strip() for text in texts(".cell-text")]
    assert {"head", "<i>", "&amp;"} <= {*header}
    page.locator("#figure .updatemenu-header").click()
    assert {*texts(".updatemenu-item-text")} == {"<i>", "&amp;"}


def test_the_test_of_labels_reads_text_as_plotly_does(page):
    """The oracle without a browser: unescaped text, as Plotly draws it."""
    raw = [text for text in TOKENS if "<sup" not in text and "<sub" not in text]
    for at in range(0, len(raw), 8):
        some = raw[at : at + 8]
        fig = go.Figure(go.Scatter(x=list(range(len(some))), y=[1] * len(some)))
        fig.update_xaxes(tickvals=list(range(len(some))), ticktext=some, tickangle=0)
        shown = draw(page, fig)(".xtick text")
        assert shown == [drawn(text).replace("\n", "") for text in some]


@pytest.mark.parametrize("token", ["</script>", "<!-- <script>", "<s>", "</SCRIPT>"])
def test_a_view_of_attention_is_drawn_whatever_its_tokens(browser, quiet, token):
    """Tokens stand in a drawing, on which only names can be read."""
    attention_patterns([[[1.0, 0.0], [0.5, 0.5]]], tokens=[token, "last"], names=[token], title="t")
    page = browser.new_page()
    page.set_default_timeout(15_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    script = circuitsvis_script().replace("</script>", r"<\/script>")
    view = _local_circuitsvis(quiet[0].data)
    page.set_content(f"<!doctype html><script>{script}</script><body>{view}<p id='end'>end</p></body>")
    page.locator("canvas").first.wait_for()
    text = page.locator("body").inner_text()
    page.close()
    assert errors == []
    assert f"{token} Zoomed" in text
    assert text.split("Zoomed")[1].split() == [*token.split(), "end"], "nothing of the script is text"
