"""Every type of trace that Plotly has: accepted, equal to itself, and different when its data are."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import plotly.express as px
import plotly.graph_objects as go
import pytest
from plotly.basedatatypes import BaseTraceType

from helpers.figure_json import Json, decode
from helpers.notebooks.compare import Tolerance
from helpers.notebooks.figures import figure_differences, figure_is_blank

TRACES = {name: getattr(go, name) for name in dir(go)}
TYPES = sorted(
    name for name, kind in TRACES.items() if isinstance(kind, type) and issubclass(kind, BaseTraceType)
)
XY = {"x": [1.5, 2.5, 3.25], "y": [0.5, -1.25, 4.75]}
XYZ = {**XY, "z": [2.25, 1.75, -3.5]}
GRID = {"z": [[1.5, -2.25, 0.75], [0.25, 3.5, 1.25]], "x": [0.5, 1.5, 2.5], "y": [0.5, 1.5]}
VECTORS = {**XYZ, "u": [1.5, 0.5, 0.25], "v": [0.75, 1.25, 0.5], "w": [0.5, 0.25, 1.75]}
CUBE = {axis: [float(i >> bit & 1) + 0.25 for i in range(8)] for bit, axis in enumerate("xyz")}
PRICES = {"open": [1.5, 2.5], "high": [3.5, 4.5], "low": [0.5, 1.25], "close": [2.25, 3.25]}
TREE = {"labels": ["model", "L0", "L1"], "parents": ["", "model", "model"], "values": [3.5, 1.25, 2.25]}
POLAR = {"r": [1.5, 2.5], "theta": [30.5, 120.25]}
PLACES = {"lat": [51.5, 48.75], "lon": [-0.25, 2.25]}
COUNTRIES = {"locations": ["FRA", "GBR"], "z": [1.5, 2.25]}
DIMENSIONS = {"dimensions": [{"label": name, "values": [0.25, 0.75, 0.5]} for name in ("kind", "score")]}
MESH = {**XYZ, "i": [0], "j": [1], "k": [2]}
CARPET = {"a": [1.5, 1.5, 2.5], "b": [0.5, 1.5, 0.5], "x": [1.25, 2.25, 3.5], "y": [0.75, 1.25, 2.5]}
# Made by hand: what each type draws, by the documentation of Plotly.
DATA: dict[str, Json] = {
    "Bar": {"x": ["L0", "L1"], "y": [1.5, -2.25], "base": 0.25},
    "Barpolar": POLAR,
    "Box": {"q1": [1.5], "median": [2.25], "q3": [3.5], "mean": [2.75]},
    "Candlestick": PRICES,
    "Carpet": CARPET,
    "Choropleth": COUNTRIES,
    "Choroplethmap": COUNTRIES,
    "Cone": VECTORS,
    "Contour": {**GRID, "contours": {"start": -2.25, "end": 3.5, "size": 0.25}},
    "Contourcarpet": {"a": [0.5, 1.5], "b": [0.5, 1.5], "z": [1.5, 2.25]},
    "Densitymap": {**PLACES, "z": [1.5, 2.25]},
    "Funnel": {"x": [4.5, 2.25], "y": ["all", "some"]},
    "Funnelarea": {"labels": ["all", "some"], "values": [4.5, 2.25]},
    "Heatmap": GRID,
    "Histogram": {"x": [1.5, 2.25, 2.5], "xbins": {"start": 1.25, "end": 3.25, "size": 0.25}},
    "Histogram2d": XY,
    "Histogram2dContour": XY,
    "Icicle": TREE,
    "Image": {"z": [[[250, 10, 20], [30, 40, 50]]]},
    "Indicator": {
        "value": 0.975,
        "delta": {"reference": 0.25},
        "gauge": {"axis": {"range": [0.5, 1.5]}, "threshold": {"value": 0.75}},
    },
    "Isosurface": {**CUBE, "value": [0.5 + i for i in range(8)], "isomin": 2.25, "isomax": 5.25},
    "Mesh3d": MESH,
    "Ohlc": PRICES,
    "Parcats": {"dimensions": [{"label": "kind", "values": ["a", "b"]}]},
    "Parcoords": DIMENSIONS,
    "Pie": {"labels": ["a", "b"], "values": [1.5, 2.25]},
    "Quiver": {**XY, "u": [1.5, 0.5, 0.25], "v": [0.75, 1.25, 0.5]},
    "Sankey": {
        "node": {"label": ["L9H9", "out"]},
        "link": {"source": [0], "target": [1], "value": [2.25]},
    },
    "Scatter": {**XY, "marker": {"size": 7.5}, "error_y": {"array": [0.25, 0.5, 0.75]}},
    "Scatter3d": XYZ,
    "Scattercarpet": {"a": [0.5, 1.5], "b": [0.75, 1.25]},
    "Scattergeo": PLACES,
    "Scattergl": {**XY, "marker": {"size": [7.5, 8.5, 9.25], "sizeref": 0.25}},
    "Scattermap": PLACES,
    "Scatterpolar": POLAR,
    "Scatterpolargl": POLAR,
    "Scattersmith": {"real": [0.5, 1.5], "imag": [-0.25, 0.75]},
    "Scatterternary": {"a": [0.5], "b": [0.25], "c": [0.125]},
    "Splom": DIMENSIONS,
    "Streamtube": VECTORS,
    "Sunburst": TREE,
    "Surface": {**GRID, "contours": {"z": {"show": True, "start": 0.25, "end": 3.25, "size": 0.5}}},
    "Table": {
        "header": {"values": ["head", "effect"]},
        "cells": {"values": [["9.9", "L9H6"], [2.25, 1.5]]},
    },
    "Treemap": TREE,
    "Violin": {"y": [1.5, 2.25, 2.5], "x": ["a", "a", "b"]},
    "Volume": {**CUBE, "value": [0.5 + i for i in range(8)]},
    "Waterfall": {"x": ["before", "after"], "y": [4.5, -1.25], "measure": ["absolute", "relative"]},
}


def test_no_type_is_forgotten() -> None:
    assert {_today(kind) for kind in TYPES} <= set(DATA)
    assert len(TYPES) > 40


def _today(kind: str) -> str:
    """Plotly 6 also has the maps by their old names, such as Scattermapbox."""
    return kind.replace("mapbox", "map")


def figure(kind: str, typed: bool = True) -> Json:
    """As a notebook stores it: Plotly's own JSON, arrays in base64 where they are numbers."""
    data = {
        key: np.array(value)
        if typed and isinstance(value, list) and isinstance(value[0], float)
        else value
        for key, value in DATA[_today(kind)].items()
    }
    return json.loads(go.Figure(getattr(go, kind)(data)).to_json())


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a JSON value its numbers and texts stand."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in entries:
        if isinstance(entry, dict | list):
            yield from leaves(entry, (*path, key))
        elif not isinstance(entry, bool):
            yield *path, key


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def changed(whole: Json, path: tuple[Any, ...], new: Any) -> Json:
    other = copy.deepcopy(whole)
    at(other, path[:-1])[path[-1]] = new
    return other


def found(old: Json, new: Json) -> list[str]:
    return [str(difference) for difference in figure_differences(old, new, Tolerance())]


@pytest.mark.parametrize("kind", TYPES)
def test_a_full_trace_is_accepted_and_is_itself(kind: str) -> None:
    for typed in (True, False):
        whole = figure(kind, typed)
        assert not figure_is_blank(whole)
        assert found(whole, copy.deepcopy(whole)) == []
        assert found(whole, figure(kind, typed=False)) == []


@pytest.mark.parametrize("kind", TYPES)
def test_each_datum_counts(kind: str) -> None:
    """Every number 2 % away, every text another, every array a value short: each is noticed."""
    whole = decode(figure(kind, typed=False))
    tried = 0
    for path in leaves(whole["data"][0]):
        value = at(whole["data"][0], path)
        if path[-1] == "type":
            continue
        new = (
            value + "x"
            if isinstance(value, str)
            else value * 1.02 + (isinstance(value, int) or value == 0)
        )
        tried += 1
        assert found(whole, changed(whole, ("data", 0, *path), new)), (path, value, new)
        if isinstance(path[-1], int):
            array = at(whole["data"][0], path[:-1])
            assert found(whole, changed(whole, ("data", 0, *path[:-1]), array[:-1]))
    assert tried


@pytest.mark.parametrize("kind", TYPES)
def test_noise_of_one_in_a_million_passes_everywhere(kind: str) -> None:
    whole = decode(figure(kind, typed=False))
    fresh = copy.deepcopy(whole)
    for path in leaves(whole["data"][0]):
        value = at(whole["data"][0], path)
        if isinstance(value, float):
            at(fresh["data"][0], path[:-1])[path[-1]] = value * (1 + 1e-6)
    assert found(whole, fresh) == []
    assert kind in ("Image", "Parcats") or whole != fresh


@pytest.mark.parametrize("kind", TYPES)
def test_a_trace_that_lost_its_numbers_is_blank(kind: str) -> None:
    """Names alone draw nothing; of what is made of names (a tree, places), none are left."""
    whole = decode(figure(kind, typed=False))
    trace = whole["data"][0]
    named = {"Funnelarea", "Icicle", "Parcats", "Pie", "Sunburst", "Treemap", "Table"}
    for path in list(leaves(trace)):
        if path[-1] != "type" and (kind in named or not isinstance(at(trace, path), str)):
            at(trace, path[:-1])[path[-1]] = None
    assert figure_is_blank(whole)
    assert figure_is_blank({"data": [{"type": trace["type"]}]})


SETTINGS: dict[str, Json] = {
    "3-D axes": {
        "scene": {"xaxis": {"range": [-1.5, 2.5]}, "zaxis": {"tickvals": [0.25, 0.5], "dtick": 0.25}}
    },
    "camera": {
        "scene": {"camera": {"eye": {"x": 1.25, "y": 0.5, "z": 0.75}}, "aspectratio": {"x": 1.5}}
    },
    "ticks": {"xaxis": {"tickvals": [0.25, 1.75], "ticktext": ["a", "b"], "tick0": 0.5, "dtick": 0.25}},
    "polar": {"polar": {"radialaxis": {"range": [0.5, 2.5], "tickvals": [0.75]}}},
    "ternary": {"ternary": {"sum": 1.5, "aaxis": {"min": 0.25}}},
    "map": {"geo": {"center": {"lat": 51.5, "lon": -0.25}, "lonaxis": {"range": [-10.5, 20.25]}}},
    "colour axis": {
        "coloraxis": {"cmin": -1.5, "cmax": 1.5, "colorbar": {"tickvals": [0.5], "len": 0.75}}
    },
    "slider": {"xaxis": {"rangeslider": {"range": [0.5, 1.5]}}},
    "words": {"annotations": [{"x": 0.5, "y": 1.5, "text": "a", "xshift": 2.5, "font": {"size": 9.5}}]},
    "words in 3-D": {"scene": {"annotations": [{"x": 0.5, "y": 1.5, "z": 0.25, "text": "a"}]}},
    "shapes": {"shapes": [{"x0": 0.5, "x1": 1.5, "y0": 0.25, "y1": 0.75, "line": {"width": 1.5}}]},
    "a path": {"shapes": [{"type": "path", "path": "M0.5,1.5 L 2.5 3.25 Q1.5e1,-2.5 .5,.25 Z"}]},
    "a picture's place": {"images": [{"x": 0.5, "y": 0.25, "sizex": 1.5, "sizey": 0.75}]},
}


def scaled(value: Any, factor: float) -> Any:
    if isinstance(value, dict):
        return {key: scaled(entry, factor) for key, entry in value.items()}
    if isinstance(value, list):
        return [scaled(entry, factor) for entry in value]
    return value * factor if isinstance(value, float) else value


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_computed_in_a_layout_carries_noise_and_counts(name: str) -> None:
    layout = SETTINGS[name]
    whole = {"data": [{"y": [1.5, 2.5]}], "layout": layout}
    assert found(whole, {**whole, "layout": scaled(layout, 1 + 1e-6)}) == []
    for path in leaves(layout):
        value = at(layout, path)
        if isinstance(value, float):
            assert found(whole, changed(whole, ("layout", *path), value * 1.02 or 0.02)), path


def test_a_path_counts_point_by_point() -> None:
    old, noisy, moved, drawn = (
        {"layout": {"shapes": [{"path": path}]}}
        for path in (
            "M0.5,1.5L2.5,3.25",
            "M 0.5000001 1.5 L 2.5 3.2500001",
            "M0.5,1.5L2.55,3.25",
            "M0.5,1.5Q2.5,3.25",
        )
    )
    assert found(old, noisy) == []
    assert found(old, moved)
    assert found(old, drawn)


def test_a_setting_near_zero_carries_the_noise_of_its_data() -> None:
    data = [{"type": "contour", "z": [[4.5, -1.25]], "contours": {"start": 0.0, "size": 0.25}}]
    fresh = copy.deepcopy(data)
    fresh[0]["contours"]["start"] = 3e-6  # type: ignore[index]
    assert found({"data": data}, {"data": fresh}) == []
    fresh[0]["contours"]["start"] = 0.02  # type: ignore[index]
    assert found({"data": data}, {"data": fresh})


def test_the_frames_of_an_animation_count() -> None:
    old = {
        "data": [],
        "frames": [{"name": "a", "data": [{"y": [1.5]}], "layout": {"xaxis": {"dtick": 0.25}}}],
    }
    assert not figure_is_blank(old)
    assert found(old, scaled(old, 1 + 1e-6)) == []
    assert found(old, changed(old, ("frames", 0, "data", 0, "y", 0), 1.53))
    assert found(old, changed(old, ("frames", 0, "name"), "b"))
    assert found(old, changed(old, ("frames", 0, "layout", "xaxis", "dtick"), 0.255))
    assert found(old, {**old, "frames": []})


# --- what px and the layout draw ------------------------------------------------------------------


def picture(values: np.ndarray, **options: Any) -> Json:
    return json.loads(px.imshow(values, **options).to_json())


def test_the_pixels_of_a_picture_count_and_its_bytes_do_not() -> None:
    values = np.random.default_rng(0).integers(0, 250, (4, 5, 3), dtype=np.uint8)
    old = picture(values)
    assert "source" in old["data"][0]
    assert not figure_is_blank(old)
    assert found(old, picture(values, binary_compression_level=0)) == []
    other = values.copy()
    other[2, 3, 1] += 1  # rounded the other way
    assert found(old, picture(other)) == []
    other[2, 3, 1] += 4
    assert "pixels[2][3][1]" in found(old, picture(other))[0]
    assert found(old, picture(values[:3]))


@pytest.mark.parametrize(
    "layout",
    [
        {"shapes": [{"type": "rect", "x0": 0, "x1": 1, "y0": 0, "y1": 1}]},
        {"annotations": [{"text": "L9H9", "x": 0, "y": 0}]},
        {"images": [{"source": "data:image/png;base64,AAAA"}]},
    ],
)
def test_a_drawing_without_traces_is_not_blank(layout: Json) -> None:
    assert not figure_is_blank({"data": [], "layout": layout})
    assert figure_is_blank({"data": [], "layout": {"template": {"layout": layout}}})


def test_titles_and_guides_over_empty_data_do_not_make_a_figure() -> None:
    empty = px.scatter(x=[1.5, 2.5], y=[1.5, 2.5], facet_col=["a", "b"]).add_hline(0)
    for trace in empty.data:
        trace.y = [None]
    assert figure_is_blank(json.loads(empty.to_json()))


def test_bars_with_names_and_no_length_are_blank() -> None:
    assert figure_is_blank({"data": [{"type": "bar", "x": ["a", "b"], "y": [None, None]}]})
    assert not figure_is_blank({"data": [{"type": "histogram", "x": ["a", "b"]}]})


def test_a_type_that_is_not_known_is_not_refused() -> None:
    assert not figure_is_blank({"data": [{"type": "newest", "q": [1.5]}]})
    assert figure_is_blank({"data": [{"type": "newest", "q": [], "name": "a"}]})
