"""Bars: how one value becomes another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from helpers.display import ShownFigure
from helpers.plotting.inputs import as_array
from helpers.plotting.labels import all_written, as_written
from helpers.plotting.look import SERIES_COLOURS, ZERO_LINE, finish


def waterfall(
    parts: Mapping[str, float],
    *,
    start: tuple[str, float],
    end: str,
    title: str,
    y: str,
    height: int = 480,
) -> go.Figure:
    """How a value becomes another one, part by part: the last bar is the first plus all parts.

    Args:
        parts: what is added (or, if negative, taken away), by name, in the order drawn.
        start: name and value of the first bar.
        end: name of the last bar.
        title: of the figure.
        y: axis title, with unit.
        height: in pixels.

    Raises:
        ValueError: if there are no parts, two bars have one name, or a value is NaN.

    Example:
        >>> parts = {"later heads": 0.5, "MLPs": -0.25}
        >>> fig = waterfall(parts, start=("lost", -1.0), end="net", title="Ablation", y="logits")
        >>> float(fig.data[0].y[-1])  # the last bar: the first plus all parts
        -0.75
    """
    labels = [start[0], *parts, end]
    if len(set(labels)) != len(labels):
        raise ValueError(f"Every bar needs a name of its own; got {labels}.")
    if not parts:
        raise ValueError("parts is empty: nothing to plot.")
    steps = as_array([start[1], *parts.values()], "values", dims=(1,))
    total = float(steps.sum())
    written = all_written(labels)
    fig = ShownFigure(
        go.Waterfall(
            x=np.arange(len(labels)),
            y=np.append(steps, np.float32(total)),
            measure=["absolute", *["relative"] * len(parts), "total"],
            text=[f"{start[1]:.2f}", *(f"{value:+.2f}" for value in parts.values()), f"{total:.2f}"],
            textposition="outside",
            cliponaxis=False,
            customdata=written,
            hovertemplate=f"%{{customdata}}<br>{as_written(y)}: %{{y:.4f}}<extra></extra>",
            increasing={"marker": {"color": SERIES_COLOURS[0]}},
            decreasing={"marker": {"color": SERIES_COLOURS[1]}},
            totals={"marker": {"color": "#777777"}},
            connector={"line": {"color": "grey", "width": 1}},
        )
    )
    fig.update_xaxes(tickvals=list(range(len(labels))), ticktext=written, tickangle=-40)
    fig.update_yaxes(title_text=as_written(y), **ZERO_LINE)
    return finish(fig, title, height)
