"""A circuit as a drawing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from helpers.display import ShownFigure
from helpers.plotting.labels import all_written, as_written
from helpers.plotting.look import PLOT_WIDTH, SERIES_COLOURS, VEIL, finish

Place = tuple[float, float]

NODE_ROOM = 26  # pixels from the middle of a node that must not be cut off


def circuit_graph(
    nodes: Mapping[str, tuple[int, int]],
    edges: Sequence[tuple[str, str, str, float]],
    *,
    title: str,
    x: str,
    y: str,
    x_labels: Sequence[str],
    y_labels: Mapping[int, str] | None = None,
    height: int = 620,
) -> go.Figure:
    """A circuit as a drawing: named nodes on a grid, and arrows that say what they are.

    Args:
        nodes: name to (column, row), such as position and layer; rows grow upwards.
        edges: (from, to, text, effect). The colour says the effect's sign, the width its size.
        title: of the figure.
        x, y: axis titles.
        x_labels: what the columns are.
        y_labels: what the rows in use are; their numbers if not given.
        height: in pixels.

    Raises:
        ValueError: if there is no node, a node lies outside the columns or in a row without a
            label, or an edge names no node.

    Example:
        >>> fig = circuit_graph(
        ...     {"L0H1": (0, 0), "L2H3": (1, 2)},  # name: (column, row)
        ...     [("L0H1", "L2H3", "value", 0.8)],
        ...     title="A circuit",
        ...     x="position",
        ...     y="layer",
        ...     x_labels=["John", "to"],
        ... )
        >>> fig.data[0].text
        ('L0H1', 'L2H3')
    """
    if not nodes:
        raise ValueError("nodes is empty: nothing to draw.")
    rows = sorted({row for _, row in nodes.values()})
    y_labels = {row: str(row) for row in rows} if y_labels is None else y_labels
    for name, (column, row) in nodes.items():
        if not 0 <= column < len(x_labels):
            raise ValueError(
                f"Node {name!r} is in column {column}; x_labels has {len(x_labels)} columns."
            )
        if row not in y_labels:
            raise ValueError(f"Node {name!r} is in row {row}, which has no label in y_labels.")
    for start, end, *_ in edges:
        if start not in nodes or end not in nodes:
            raise ValueError(
                f"The edge {start!r} -> {end!r} names a node that is not among {list(nodes)}."
            )
    places = _spread(nodes, [(start, end) for start, end, *_ in edges], height)
    largest = max((abs(effect) for *_, effect in edges), default=1.0)
    fig = ShownFigure()
    for start, end, text, effect in edges:
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
            text=as_written(text),
            showarrow=False,
            font={"size": 11, "color": colour},
            bgcolor=VEIL,
        )
    fig.add_scatter(
        x=[places[name][0] for name in nodes],
        y=[places[name][1] for name in nodes],
        mode="markers+text",
        text=all_written(list(nodes)),
        customdata=[as_written(x_labels[column]) for column, _ in nodes.values()],
        hovertemplate=f"%{{text}}<br>{as_written(x)}: %{{customdata}}<extra></extra>",
        marker={"size": 42, "color": "white", "line": {"color": "black", "width": 1}},
        textfont={"size": 11},
    )
    columns = sorted({column for column, _ in nodes.values()})
    across = [place[0] for place in places.values()]
    room = NODE_ROOM * (len(columns) + 0.2) / PLOT_WIDTH
    fig.update_xaxes(
        title_text=as_written(x),
        tickvals=list(range(len(columns))),
        ticktext=[as_written(x_labels[column]) for column in columns],
        range=[min(-0.6, min(across) - room), max(len(columns) - 0.4, max(across) + room)],
    )
    row_texts = [as_written(y_labels[row]) for row in rows]
    fig.update_yaxes(title_text=as_written(y), tickvals=rows, ticktext=row_texts)
    fig.update_layout(showlegend=False)
    return finish(fig, title, height)


def _spread(
    nodes: Mapping[str, tuple[int, int]], edges: Sequence[tuple[str, str]], height: int
) -> dict[str, Place]:
    """Places for nodes: columns in use side by side, each a fan, turned so that arrows miss other nodes.

    The topmost node is in the middle, so that arrows to it are free, the lowest beside it; from there
    upwards they move outwards, left and right by turns, beginning on either side.
    """
    columns = sorted({column for column, _ in nodes.values()})
    rows = [row for _, row in nodes.values()]
    pixels = np.array([PLOT_WIDTH / len(columns), (height - 160) / max(max(rows) - min(rows), 1)])

    def fans(sides: Sequence[int]) -> dict[str, Place]:
        places = {}
        for index, (column, side) in enumerate(zip(columns, sides, strict=True)):
            *below, (top, top_name) = sorted(
                (row, name) for name, (at, row) in nodes.items() if at == column
            )
            places[top_name] = (float(index), float(top))
            for turn, (row, name) in enumerate(below):
                step = side * (turn // 2 + 0.5) * (1 if turn % 2 else -1)
                places[name] = (index + 1.1 * step / (len(below) + 1), float(row))
        return places

    def clearance(places: dict[str, Place]) -> int:
        """Pixels between an arrow and the middle of the nearest node that it does not belong to."""
        at = {name: pixels * place for name, place in places.items()}
        near = (_distance(at[n], at[a], at[b]) for a, b in edges for n in at if n not in (a, b))
        return round(min(near, default=0.0))  # a tie stays one on every machine

    turned = [(1, -1) if sum(at == c for at, _ in nodes.values()) > 1 else (1,) for c in columns]
    return max((fans(sides) for sides in itertools.product(*turned)), key=clearance)


def _distance(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """From a point to the straight line between two others."""
    along = end - start
    share = np.clip((point - start) @ along / max(along @ along, 1e-9), 0, 1)
    return float(np.linalg.norm(point - start - share * along))
