"""Heatmaps: matrices of any kind, and the heads of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from helpers.display import ShownFigure
from helpers.plotting.inputs import Values, as_array, as_labels, largest, thin
from helpers.plotting.labels import all_written, as_written
from helpers.plotting.look import (
    DIVERGING,
    PLOT_WIDTH,
    SEQUENTIAL,
    SMALLEST_FONT,
    finish,
    tick_texts,
)

DARK = 0.7  # of the colour range: from there on white text has more contrast than black


def imshow(
    values: Values,
    *,
    title: str,
    x: str,
    y: str,
    x_labels: Sequence[str] | None = None,
    y_labels: Sequence[str] | None = None,
    facet_labels: Sequence[str] | None = None,
    names: Sequence[Sequence[str]] | None = None,
    value_name: str = "value",
    value_range: tuple[float, float] | None = None,
    scale: Literal["diverging", "sequential"] = "diverging",
    annotate: int = 0,
    height: int | None = None,
) -> go.Figure:
    """Heatmap of a matrix, or of several side by side on one colour scale.

    Args:
        values: ``[row, column]`` or ``[facet, row, column]``.
        title: of the figure.
        x, y: axis titles.
        x_labels, y_labels: tick texts; indices if not given.
        facet_labels: a title for each facet.
        names: ``[row][column]``, what a cell is (such as ``L9H9``), for hovering and annotation.
        value_name: what the colours mean, with its unit.
        value_range: of the colours; by default symmetric about zero ("diverging") or from zero
            ("sequential") to the largest magnitude.
        scale: "diverging" for signed values, "sequential" for shares and probabilities.
        annotate: write name (or value) on this many cells of largest magnitude in each facet; where
            cells are too narrow for names, a dot on the cell and the names above the facet.
        height: in pixels.

    Raises:
        ValueError: for empty or NaN values, wrong dimensions or labels that do not fit.

    Example:
        >>> fig = imshow(torch.eye(2), title="Similarity", x="token", y="token", x_labels=["a", "b"])
        >>> fig.layout.coloraxis.cmin, fig.layout.coloraxis.cmax  # zero is white
        (-1.0, 1.0)
    """
    array = as_array(values, "values", dims=(2, 3))
    facets = array if array.ndim == 3 else array[None]
    n_facets, n_rows, n_columns = facets.shape
    x_labels = as_labels(x_labels, n_columns, "x_labels")
    y_labels = as_labels(y_labels, n_rows, "y_labels")
    titles = as_labels(facet_labels, n_facets, "facet_labels") if array.ndim == 3 else [""]
    cell_names = _names(names, (n_rows, n_columns), x_labels, y_labels)
    low, high = value_range or _default_range(facets, scale)
    limit = max(abs(low), abs(high))
    marked = [_largest_cells(facet, annotate, limit) for facet in facets]
    decimals = max(2, 1 - math.floor(math.log10(limit or 1.0)))
    texts = cell_names if names is not None else [[f"{-limit:.{decimals}f}"]]
    font_size = _font_that_fits(texts, n_facets * n_columns)
    on_cells = font_size >= SMALLEST_FONT or names is None or not annotate
    headings = all_written(titles)
    written = [all_written(row) for row in cell_names]
    if not on_cells:
        above = [", ".join(written[row][column] for row, column in cells) for cells in marked]
        headings = [
            f"{title}<br><span style='font-size: 11px'>{found or '&nbsp;'}</span>"
            for title, found in zip(headings, above, strict=True)
        ]

    fig = ShownFigure(
        make_subplots(
            rows=1,
            cols=n_facets,
            shared_yaxes=True,
            horizontal_spacing=0.03,
            subplot_titles=headings,
        )
    )
    for column, (facet, cells) in enumerate(zip(facets, marked, strict=True), start=1):
        heatmap = go.Heatmap(
            z=facet,
            # Categories by position: two columns may carry the same text.
            x=np.arange(n_columns),
            y=np.arange(n_rows),
            customdata=written,
            hovertemplate=f"%{{customdata}}<br>{as_written(value_name)}: %{{z:.4f}}<extra></extra>",
            coloraxis="coloraxis",
        )
        fig.add_trace(heatmap, row=1, col=column)
        for row, cell in cells:
            value = facet[row, cell]
            text = f"{value:.{decimals}f}" if names is None else written[row][cell]
            fig.add_annotation(
                x=cell,
                y=row,
                text=text if on_cells else "•",
                showarrow=False,
                font={
                    "size": max(font_size, SMALLEST_FONT) if on_cells else 14,
                    "color": "white" if abs(value) > DARK * limit else "black",
                },
                row=1,
                col=column,
            )
    shown_columns = thin(x_labels, 60 // n_facets)
    fig.update_xaxes(
        tickvals=list(shown_columns),
        ticktext=all_written(list(shown_columns.values())),
        **tick_texts(list(shown_columns.values()), PLOT_WIDTH / n_facets),
    )
    for middle in {(n_facets + 1) // 2, n_facets // 2 + 1}:  # once for all, or for two in the middle
        fig.update_xaxes(title_text=as_written(x), col=middle)
    shown_rows = thin(y_labels, 40)
    row_texts = all_written(list(shown_rows.values()))
    fig.update_yaxes(autorange="reversed", tickvals=list(shown_rows), ticktext=row_texts)
    fig.update_yaxes(title_text=as_written(y), col=1)
    fig.update_yaxes(ticklabelstandoff=3)  # off the cells
    fig.update_layout(
        coloraxis={
            "colorscale": DIVERGING if scale == "diverging" else SEQUENTIAL,
            "cmin": low,
            "cmax": high,
            # The empty line keeps it off the numbers beside the bar.
            "colorbar": {"title": {"text": f"&nbsp;<br>{as_written(value_name)}", "side": "right"}},
        }
    )
    room_above = 80 if on_cells else 100
    return finish(fig, title, height or 110 + room_above + 16 * max(n_rows, 12), room_above)


def head_map(
    values: Values | Mapping[str, Values],
    *,
    title: str,
    facet_labels: Sequence[str] | None = None,
    value_name: str = "value",
    value_range: tuple[float, float] | None = None,
    scale: Literal["diverging", "sequential"] = "diverging",
    annotate: int = 4,
) -> go.Figure:
    """Heatmap over attention heads, ``[layer, head]`` or ``[facet, layer, head]``, heads named.

    Several facets may also be given by name, without ``facet_labels``. Other arguments and errors are
    those of :func:`imshow`.

    Example:
        >>> fig = head_map(torch.tensor([[0.5, -1.0], [0.0, 0.25]]), title="Effect", value_name="logits")
        >>> fig.data[0].customdata[0][1], fig.data[0].z[0][1].item()
        ('L0H1', -1.0)
    """
    if isinstance(values, Mapping):
        if facet_labels is not None:
            raise ValueError("values names its facets; give no facet_labels besides.")
        facet_labels = list(values)
        values = np.stack([as_array(facet, name, dims=(2,)) for name, facet in values.items()])
    n_layers, n_heads = as_array(values, "values", dims=(2, 3)).shape[-2:]
    return imshow(
        values,
        title=title,
        x="head",
        y="layer",
        x_labels=[f"H{head}" for head in range(n_heads)],
        y_labels=[f"L{layer}" for layer in range(n_layers)],
        names=head_names(n_layers, n_heads),
        facet_labels=facet_labels,
        value_name=value_name,
        value_range=value_range,
        scale=scale,
        annotate=annotate,
    )


def position_map(
    values: Values,
    positions: Sequence[str],
    *,
    title: str,
    y: str = "layer",
    facet_labels: Sequence[str] | None = None,
    value_name: str = "value",
    value_range: tuple[float, float] | None = None,
    annotate: int = 0,
) -> go.Figure:
    """Heatmap over layers and positions, ``[layer, position]`` or ``[facet, layer, position]``.

    Other arguments and errors are those of :func:`imshow`.

    Args:
        positions: what stands at each position, such as its token.

    Example:
        >>> fig = position_map(torch.zeros(3, 2), ["John", "Mary"], title="Patching", value_name="share")
        >>> fig.layout.xaxis.ticktext
        ('John', 'Mary')
    """
    n_layers = as_array(values, "values", dims=(2, 3)).shape[-2]
    return imshow(
        values,
        title=title,
        x="position",
        y=y,
        x_labels=positions,
        y_labels=[f"L{layer}" for layer in range(n_layers)],
        facet_labels=facet_labels,
        value_name=value_name,
        value_range=value_range,
        annotate=annotate,
    )


def head_names(n_layers: int, n_heads: int) -> list[list[str]]:
    """``L0H0`` and so on, as ``[layer][head]``.

    Example:
        >>> head_names(2, 2)
        [['L0H0', 'L0H1'], ['L1H0', 'L1H1']]
    """
    return [[f"L{layer}H{head}" for head in range(n_heads)] for layer in range(n_layers)]


def _names(
    names: Sequence[Sequence[str]] | None,
    shape: tuple[int, int],
    x_labels: list[str],
    y_labels: list[str],
) -> list[list[str]]:
    if names is None:
        return [[f"{row}, {column}" for column in x_labels] for row in y_labels]
    as_labels([str(row) for row in names], shape[0], "names")
    return [as_labels(row, shape[1], "each row of names") for row in names]


def _default_range(array: np.ndarray, scale: str) -> tuple[float, float]:
    largest = float(np.abs(array).max()) or 1.0
    return (-largest if scale == "diverging" else 0.0, largest)


def _largest_cells(facet: np.ndarray, count: int, colour_limit: float) -> list[tuple[int, int]]:
    """Row and column of the cells of largest magnitude whose colour can be seen at all, from the top."""
    cells = [divmod(index, facet.shape[1]) for index in largest(facet.ravel(), count)]
    return sorted(cell for cell in cells if abs(facet[cell]) >= colour_limit / 25)


def _font_that_fits(texts: Sequence[Sequence[str]], columns: int) -> int:
    """The size, 11 at most, at which the longest text is no wider than a cell."""
    longest = max(len(text) for row in texts for text in row)
    return min(11, int(PLOT_WIDTH / columns / (0.56 * longest)))  # capitals and digits are narrow
