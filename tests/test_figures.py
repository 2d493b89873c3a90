"""Figures, pictures and attention views: what is drawn is compared, how it is stored is not."""

from __future__ import annotations

import base64
import copy
import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import circuitsvis as cv
import numpy as np
import pytest
from nbformat.v4 import new_output
from PIL import Image

from helpers.figure_json import PLOTLY, Json, decode, figure_sha256
from helpers.notebooks.compare import Difference, Tolerance
from helpers.notebooks.figures import (
    circuitsvis_views,
    figure_differences,
    figure_is_blank,
    view_differences,
)
from helpers.notebooks.hygiene import read_notebook
from helpers.notebooks.outputs import compare_outputs
from helpers.notebooks.pictures import PNG, foreign_picture_fault, picture_fault
from tests.pictures import blank, encoded, png, striped, with_comment
from tests.synthetic import heatmap

VALUES = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
Figure = dict[str, Any]


@pytest.fixture
def figure() -> Figure:
    return heatmap(VALUES)[PLOTLY]


def differences(reference: Figure, fresh: Figure) -> list[Difference]:
    return list(figure_differences(reference, fresh, Tolerance()))


def changed_z(figure: Figure, change: Callable[[np.ndarray], np.ndarray]) -> Figure:
    changed = decode(figure)
    changed["data"][0]["z"] = change(np.array(changed["data"][0]["z"])).tolist()
    return changed


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "u2"])
def test_decodes_typed_arrays(dtype: str) -> None:
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    stored = {"dtype": dtype, "bdata": base64.b64encode(array.tobytes()).decode(), "shape": "2, 3"}
    assert decode({"data": [{"z": stored}]}) == {"data": [{"z": array.tolist()}]}
    del stored["shape"]
    assert decode(stored) == array.ravel().tolist()


@pytest.mark.parametrize(
    "change",
    [
        lambda z: z,
        lambda z: z * (1 + 1e-5),
        lambda z: z + 1e-6,
        lambda z: z.astype("f4").astype("f8"),
    ],
)
def test_noise_and_storage_do_not_count(
    figure: Figure, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    assert differences(figure, changed_z(figure, change)) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda z: -z, "z[0][0]"),
        (lambda z: z.T, "z[0][1]"),
        (lambda z: z[:2], "z"),
        (lambda z: z * 0, "z[0][0]"),
        (lambda z: z * np.where(np.arange(4) == 2, 1.02, 1), "z[0][2]"),
    ],
)
def test_data_count(figure: Figure, change: Callable[[np.ndarray], np.ndarray], where: str) -> None:
    found = differences(figure, changed_z(figure, change))
    assert [difference.where for difference in found] == [f"trace 0 (heatmap), {where}"]


def with_settings(figure: Figure) -> None:
    """More of what a figure may set, each with a number."""
    colours = [[0.0, "#000000"], [0.4567, "#888888"], [1.0, "#ffffff"]]
    figure["data"][0].update(zmin=-2.5, zmax=2.5, xgap=0.5, colorscale=colours)
    figure["layout"]["title"]["x"] = 0.05
    figure["layout"]["xaxis"]["domain"] = [0.0, 0.5151]
    figure["layout"]["xaxis"]["range"] = [-1.5, 3.5]
    figure["layout"]["annotations"][0]["x"] = 1.2345
    figure["layout"]["annotations"][0]["arrowwidth"] = 2.345


def edit_title(figure: Figure) -> None:
    figure["layout"]["title"]["text"] = "Other"


def edit_axis_title(figure: Figure) -> None:
    figure["layout"]["xaxis"]["title"]["text"] = "layer"


def swap_tick_labels(figure: Figure) -> None:
    figure["layout"]["xaxis"]["ticktext"].reverse()


def edit_hover(figure: Figure) -> None:
    figure["data"][0]["hovertemplate"] = "%{z}"


def edit_hover_names(figure: Figure) -> None:
    figure["data"][0]["customdata"][0][0] = "L1H1"


def edit_annotation_name(figure: Figure) -> None:
    text = figure["layout"]["annotations"][0]["text"]
    figure["layout"]["annotations"][0]["text"] = text.replace("L0H0", "L1H0")


def edit_annotation_number(figure: Figure) -> None:
    figure["layout"]["annotations"][0]["text"] = "L0H0 +9.99"


def reverse_colours(figure: Figure) -> None:
    scale = figure["layout"]["coloraxis"]["colorscale"]
    figure["layout"]["coloraxis"]["colorscale"] = [
        [at, colour] for (at, _), (_, colour) in zip(scale, reversed(scale), strict=True)
    ]


def widen_range(figure: Figure) -> None:
    figure["layout"]["coloraxis"]["cmax"] *= 1.0001


def widen_range_of_trace(figure: Figure) -> None:
    figure["data"][0]["zmax"] *= 1.0001


def edit_colours_of_trace(figure: Figure) -> None:
    figure["data"][0]["colorscale"][1][0] += 1e-4


def edit_gap(figure: Figure) -> None:
    figure["data"][0]["xgap"] += 1e-4


def move_title(figure: Figure) -> None:
    figure["layout"]["title"]["x"] += 1e-4


def narrow_facet(figure: Figure) -> None:
    figure["layout"]["xaxis"]["domain"][1] += 1e-4


def move_annotation(figure: Figure) -> None:
    figure["layout"]["annotations"][0]["x"] += 0.01


def drop_range(figure: Figure) -> None:
    del figure["layout"]["coloraxis"]["cmin"]


def drop_trace(figure: Figure) -> None:
    figure["data"].clear()


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (edit_title, "layout, title.text"),
        (edit_axis_title, "layout, xaxis.title.text"),
        (swap_tick_labels, "layout, xaxis.ticktext[0]"),
        (edit_hover, "trace 0 (heatmap), hovertemplate"),
        (edit_hover_names, "trace 0 (heatmap), customdata[0][0]"),
        (edit_annotation_name, "layout, annotations[0].text"),
        (edit_annotation_number, "layout, annotations[0].text"),
        (reverse_colours, "layout, coloraxis.colorscale[0][1]"),
        (widen_range, "layout, coloraxis.cmax"),
        (drop_range, "layout, coloraxis.cmin"),
        (widen_range_of_trace, "trace 0 (heatmap), zmax"),
        (edit_colours_of_trace, "trace 0 (heatmap), colorscale[1][0]"),
        (edit_gap, "trace 0 (heatmap), xgap"),
        (move_title, "layout, title.x"),
        (narrow_facet, "layout, xaxis.domain[1]"),
        (move_annotation, "layout, annotations[0].x"),
        (drop_trace, "figure"),
    ],
)
def test_labels_and_layout_count(figure: Figure, edit: Callable[[Figure], None], where: str) -> None:
    with_settings(figure)
    edited = copy.deepcopy(figure)
    edit(edited)
    assert [difference.where for difference in differences(figure, edited)] == [where]


def test_what_is_computed_from_data_carries_their_noise(figure: Figure) -> None:
    with_settings(figure)
    fresh = changed_z(figure, lambda z: z * (1 + 1e-5))
    fresh["data"][0]["zmax"] *= 1 + 1e-5
    for key in ("cmin", "cmax"):
        fresh["layout"]["coloraxis"][key] *= 1 + 1e-5
    for key in ("x", "arrowwidth"):
        fresh["layout"]["annotations"][0][key] *= 1 + 1e-5
    fresh["layout"]["xaxis"]["range"][0] *= 1 + 1e-5
    assert differences(figure, fresh) == []


@pytest.mark.parametrize(("moved", "found"), [(1e-5, 0), (1e-3, 2)])
def test_a_label_moves_with_its_point(moved: float, found: int) -> None:
    """The point is near zero and of a curve that reaches 4: its noise is that of the 4."""
    curves = [
        {
            "data": [{"y": [4.0, y, -1.25]}],
            "layout": {"annotations": [{"x": 1, "y": y}]},
        }
        for y in (2e-4, 2e-4 + moved)
    ]
    assert len(differences(*curves)) == found


def test_the_template_does_not_count(figure: Figure) -> None:
    other = copy.deepcopy(figure)
    other["layout"]["template"] = {"layout": {"font": {"size": 40}}}
    assert differences(figure, other) == []


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"type": "heatmap", "z": []}],
        [{"y": [None, None]}],
        [{"type": "waterfall", "x": ["before", "after"], "y": [None, None]}],
    ],
)
def test_a_figure_without_values_is_blank(data: list[Figure]) -> None:
    assert figure_is_blank({"data": data})


def test_a_figure_with_values_is_not_blank(figure: Figure) -> None:
    assert not figure_is_blank(figure)


@pytest.fixture
def bars() -> Figure:
    steps = {"x": [0, 1, 2], "y": [4.0, -1.0, 3.0], "measure": ["absolute", "relative", "total"]}
    return {"data": [{"type": "waterfall", **steps, "text": ["4.00", "-1.00", "3.00"]}]}


@pytest.mark.parametrize(
    ("key", "index", "value"),
    [("y", 1, 1.0), ("y", 1, -1.02), ("measure", 1, "absolute"), ("text", 1, "-1.30")],
)
def test_the_bars_of_a_waterfall_count(bars: Figure, key: str, index: int, value: object) -> None:
    edited = copy.deepcopy(bars)
    edited["data"][0][key][index] = value
    where = f"trace 0 (waterfall), {key}[{index}]"
    assert [difference.where for difference in differences(bars, edited)] == [where]
    assert not figure_is_blank(bars)


# --- circuitsvis ----------------------------------------------------------------------------------

TOKENS = ["<|endoftext|>", ' "John"', " </script>"]
WEIGHTS = np.tril(np.full((1, 3, 3), 0.25)) + np.eye(3) / 4


def views(tokens: list[str] = TOKENS, weights: np.ndarray = WEIGHTS) -> list[dict[str, Any]]:
    return circuitsvis_views(cv.attention.attention_heads(weights, tokens).show_code())


def test_reads_what_a_view_was_given() -> None:
    (view,) = views()
    assert view["component"] == "AttentionHeads"
    assert view["props"] == {"attention": WEIGHTS.tolist(), "tokens": TOKENS}


def test_a_view_with_the_library_in_it_is_the_same_view() -> None:
    shown = cv.attention.attention_heads(WEIGHTS, TOKENS)
    assert circuitsvis_views(shown.local_src) == circuitsvis_views(shown.cdn_src)


def test_other_html_is_no_view() -> None:
    assert circuitsvis_views("<table><tr><td>1</td></tr></table>") == []


def test_noise_in_a_view_does_not_count() -> None:
    assert list(view_differences(views(), views(weights=WEIGHTS + 1e-6), Tolerance())) == []


@pytest.mark.parametrize(
    ("other", "where"),
    [
        (views(tokens=[*TOKENS[:2], "x"]), "circuitsvis AttentionHeads, tokens[2]"),
        (views(weights=WEIGHTS * 1.02), "circuitsvis AttentionHeads, attention[0][0][0]"),
        ([], "circuitsvis"),
    ],
)
def test_tokens_and_weights_of_a_view_count(other: list[dict[str, Any]], where: str) -> None:
    found = list(view_differences(views(), other, Tolerance()))
    assert [difference.where for difference in found] == [where]


# --- PNG ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1"])
def test_one_pixel_makes_a_picture(mode: str) -> None:
    image = Image.new("RGB", (300, 20), "white")
    assert picture_fault(png(image.convert(mode))) == "the picture is blank: a single colour"
    image.putpixel((299, 19), (0, 0, 0))
    assert picture_fault(png(image.convert(mode))) is None
    assert picture_fault(with_comment(png(image.convert(mode)))) is None


def jpeg() -> str:
    file = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(striped()))).save(file, format="JPEG")
    return encoded(file.getvalue())


@pytest.mark.parametrize(
    "picture",
    [
        "",
        "not base64!",
        encoded(b"GIF89a"),
        jpeg(),
        striped()[:40],
        striped()[:-16],  # all pixels, but not the end
        encoded(base64.b64decode(striped()).replace(b"IDAT", b"IDAT\0")),
        encoded(base64.b64decode(striped())[:-20] + b"\0" * 8 + base64.b64decode(striped())[-12:]),
    ],
)
def test_refuses_what_is_no_picture(picture: str) -> None:
    assert (picture_fault(picture) or "").startswith("the picture cannot be read")


# --- whose picture it is --------------------------------------------------------------------------


def test_a_picture_is_known_by_the_figure_it_was_drawn_from(figure: Figure) -> None:
    assert foreign_picture_fault(figure, striped(figure)) is None
    assert foreign_picture_fault(figure, with_comment(striped(figure))) is None
    other = changed_z(figure, lambda z: -z)
    assert foreign_picture_fault(other, striped(figure)) == "the picture was drawn from another figure"
    assert "does not name" in (foreign_picture_fault(figure, striped()) or "")


def test_a_figures_hash_is_of_what_it_shows() -> None:
    figure = {"data": [{"y": [1.5, None]}], "layout": {"title": {"text": "t"}}}
    expected = "5682d7bc"  # sha256sum of the canonical JSON, made by hand
    assert figure_sha256(figure).startswith(expected)
    same = {"layout": {"template": {"a": 1}, **figure["layout"]}, "data": [{"y": [1.5, math.nan]}]}
    typed = base64.b64encode(np.array([1.5, math.nan], dtype="f4").tobytes()).decode()
    assert figure_sha256({**same, "config": {"a": 1}}) == figure_sha256(figure)
    assert figure_sha256({**figure, "data": [{"y": {"dtype": "f4", "bdata": typed}}]}).startswith(
        expected
    )


@pytest.mark.parametrize(
    "other",
    [
        {"data": [{"y": [1.5, 2.0000001]}]},
        {"data": [{"y": [2.0, 1.5]}]},
        {"data": [{"y": [1.5, 2.0]}], "layout": {"title": {"text": "t"}}},
        {"data": [{"y": [1.5, 2.0]}], "frames": [{"name": "a"}]},
        {"data": [{"x": [1.5, 2.0]}]},
    ],
)
def test_whatever_it_shows_changes_a_figures_hash(other: Figure) -> None:
    assert figure_sha256(other) != figure_sha256({"data": [{"y": [1.5, 2.0]}]})


# --- outputs of a cell ----------------------------------------------------------------------------


def compared(reference: dict[str, Any], fresh: dict[str, Any]) -> list[str]:
    old, new = ([new_output("display_data", data=data)] for data in (reference, fresh))
    return [difference.where for difference in compare_outputs(old, new, Tolerance())]


def test_a_committed_figure_needs_its_picture_and_a_new_one_does_not(figure: Figure) -> None:
    assert compared({PLOTLY: figure, PNG: striped()}, {PLOTLY: figure}) == []
    assert compared({PLOTLY: figure}, {PLOTLY: figure}) == ["output 1, image/png"]
    assert compared({PLOTLY: figure}, {PLOTLY: figure, PNG: striped()}) == ["output 1, image/png"]
    assert compared({PLOTLY: figure, PNG: blank()}, {PLOTLY: figure}) == [
        "output 1, image/png, committed picture"
    ]


def test_a_picture_of_its_own_must_be_drawn_again() -> None:
    both = {"text/plain": "a picture", PNG: striped()}
    assert compared(both, both) == []
    assert compared(both, {"text/plain": "a picture"}) == ["output 1, image/png"]


@pytest.mark.parametrize(
    ("kind", "reference", "fresh"),
    [
        ("text/plain", "4.72", "4.81"),
        ("text/html", "<td>4.72</td>", "<td>4.81</td>"),
        ("text/markdown", "| L9H9 | 4.72 |", "| L9H8 | 4.72 |"),
        ("text/latex", "$4.72$", "$4.81$"),
        ("application/json", {"a": [1.5]}, {"a": [1.6]}),
        ("image/svg+xml", "<svg/>", "<svg><path/></svg>"),
    ],
)
def test_every_kind_of_output_counts(kind: str, reference: Any, fresh: Any) -> None:
    assert compared({kind: reference}, {kind: reference}) == []
    assert compared({kind: reference}, {kind: fresh})[0].startswith(f"output 1, {kind}")


def test_a_result_and_a_display_show_the_same() -> None:
    display = new_output("display_data", data={"text/plain": "1"})
    result = new_output("execute_result", data={"text/plain": "1"}, execution_count=1)
    assert compare_outputs([display], [result], Tolerance()) == []


def test_differences_of_a_cell_are_all_listed() -> None:
    reference = [new_output("stream", name="stdout", text="1.5 2.5\n")]
    fresh = [
        new_output("stream", name="stderr", text="UserWarning\n"),
        new_output("stream", name="stdout", text="1.7 2.7\n"),
    ]
    first, second = compare_outputs(reference, fresh, Tolerance())
    assert first.where == "output 1, stdout, line 1"
    assert first.note.endswith("(and 1 more here)")
    assert (second.where, second.note) == ("output 2", "a new output")


def test_comparing_changes_neither_side() -> None:
    outputs = [new_output("stream", name="stdout", text=text) for text in ("a", "b")]
    before = json.dumps(outputs)
    compare_outputs(outputs, outputs, Tolerance())
    assert json.dumps(outputs) == before


# --- the committed figures ------------------------------------------------------------------------

NOTEBOOKS = sorted((Path(__file__).parents[1] / "demos").glob("*.ipynb"))


def magnitudes(trace: Json) -> Iterator[float]:
    """Of the numbers that a trace draws."""
    for key in ("x", "y", "z"):
        values = np.array(trace.get(key, []))
        if values.dtype.kind == "f" and np.isfinite(values).any():
            yield float(np.nanmax(np.abs(values)))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_the_absolute_tolerance_hides_cannot_be_seen(notebook: Path) -> None:
    """It is less than one of the 256 steps of a colour scale that spans the figure's data."""
    cells = read_notebook(notebook).cells
    figures = [
        o.data[PLOTLY] for c in cells for o in c.get("outputs", []) if PLOTLY in o.get("data", {})
    ]
    largest = [
        max((size for trace in decode(figure)["data"] for size in magnitudes(trace)), default=None)
        for figure in figures
    ]
    assert figures
    assert min(size for size in largest if size is not None) / 256 > Tolerance().data_atol
