"""A circuit as a drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from helpers.display import ShownFigure
from helpers.plotting.look import SERIES_COLOURS, finish


def circuit_graph(
    nodes: Mapping[str, tuple[int, int]],
    edges: Sequence[tuple[str, str, str, float]],
    *,
    title: str,
    x: str,
    y: str,
    x_labels: Sequence[str],
    height: int = 620,
) -> go.Figure:
    """A circuit as a drawing: named nodes on a grid, and arrows that say what they are.

    Args:
        nodes: name to (column, row), such as position and layer; rows grow upwards.
        edges: (from, to, text, effect). The colour says the effect's sign, the width its size.
        title: of the figure.
        x, y: axis titles.
        x_labels: what the columns are.
        height: in pixels.

    Raises:
        ValueError: if there is no node, a node lies outside the columns, or an edge names no node.
    """
    if not nodes:
        raise ValueError("nodes is empty: nothing to draw.")
    for name, (column, _) in nodes.items():
        if not 0 <= column < len(x_labels):
            raise ValueError(
                f"Node {name!r} is in column {column}; x_labels has {len(x_labels)} columns."
            )
    places = _spread(nodes)
    largest = max((abs(effect) for *_, effect in edges), default=1.0)
    fig = ShownFigure()
    for start, end, text, effect in edges:
        if start not in nodes or end not in nodes:
            raise ValueError(
                f"The edge {start!r} -> {end!r} names a node that is not among {list(nodes)}."
            )
        colour = SERIES_COLOURS[0] if effect > 0 else SERIES_COLOURS[1]
        (x0, y0), (x1, y1) = places[start], places[end]
        fig.add_annotation(
            **{"x": x1, "y": y1, "ax": x0, "ay": y0},
            **{"xref": "x", "yref": "y", "axref": "x", "ayref": "y"},
            **{"text": "", "arrowhead": 2, "standoff": 22, "startstandoff": 20},
            arrowcolor=colour,
            arrowwidth=1 + 4 * abs(effect) / largest,
        )
        fig.add_annotation(
            x=0.6 * x0 + 0.4 * x1,
            y=0.6 * y0 + 0.4 * y1,
            text=text,
            showarrow=False,
            font={"size": 11, "color": colour},
            bgcolor="rgba(255, 255, 255, 0.85)",
        )
    fig.add_scatter(
        x=[places[name][0] for name in nodes],
        y=[places[name][1] for name in nodes],
        mode="markers+text",
        text=list(nodes),
        customdata=[x_labels[column] for column, _ in nodes.values()],
        hovertemplate=f"%{{text}}<br>{x}: %{{customdata}}<extra></extra>",
        marker={"size": 42, "color": "white", "line": {"color": "black", "width": 1}},
        textfont={"size": 11},
    )
    columns = sorted({column for column, _ in nodes.values()})
    fig.update_xaxes(
        title_text=x,
        tickvals=list(range(len(columns))),
        ticktext=[x_labels[column] for column in columns],
        range=[-0.6, len(columns) - 0.4],
    )
    fig.update_yaxes(title_text=y)
    fig.update_layout(showlegend=False)
    return finish(fig, title, height)


def _spread(nodes: Mapping[str, tuple[int, int]]) -> dict[str, tuple[float, float]]:
    """Places for nodes: columns in use side by side, and each a fan, so that arrows to its top are free.

    The topmost node is in the middle, the lowest beside it; from there upwards they move outwards, left
    and right by turns.
    """
    columns = sorted({column for column, _ in nodes.values()})
    places = {}
    for index, column in enumerate(columns):
        *below, (top, top_name) = sorted(
            (row, name) for name, (at, row) in nodes.items() if at == column
        )
        places[top_name] = (float(index), float(top))
        for turn, (row, name) in enumerate(below):
            step = (turn // 2 + 0.5) * (1 if turn % 2 else -1)
            places[name] = (index + 1.1 * step / (len(below) + 1), float(row))
    return places
