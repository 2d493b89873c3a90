"""Figures hold what they were given, and refuse what they cannot show."""

from __future__ import annotations

import numpy as np
import plotly.io as pio
import pytest
import torch

from helpers import display
from helpers.plotting import (
    attention_patterns,
    circuit_graph,
    head_map,
    imshow,
    intervals,
    line,
    position_map,
    scatter,
    waterfall,
)
from helpers.plotting.look import PLOT_WIDTH


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No kernel here: collect what would be shown."""
    shown = []
    monkeypatch.setattr(display.ShownFigure, "show_now", lambda self: shown.append(self))
    return shown


def image(**options):
    return imshow(
        **{"values": torch.eye(3)[:2], "title": "a title", "x": "columns", "y": "rows", **options}
    )


@pytest.mark.parametrize(
    "values",
    [
        torch.eye(3)[:2].to(torch.bfloat16),
        torch.eye(3)[:2].double().requires_grad_(),
        np.eye(3)[:2],
        [[1, 0, 0], [0, 1, 0]],
        [torch.tensor([1, 0, 0]), torch.tensor([0, 1, 0])],
    ],
    ids=["bfloat16", "with gradient", "numpy", "lists", "list of tensors"],
)
def test_imshow_takes_what_people_have(values, quiet):
    fig = image(values=values)
    assert np.asarray(fig.data[0].z).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert quiet == [fig], "shown once, and returned"


def test_imshow_labels_everything():
    fig = image(x_labels=list("abc"), y_labels=["u", "v"], value_name="effect")
    assert fig.layout.title.text == "a title"
    assert (fig.layout.xaxis.title.text, fig.layout.yaxis.title.text) == ("columns", "rows")
    assert fig.layout.xaxis.ticktext == ("a", "b", "c")
    assert fig.layout.coloraxis.colorbar.title.text == "&nbsp;<br>effect", "off the numbers"
    assert fig.data[0].customdata[1][2] == "v, c"
    assert fig.layout.paper_bgcolor == "white"


def test_diverging_scale_has_zero_in_the_middle_and_is_shared():
    fig = image(values=torch.stack([torch.eye(3), -4 * torch.eye(3)]), facet_labels=["one", "two"])
    assert (fig.layout.coloraxis.cmin, fig.layout.coloraxis.cmax) == (-4, 4)
    assert [trace.coloraxis for trace in fig.data] == ["coloraxis", "coloraxis"]
    assert [a.text for a in fig.layout.annotations] == ["one", "two"]


def test_head_map_names_heads_and_writes_on_the_largest():
    values = torch.zeros(3, 4)
    values[2, 1], values[0, 3] = -5, 2
    fig = head_map(values, title="heads", annotate=2)
    assert fig.data[0].customdata[2][1] == "L2H1"
    assert {(a.text, a.x, a.y) for a in fig.layout.annotations} == {("L2H1", 1, 2), ("L0H3", 3, 0)}
    assert fig.layout.yaxis.ticktext == ("L0", "L1", "L2")


def test_names_that_do_not_fit_their_cells_stand_above_the_facet():
    values = torch.zeros(3, 3, 12)
    values[1, 2, 11], values[1, 0, 0], values[1, 1, 4] = 9, 7, 0.1  # the last too pale to see
    fig = head_map(values, title="heads", facet_labels=["a", "b", "c"], annotate=3)
    headings, marks = fig.layout.annotations[:3], fig.layout.annotations[3:]
    assert [heading.text.split("<br>")[0] for heading in headings] == ["a", "b", "c"]
    assert ["L0H0, L2H11" in heading.text for heading in headings] == [False, True, False]
    assert {(mark.text, mark.xref, mark.x, mark.y) for mark in marks} == {
        ("•", "x2", 0, 0),
        ("•", "x2", 11, 2),
    }


def test_annotations_stay_on_their_facet():
    values = torch.zeros(2, 3, 6)
    values[1, 2, 5] = 1
    fig = head_map(values, title="heads", facet_labels=["a", "b"], annotate=1)
    by_text = {a.text: a for a in fig.layout.annotations}
    assert by_text["L2H5"].xref == "x2"
    assert (by_text["L2H5"].x, by_text["L2H5"].y) == (5, 2)
    assert by_text["L2H5"].font.color == "white", "on a dark cell"


@pytest.mark.parametrize(
    ("facet", "white"),
    [([-1.0, 0.75, 0.65], [True, True, False]), ([0.1, 0.3, 1.0], [False, False, True])],
)
def test_text_on_a_cell_stands_out_from_it(facet, white):
    fig = image(values=[facet], annotate=3)
    assert [a.font.color == "white" for a in sorted(fig.layout.annotations, key=lambda a: a.x)] == white


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([-2.0, 0.5], ["-2.00", "0.50"]),
        ([-0.08, 0.004], ["-0.080", "0.004"]),
        ([3e-4, 0.0], ["0.00030"]),
    ],
)
def test_values_on_cells_are_written_as_finely_as_they_are(values, texts):
    fig = image(values=[values], annotate=2)
    assert [a.text for a in fig.layout.annotations] == texts


@pytest.mark.parametrize(
    ("labels", "facets", "angle", "size"),
    [
        (["L0", "L10", "L29"], 1, 0, None),
        ([f"L{i}" for i in range(30)], 1, -60, 13),
        ([f"H{i}" for i in range(12)], 3, -60, 13),  # short, but side by side they would touch
        ([f"H{i}" for i in range(9)], 4, -60, 13),  # as wide as their room
        ([f"token {i}" for i in range(19)], 3, -60, 11),
    ],
)
def test_tick_labels_do_not_run_into_each_other(labels, facets, angle, size):
    fig = image(values=torch.ones(facets, 2, len(labels)), x_labels=labels)
    assert (fig.layout.xaxis.tickangle, fig.layout.xaxis.tickfont.size) == (angle, size)


@pytest.mark.parametrize(("name", "rows"), [("short", 1), ("a long name, much longer than others", 2)])
def test_a_legend_has_the_rows_it_needs(name, rows):
    one = line([1, 2], title="t", x="x", y="y")
    many = line({f"{name} {i}": [1, 2] for i in range(4)}, title="t", x="x", y="y")
    assert many.layout.legend.orientation == "h"
    assert many.layout.margin.t == one.layout.margin.t + 20 * (rows - 1)
    assert many.layout.height - many.layout.margin.t == one.layout.height - one.layout.margin.t


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": torch.zeros(3)}, r"2 or 3 dimensions; got shape \(3,\)"),
        ({"values": torch.zeros(0, 3)}, "empty"),
        ({"values": torch.tensor([[1.0, float("nan")]])}, r"NaN or infinity, first at index \(0, 1\)"),
        ({"x_labels": ["a"]}, "x_labels must have 3 entries, one for each; got 1"),
        ({"y_labels": ["a"]}, "y_labels must have 2"),
        ({"values": torch.zeros(2, 2, 3), "facet_labels": ["a"]}, "facet_labels must have 2"),
        ({"names": [["a"]]}, "names must have 2"),
    ],
)
def test_imshow_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        image(**options)


def test_line():
    fig = line(
        {"ours": [1, 2, 9], "theirs": torch.tensor([3, 2, 1])},
        title="t",
        x="layer",
        y="effect",
        x_labels=["a", "b", "c"],
        annotate=1,
    )
    assert [trace.name for trace in fig.data] == ["ours", "theirs"]
    assert list(fig.data[0].y) == [1, 2, 9]
    assert fig.data[0].customdata[2] == "c"
    assert fig.layout.xaxis.tickangle == 0, "short labels need no tilting"
    assert fig.data[0].line.dash != fig.data[1].line.dash, "told apart without colour"
    assert fig.layout.annotations[0].text == "c: 9.00"
    with pytest.raises(ValueError, match="equal length"):
        line({"a": [1, 2], "b": [1]}, title="t", x="x", y="y")


@pytest.mark.parametrize(("by", "text"), [("change", "1: -7.00"), ("size", "2: -9.00")])
def test_line_marks_the_largest_change_or_size(by, text):
    fig = line([5, -7, -9], title="t", x="x", y="y", annotate=1, annotate_by=by)
    assert [a.text for a in fig.layout.annotations] == [text]


def test_names_of_close_points_stand_on_both_sides():
    fig = scatter([0, 1, 1.01], [0, 1, 1.01], names=list("abc"), title="t", x="x", y="y", annotate=2)
    assert fig.data[0].text == ("", "b", "c")
    assert fig.data[0].textposition == ("top center", "bottom center", "top center")


def test_scatter():
    fig = scatter(
        [0, 3], [0, 4], names=["near", "far"], title="t", x="x", y="y", annotate=1, diagonal=True
    )
    points = fig.data[1]
    assert list(points.text) == ["", "far"]
    assert list(points.customdata) == ["near", "far"]
    assert list(fig.data[0].x) == [0, 4]
    with pytest.raises(ValueError, match="got 2 and 1 points"):
        scatter([0, 1], [0], names=["a", "b"], title="t", x="x", y="y")


def test_a_long_name_beside_an_edge_of_the_plot_goes_inwards():
    names = ["a long name, left", "a long name, middle", "a long name, right", "short"]
    xs, ys = [0, 5, 10, 10], [0, 1, 2, 5]
    fig = scatter(xs, ys, names=names, title="t", x="x", y="y", annotate=4)
    assert fig.data[0].textposition == ("top right", "top center", "top left", "top center")


def test_intervals():
    series = {
        "one": ([1.0, 2.0], [0.5, 2.0], [1.25, 4.0]),
        "other": (torch.tensor([0.0, -1.0]), [-1.0, -2.0], [1.0, 0.0]),
    }
    options = {"title": "t", "x": "things", "y": "effect", "labels": ["a", "b"]}
    fig = intervals(series, reference=3.0, **options)
    assert [trace.name for trace in fig.data] == ["one", "other"]
    assert list(fig.data[0].y) == [1, 2]
    assert list(fig.data[0].error_y.array) == [0.25, 2]
    assert list(fig.data[0].error_y.arrayminus) == [0.5, 0]
    assert fig.data[0].x[0] < 0 < fig.data[1].x[0], "side by side"
    assert fig.data[1].customdata[1] == ["b", -2, 0]
    assert fig.layout.xaxis.ticktext == ("a", "b")
    assert fig.layout.shapes[0].y0 == fig.layout.shapes[0].y1 == 3

    lying = intervals(series, horizontal=True, **options)
    assert list(lying.data[1].x) == [0, -1]
    assert list(lying.data[1].error_x.array) == [1, 1]
    assert lying.layout.yaxis.ticktext == ("a", "b")
    assert lying.layout.yaxis.autorange == "reversed"

    curve = intervals(series, connect=True, **options)
    assert [(list(trace.x), trace.mode) for trace in curve.data] == [([0, 1], "lines+markers")] * 2

    with pytest.raises(ValueError, match="series is empty"):
        intervals({}, **options)
    with pytest.raises(ValueError, match="labels must have 1 entries"):
        intervals({"one": ([1.0], [0.0], [2.0])}, **options)
    with pytest.raises(ValueError, match="NaN"):
        intervals({"one": ([1.0, 2.0], [0.0, float("nan")], [2.0, 3.0])}, **options)


def test_circuit_graph():
    nodes = {"L1H0": (2, 1), "L0H1": (0, 0), "L1H2": (2, 1), "logits": (2, 3)}
    options = {"title": "t", "x": "position", "y": "layer", "x_labels": ["a", "b", "c"]}
    fig = circuit_graph(nodes, [("L1H0", "logits", "q +0.5", 0.5)], **options)
    trace = fig.data[0]
    places = dict(zip(trace.text, zip(trace.x, trace.y, strict=True), strict=True))
    assert {name: y for name, (_, y) in places.items()} == {"L1H0": 1, "L0H1": 0, "L1H2": 1, "logits": 3}
    assert dict(zip(trace.text, trace.customdata, strict=True))["L0H1"] == "a"
    assert fig.layout.xaxis.ticktext == ("a", "c"), "only columns in use"
    assert len(set(places.values())) == 4, "no node hides another"
    assert fig.layout.yaxis.ticktext == ("0", "1", "3"), "only rows in use"
    arrow, text = fig.layout.annotations
    assert ((arrow.ax, arrow.ay), (arrow.x, arrow.y)) == (places["L1H0"], places["logits"])
    assert text.text == "q +0.5"
    with pytest.raises(ValueError, match="names a node that is not among"):
        circuit_graph(nodes, [("L1H0", "L9H9", "", 1.0)], **options)
    with pytest.raises(ValueError, match="'logits' is in row 3, which has no label"):
        circuit_graph(nodes, [], y_labels={0: "L0", 1: "L1"}, **options)
    with pytest.raises(ValueError, match="'far' is in column 3"):
        circuit_graph({"far": (3, 0)}, [], **options)
    with pytest.raises(ValueError, match="empty"):
        circuit_graph({}, [], **options)


def test_a_circuit_is_turned_so_that_arrows_miss_nodes():
    """Untouched, the lowest of a column stands to the left, in the way of an arrow from the left."""
    nodes = {"early": (0, 17), "low": (1, 19), "high": (1, 20), "output": (1, 31)}
    options = {"title": "t", "x": "position", "y": "layer", "x_labels": ["a", "b"]}
    for edges, low_is_left in [([], True), ([("early", "high", "", 1.0)], False)]:
        trace = circuit_graph(nodes, edges, **options).data[0]
        x = dict(zip(trace.text, trace.x, strict=True))
        assert (x["low"] < x["high"]) == low_is_left


def test_no_node_of_a_circuit_is_cut_off():
    """Of several in a column some stand far out, and more so in a narrow column."""
    nodes = {f"L{layer}H{column}": (column, layer) for column in range(8) for layer in (0, 17, 26, 29)}
    labels = [f"H{column}" for column in range(8)]
    fig = circuit_graph(nodes, [], title="t", x="head", y="layer", x_labels=labels)
    low, high = fig.layout.xaxis.range
    pixels = PLOT_WIDTH / (high - low)
    assert (high - max(fig.data[0].x)) * pixels >= 25
    assert (min(fig.data[0].x) - low) * pixels >= 25


def test_attention_patterns_show_a_live_view_and_a_picture(monkeypatch):
    views = []
    monkeypatch.setattr(display, "display", views.append)
    pattern = torch.tensor([[[1, 0], [0.25, 0.75]]])
    for _ in range(2):
        fig = attention_patterns(pattern, tokens=["a", "b"], names=["L0H0"], title="t")
    assert fig.data[0].customdata[1][0] == "b → a"
    assert (fig.layout.coloraxis.cmin, fig.layout.coloraxis.cmax) == (0, 1)
    assert views[0].data == views[1].data, "the same view is the same HTML at each run"
    assert "0.75" in views[0].data

    noted = attention_patterns(
        pattern, tokens=["a", "b"], names=["L0H0"], notes=["looks back"], title="t"
    )
    assert [note.text for note in noted.layout.annotations] == ["L0H0: looks back"]
    assert views[-2].data == views[0].data, "its previews have room for names only"
    with pytest.raises(ValueError, match="notes must have 1 entries"):
        attention_patterns(pattern, tokens=["a", "b"], names=["x"], notes=["y", "z"], title="t")
    with pytest.raises(ValueError, match="dest = src"):
        attention_patterns(torch.zeros(1, 2, 3), tokens=["a", "b"], names=["x"], title="t")


class TestRenderer:
    """Environments are simulated by what each of them sets."""

    class Shell:
        execution_count = 1

    class KernelShell(Shell):
        kernel = object()

    @pytest.fixture(autouse=True)
    def clean(self, monkeypatch):
        monkeypatch.delenv("PLOTLY_RENDERER", raising=False)
        monkeypatch.setattr(display, "PLOTLY_DEFAULT", pio.renderers.default)
        monkeypatch.setattr(display, "get_ipython", self.KernelShell)

    def test_kernel_with_and_without_a_browser(self, monkeypatch):
        monkeypatch.setattr(display, "_browser_problem", lambda: None)
        assert display.choose_renderer() == "plotly_mimetype+static_png"
        monkeypatch.setattr(display, "_browser_problem", lambda: "no browser")
        assert display.choose_renderer() == "plotly_mimetype"

    def test_colab_decides_for_itself(self, monkeypatch):
        monkeypatch.setenv("COLAB_NOTEBOOK_ID", "1")
        assert display.choose_renderer() is None

    def test_nobodys_choice_is_overridden(self, monkeypatch):
        monkeypatch.setenv("PLOTLY_RENDERER", "json")
        assert display.choose_renderer() is None
        monkeypatch.delenv("PLOTLY_RENDERER")
        monkeypatch.setattr(display, "PLOTLY_DEFAULT", "something else than now")
        assert display.choose_renderer() is None

    def test_plain_script_and_terminal(self, monkeypatch):
        monkeypatch.setattr(display, "get_ipython", lambda: None)
        assert display.choose_renderer() == ""
        monkeypatch.setattr(display, "get_ipython", self.Shell)
        assert display.choose_renderer() is None

    def test_a_missing_browser_is_said_and_not_raised(self, monkeypatch, capsys):
        async def no_browser(seconds):
            raise display.ChromeNotFoundError("none")

        display._browser_problem.cache_clear()
        display._note_once.cache_clear()
        monkeypatch.setattr(display, "_try_browser", no_browser)
        assert display.choose_renderer() == "plotly_mimetype"
        assert "no static pictures" in capsys.readouterr().out
        display._browser_problem.cache_clear()


def steps(**options):
    parts = {"lost": -2.5, "given back": 1.25}
    return waterfall(
        **{
            "parts": parts,
            "start": ("before", 4),
            "end": "after",
            "title": "t",
            "y": "logits",
            **options,
        }
    )


def test_a_waterfall_ends_at_the_sum():
    fig = steps()
    (bars,) = fig.data
    assert list(bars.y) == [4, -2.5, 1.25, 2.75]
    assert list(bars.measure) == ["absolute", "relative", "relative", "total"]
    assert list(bars.text) == ["4.00", "-2.50", "+1.25", "2.75"]
    assert fig.layout.xaxis.ticktext == ("before", "lost", "given back", "after")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": {}}, "parts is empty"),
        ({"parts": {"before": 1.0}}, "a name of its own"),
        ({"parts": {"lost": float("nan")}}, "NaN"),
    ],
)
def test_a_waterfall_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        steps(**options)


def test_points_of_a_layer_by_head_matrix_are_named_after_their_heads():
    values = np.arange(6.0).reshape(2, 3)
    figure = scatter(values, -values, title="t", x="x", y="y")
    assert list(figure.data[-1].customdata) == ["L0H0", "L0H1", "L0H2", "L1H0", "L1H1", "L1H2"]
    with pytest.raises(ValueError, match="without names"):
        scatter([1.0, 2.0], [1.0, 2.0], title="t", x="x", y="y")


def test_a_map_over_positions_is_the_heatmap_with_its_labels():
    values = np.arange(12.0).reshape(2, 2, 3)
    options = {"title": "t", "facet_labels": ["a", "b"], "value_name": "v", "annotate": 1}
    ours = position_map(values, ["x", "y", "z"], y="before layer", **options)
    labels = {"x_labels": ["x", "y", "z"], "y_labels": ["L0", "L1"]}
    theirs = imshow(values, x="position", y="before layer", **labels, **options)
    assert ours.to_json() == theirs.to_json()


def test_facets_by_name_are_those_with_labels():
    facets = {"a": torch.arange(6.0).view(2, 3), "b": -torch.ones(2, 3)}
    ours = head_map(facets, title="t")
    theirs = head_map(torch.stack(list(facets.values())), title="t", facet_labels=["a", "b"])
    assert ours.to_json() == theirs.to_json()
    with pytest.raises(ValueError, match="no facet_labels"):
        head_map(facets, title="t", facet_labels=["a", "b"])
    with pytest.raises(ValueError, match="b"):
        head_map({"a": facets["a"], "b": torch.ones(3)}, title="t")


@pytest.mark.parametrize(("count", "titled"), [(1, [1]), (2, [1, 2]), (3, [2]), (4, [2, 3]), (5, [3])])
def test_facets_share_the_title_of_their_axis(count, titled):
    fig = image(values=torch.ones(count, 2, 2))
    axes = {n: fig.layout["xaxis" + str(n if n > 1 else "")] for n in range(1, count + 1)}
    assert [n for n, axis in axes.items() if axis.title.text] == titled
