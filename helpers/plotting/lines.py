"""Values along an axis: lines, points, and values with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from helpers.display import ShownFigure
from helpers.plotting.heatmaps import head_names
from helpers.plotting.inputs import Values, as_array, as_labels, largest, thin
from helpers.plotting.labels import all_written, as_hover_name, as_written, whole_name
from helpers.plotting.look import SERIES_COLOURS, SERIES_DASHES, VEIL, ZERO_LINE, finish, tick_texts


def line(
    values: Values | dict[str, Values],
    *,
    title: str,
    x: str,
    y: str,
    x_labels: Sequence[str] | None = None,
    annotate: int = 0,
    annotate_by: Literal["change", "size"] = "change",
    height: int = 430,
) -> go.Figure:
    """One line, or several named ones, over labelled steps such as layers.

    Args:
        values: ``[step]``, or a dictionary from a series' name to its ``[step]``.
        title: of the figure.
        x, y: axis titles, with units.
        x_labels: what each step is; indices if not given.
        annotate: write label and value at this many steps of each series.
        annotate_by: those with the largest "change" before them, for a running total, or of largest
            "size", for separate contributions.
        height: in pixels.

    Raises:
        ValueError: for empty or NaN values, series of unequal length, labels that do not fit.

    Example:
        >>> lens = {"clean": [0.0, 1.0], "corrupted": [0.0, -1.0]}
        >>> fig = line(lens, title="Logit lens", x="layer", y="logits")
        >>> [series.name for series in fig.data]
        ['clean', 'corrupted']
    """
    named = values if isinstance(values, dict) else {"": values}
    series = {name: as_array(v, f"series {name!r}", dims=(1,)) for name, v in named.items()}
    if len({len(v) for v in series.values()}) != 1:
        lengths = {name: len(v) for name, v in series.items()}
        raise ValueError(f"Expected one or more series of equal length; got {lengths}.")
    labels = as_labels(x_labels, len(next(iter(series.values()))), "x_labels")
    written = all_written(labels)
    x, y = as_written(x), as_written(y)
    fig = ShownFigure()
    for index, (name, array) in enumerate(series.items()):
        colour = SERIES_COLOURS[index % len(SERIES_COLOURS)]
        fig.add_scatter(
            x=np.arange(len(array)),
            y=array,
            name=as_written(name),
            mode="lines+markers",
            line={
                "color": colour,
                "dash": SERIES_DASHES[index % len(SERIES_DASHES)],
            },
            customdata=written,
            hovertemplate=f"%{{customdata}}<br>{y}: %{{y:.4f}}<extra>{as_hover_name(name)}</extra>",
            **whole_name(name),
        )
        change = np.diff(array, prepend=array[:1])
        for step in largest(change if annotate_by == "change" else array, annotate):
            fig.add_annotation(
                x=step,
                y=array[step],
                text=f"{written[step]}: {array[step]:.2f}",
                # Away from the line, and not off the figure.
                ax=-45 if change[step] >= 0 or step > 0.9 * len(array) else 45,
                ay=-25 if change[step] >= 0 else 25,
                font={"color": colour},
                bgcolor=VEIL,
            )
    shown = thin(labels, 32)
    texts = list(shown.values())
    fig.update_xaxes(
        title_text=x,
        tickvals=list(shown),
        ticktext=all_written(texts),
        **tick_texts(texts),
    )
    fig.update_yaxes(title_text=y, **ZERO_LINE)
    fig.update_layout(showlegend=len(series) > 1)
    return finish(fig, title, height)


def scatter(
    x_values: Values,
    y_values: Values,
    *,
    names: Sequence[str] | None = None,
    title: str,
    x: str,
    y: str,
    annotate: int = 8,
    diagonal: bool = False,
    height: int = 560,
) -> go.Figure:
    """Points with names: hover shows each, and the ones farthest out carry theirs.

    Args:
        x_values, y_values: any shape, flattened in the same order as ``names``.
        names: one for each point; of ``[layer, head]`` values, the heads' own if not given.
        title: of the figure.
        x, y: axis titles, with units.
        annotate: how many of the points farthest from the origin are labelled.
        diagonal: draw the line y = x.
        height: in pixels.

    Raises:
        ValueError: for empty or NaN values, unequal numbers of x, y and names, or no names for points
            that are not heads.

    Example:
        >>> fig = scatter(torch.rand(2, 3), torch.rand(2, 3), title="Heads", x="attention", y="logits")
        >>> len(fig.data[0].x)
        6
    """
    if names is None:
        n_layers, n_heads = as_array(x_values, "x_values without names", dims=(2,)).shape
        names = [name for row in head_names(n_layers, n_heads) for name in row]
    xs = as_array(x_values, "x_values").ravel()
    ys = as_array(y_values, "y_values").ravel()
    if len(xs) != len(ys):
        raise ValueError(f"x_values and y_values must match; got {len(xs)} and {len(ys)} points.")
    names = as_labels(names, len(xs), "names")
    x, y = as_written(x), as_written(y)
    written = all_written(names)
    far = set(largest(np.hypot(xs, ys), annotate))
    fig = ShownFigure()
    if diagonal:
        ends = [min(xs.min(), ys.min()), max(xs.max(), ys.max())]
        fig.add_scatter(
            x=ends, y=ends, mode="lines", line={"color": "grey", "dash": "dot"}, hoverinfo="skip"
        )
    fig.add_scatter(
        x=xs,
        y=ys,
        mode="markers+text",
        text=[name if index in far else "" for index, name in enumerate(written)],
        textposition=_label_sides(xs, ys, far, written),
        customdata=written,
        hovertemplate=f"%{{customdata}}<br>{x}: %{{x:.4f}}<br>{y}: %{{y:.4f}}<extra></extra>",
        marker={"size": 8, "color": SERIES_COLOURS[0], "opacity": 0.7},
    )
    fig.update_xaxes(title_text=x, **ZERO_LINE)
    fig.update_yaxes(title_text=y, **ZERO_LINE)
    fig.update_layout(showlegend=False)
    return finish(fig, title, height)


def _label_sides(xs: np.ndarray, ys: np.ndarray, labelled: set[int], names: Sequence[str]) -> list[str]:
    """Above each point, but below where a labelled neighbour's name would be in the way.

    A long name beside an edge of the plot goes inwards.
    """
    sides = ["top center"] * len(xs)
    right, up = xs / (np.ptp(xs) or 1), ys / (np.ptp(ys) or 1)
    placed: list[int] = []
    for index in sorted(labelled, key=lambda index: (-ys[index], xs[index])):
        near = [
            other
            for other in placed
            if abs(right[index] - right[other]) < 0.08 and abs(up[index] - up[other]) < 0.06
        ]
        closest = min(near, key=lambda other: abs(right[index] - right[other]), default=None)
        if closest is not None and sides[closest] == "top center":
            sides[index] = "bottom center"
        placed.append(index)
    for index in (index for index in labelled if len(names[index]) > 9):
        if xs[index] > xs.max() - 0.15 * np.ptp(xs):
            sides[index] = sides[index].replace("center", "left")
        elif xs[index] < xs.min() + 0.15 * np.ptp(xs):
            sides[index] = sides[index].replace("center", "right")
    return sides


def intervals(
    series: Mapping[str, tuple[Values, Values, Values]],
    *,
    title: str,
    x: str,
    y: str,
    labels: Sequence[str],
    horizontal: bool = False,
    connect: bool = False,
    reference: float | None = None,
    height: int = 480,
) -> go.Figure:
    """Values with the intervals they lie in, for labelled things, in one or several series.

    Args:
        series: name to (value, low, high), each ``[thing]``.
        title: of the figure.
        x, y: axis titles, with units.
        labels: what the things are.
        horizontal: values along x, and the labels, which may then be long, from the top down along y.
        connect: join a series' points by a line, for things that have an order.
        reference: a value to draw a dotted line at, besides the one at zero.
        height: in pixels.

    Raises:
        ValueError: for no series, empty or NaN values, labels that do not fit.

    Example:
        >>> effect = ([0.5, 1.5], [0.25, 1.0], [0.75, 2.0])  # values, lower and upper ends
        >>> labels = ["L0H1", "L2H3"]
        >>> fig = intervals({"this run": effect}, title="Effect", x="head", y="logits", labels=labels)
        >>> fig.data[0].error_y.array
        array([0.25, 0.5 ], dtype=float32)
    """
    if not series:
        raise ValueError("series is empty: nothing to plot.")
    fig = ShownFigure()
    for index, (name, parts) in enumerate(series.items()):
        value, low, high = (as_array(part, f"series {name!r}", dims=(1,)) for part in parts)
        texts = all_written(as_labels(labels, len(value), "labels"))
        # Side by side, so that bars of several series do not hide each other.
        places = np.arange(len(value)) + 0.16 * (index - (len(series) - 1) / 2) * (not connect)
        error = {"type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low}
        at, along, bars = ("y", "x", "error_x") if horizontal else ("x", "y", "error_y")
        fig.add_scatter(
            **{at: places, along: value, bars: error},
            name=as_written(name),
            mode="lines+markers" if connect else "markers",
            marker={
                "size": 8,
                "color": SERIES_COLOURS[index % len(SERIES_COLOURS)],
                "symbol": ("circle", "square", "diamond", "x")[index % 4],
            },
            line={"dash": SERIES_DASHES[index % len(SERIES_DASHES)]},
            customdata=[[*row] for row in zip(texts, low.tolist(), high.tolist(), strict=True)],
            hovertemplate=f"%{{customdata[0]}}: %{{{along}:.3f}} "
            f"[%{{customdata[1]:.3f}}, %{{customdata[2]:.3f}}]<extra>{as_hover_name(name)}</extra>",
            **whole_name(name),
        )
    ticks = {"tickvals": list(range(len(texts))), "ticktext": texts, "zeroline": False}
    fig.update_xaxes(title_text=as_written(x), **(ZERO_LINE if horizontal else ticks))
    fig.update_yaxes(title_text=as_written(y), automargin=True, **(ticks if horizontal else ZERO_LINE))
    if horizontal:
        fig.update_yaxes(autorange="reversed")
    if reference is not None:
        draw = fig.add_vline if horizontal else fig.add_hline
        draw(reference, line={"color": "grey", "dash": "dot"})
    fig.update_layout(showlegend=len(series) > 1)
    return finish(fig, title, height)
