"""Comparison of what a notebook draws: Plotly figures and circuitsvis views."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from helpers.figure_json import Json, decode, own_layout
from helpers.notebooks.compare import (
    ByPlace,
    Difference,
    Tolerance,
    first_and_count,
    tree_differences,
)
from helpers.notebooks.figure_places import in_layout, in_trace, reach
from helpers.notebooks.pictures import PICTURES, pixels

# --- Plotly ---------------------------------------------------------------------------------------


def _trace_name(index: int, trace: Json) -> str:
    name = f" {trace['name']!r}" if trace.get("name") else ""
    return f"trace {index}{name} ({trace.get('type', 'scatter')})"


def _by_attribute(old: Json, new: Json, tolerance: Tolerance | ByPlace) -> Iterator[Difference]:
    """The first difference in each attribute, so that a changed heatmap is one line, not 270."""
    for key in old | new:
        one, other = ({key: side[key]} if key in side else {} for side in (old, new))
        yield from first_and_count(tree_differences(one, other, tolerance))


# "M 0.5,1.5 L 2,3" of a shape: commands and numbers.
_PATH_STEP = re.compile(r"[a-zA-Z]|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_DATA_URI = re.compile(r"data:(image/\w+);base64,(.*)", re.DOTALL)


def _steps(path: str) -> list[str | float]:
    return [step if step.isalpha() else float(step) for step in _PATH_STEP.findall(path)]


def _with_pixels(holder: Json) -> Json:
    """A picture's source as its pixels: the same ones may be written in other bytes."""
    source = holder.get("source")
    match = _DATA_URI.match(source) if isinstance(source, str) else None
    if not match or match[1] not in PICTURES:
        return holder
    shown = pixels(match[2], match[1]).astype(float).tolist()
    return {key: value for key, value in holder.items() if key != "source"} | {"pixels": shown}


def _as_floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_floats(entry) for entry in value]
    return float(value) if isinstance(value, int) else value


def _comparable_trace(trace: Json) -> Json:
    if trace.get("type") != "image":
        return trace
    if "z" in trace:
        colours = _as_floats(trace["z"])  # whole levels, and yet rounded
        trace = {key: value for key, value in trace.items() if key != "z"} | {"pixels": colours}
    return _with_pixels(trace)


def _comparable_layout(layout: Json) -> Json:
    changed = dict(layout)
    if "images" in layout:
        changed["images"] = [_with_pixels(image) for image in layout["images"]]
    if "shapes" in layout:
        changed["shapes"] = [
            {**shape, "path": _steps(shape["path"])} if isinstance(shape.get("path"), str) else shape
            for shape in layout["shapes"]
        ]
    return changed


def figure_differences(reference: Json, fresh: Json, tolerance: Tolerance) -> Iterator[Difference]:
    """What differs between two figures, trace by trace, then in the layout.

    Data compare within the tolerance, whatever the type of trace. Labels, hover text, titles, colour
    scales, ranges and all other settings compare exactly, but for the noise of what was computed. The
    template is left out: it is the style sheet of the installed plotly; what a figure sets itself
    stands beside it. So are the frames of an animation, which compare as the figure does.
    """
    old, new = decode(reference), decode(fresh)
    yield from _drawing_differences(old, new, tolerance)
    frames, new_frames = old.get("frames") or [], new.get("frames") or []
    if len(frames) != len(new_frames):
        yield Difference("figure", f"{len(frames)} frames", f"{len(new_frames)} frames")
        return
    for index, (frame, new_frame) in enumerate(zip(frames, new_frames, strict=True)):
        for difference in _drawing_differences(frame, new_frame, tolerance):
            yield difference.within(f"frame {index}")
        for difference in tree_differences(_rest(frame), _rest(new_frame), tolerance.exact):
            yield difference.within(f"frame {index}")


def _rest(frame: Json) -> Json:
    return {key: value for key, value in frame.items() if key not in ("data", "layout")}


def _drawing_differences(old: Json, new: Json, tolerance: Tolerance) -> Iterator[Difference]:
    """Of a decoded figure, or one frame of it: its traces and its layout."""
    traces, new_traces = old.get("data") or [], new.get("data") or []
    if len(traces) != len(new_traces):
        yield Difference("figure", f"{len(traces)} traces", f"{len(new_traces)} traces")
        return
    largest = reach(traces)
    of_trace, of_layout = in_trace(tolerance, largest), in_layout(tolerance, largest)
    for index, (trace, new_trace) in enumerate(zip(traces, new_traces, strict=True)):
        sides = _comparable_trace(trace), _comparable_trace(new_trace)
        for difference in _by_attribute(*sides, of_trace):
            yield difference.within(_trace_name(index, trace))
    layouts = _comparable_layout(own_layout(old)), _comparable_layout(own_layout(new))
    for difference in _by_attribute(*layouts, of_layout):
        yield difference.within("layout")


# What carries the values of each type of trace: groups of attributes. It draws something if, in one
# group, all attributes that are there have a value; `x` may be the names of bars that have no length.
_POINTS = (("x", "y"),)
_PARTS = (("values",), ("labels",), ("ids",))
_CARRIERS: dict[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(("bar", "funnel", "histogram", "scatter", "scattergl", "violin"), _POINTS),
    "waterfall": _POINTS,
    "box": (("x", "y"), ("q1", "median", "q3"), ("median",)),
    **dict.fromkeys(("candlestick", "ohlc"), (("open", "high", "low", "close"),)),
    **dict.fromkeys(("heatmap", "contour", "contourcarpet", "surface"), (("z",),)),
    **dict.fromkeys(("histogram2d", "histogram2dcontour"), _POINTS),
    "image": (("z",), ("source",)),
    **dict.fromkeys(("scatter3d", "mesh3d"), (("x", "y", "z"),)),
    **dict.fromkeys(("cone", "streamtube"), (("u", "v", "w"),)),
    "quiver": (("u", "v"),),
    **dict.fromkeys(("isosurface", "volume"), (("value",),)),
    **dict.fromkeys(("barpolar", "scatterpolar", "scatterpolargl"), (("r", "theta"),)),
    "scattersmith": (("real", "imag"),),
    "scatterternary": (("a", "b", "c"),),
    **dict.fromkeys(("carpet", "scattercarpet"), (("a", "b", "x", "y"),)),
    **dict.fromkeys(("choropleth", "choroplethmap", "choroplethmapbox"), (("z", "locations"),)),
    "scattergeo": (("lat", "lon"), ("locations",)),
    **dict.fromkeys(("scattermap", "scattermapbox"), (("lat", "lon"),)),
    **dict.fromkeys(("densitymap", "densitymapbox"), (("lat", "lon", "z"),)),
    **dict.fromkeys(("pie", "funnelarea"), _PARTS),
    **dict.fromkeys(("treemap", "sunburst", "icicle"), _PARTS),
    **dict.fromkeys(("parcoords", "parcats", "splom"), (("dimensions.values",),)),
    "sankey": (("link.value",),),
    "table": (("cells.values",),),
    "indicator": (("value",),),
}


def _has_value(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_value, value.values() if isinstance(value, dict) else value))
    return value not in (None, "") and value == value


def _attribute(holder: Any, name: str) -> Any:
    """`dimensions.values` as the list of each dimension's values; None if there is none."""
    if isinstance(holder, list):
        return [_attribute(entry, name) for entry in holder]
    first, _, rest = name.partition(".")
    found = holder.get(first) if isinstance(holder, dict) else None
    return _attribute(found, rest) if rest and found is not None else found


def _draws(trace: Json) -> bool:
    """Whether a trace has anything to draw. One of a type that is not known has, if it has any array."""
    groups = _CARRIERS.get(trace.get("type", "scatter"))
    if groups is None:
        return any(_has_value(value) for value in trace.values() if isinstance(value, list))
    found = [[_attribute(trace, name) for name in group] for group in groups]
    present = [[value for value in group if value is not None] for group in found]
    return any(group and all(map(_has_value, group)) for group in present)


def _is_guide(shape: Json) -> bool:
    """Whether a shape spans the plot, as add_hline's: a guide for data, no drawing of its own."""
    references = [str(shape.get(f"{axis}ref", "")) for axis in "xy"]
    return any(reference == "paper" or reference.endswith("domain") for reference in references)


def figure_is_blank(figure: Json) -> bool:
    """Whether nothing is drawn: no trace with a value, in no frame, and no shape or picture in place.

    The words of annotations are a drawing where there is no trace; elsewhere they may be titles.
    """
    content = decode(figure)
    drawings = [content, *(content.get("frames") or [])]
    traces = [trace for drawing in drawings for trace in drawing.get("data") or []]
    layout = own_layout(content)
    shapes = [shape for shape in layout.get("shapes") or [] if traces == [] or not _is_guide(shape)]
    words = layout.get("annotations") if not traces else None
    return not (any(map(_draws, traces)) or shapes or layout.get("images") or words)


# --- circuitsvis ----------------------------------------------------------------------------------

# In `render("circuits-vis-1a2b…", AttentionPatterns, {props})` the id is new at each run, and the
# script around it is the library itself or an address, depending on whether there was a network.
_VIEW = re.compile(r'render\(\s*"circuits-vis-[\w-]+",\s*(?:CircuitsVis\.)?(\w+),\s*(?=\{)')


def circuitsvis_views(html: str) -> list[Json]:
    """What each circuitsvis view in the HTML shows: its component and the props given to it.

    Raises json.JSONDecodeError if the props are not JSON.
    """
    decoder = json.JSONDecoder()
    return [
        {"component": view[1], "props": decoder.raw_decode(html, view.end())[0]}
        for view in _VIEW.finditer(html)
    ]


def view_differences(
    reference: list[Json], fresh: list[Json], tolerance: Tolerance
) -> Iterator[Difference]:
    """What differs between circuitsvis views: tokens exactly, attention within the tolerance."""
    if len(reference) != len(fresh):
        yield Difference("circuitsvis", f"{len(reference)} views", f"{len(fresh)} views")
        return
    for old, new in zip(reference, fresh, strict=True):
        if old["component"] != new["component"]:
            yield Difference("circuitsvis component", old["component"], new["component"])
            continue
        for difference in _by_attribute(old["props"], new["props"], tolerance):
            yield difference.within(f"circuitsvis {old['component']}")
