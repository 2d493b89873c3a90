"""An atlas to look at: a plain table that shows anywhere, and one that can be sorted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import plotly.graph_objects as go
from IPython.display import HTML

from helpers.atlas.table import ERROR, Atlas
from helpers.display import ShownFigure
from helpers.plotting import WIDTH
from helpers.plotting.labels import all_written, as_written

ALWAYS = ("previous_token", "duplicate_token", "induction", "copying_eigenvalue", "ioi_attribution")


def _html(text: str) -> str:
    """As text between tags, where a ``>`` stands for itself."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def head_table(
    atlas: Atlas, by: str, *, count: int = 12, smallest: bool = False, columns: Sequence[str] = ALWAYS
) -> HTML:
    """The heads with the highest (or lowest) score, as plain HTML, which GitHub shows as well.

    Args:
        atlas: to be shown.
        by: the score to sort by; it comes first, with its standard error.
        count: rows.
        smallest: lowest first.
        columns: further scores to show; those that the atlas lacks are left out.

    Raises:
        KeyError: with the scores there are, if there is no such score.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> atlas = published_atlas()
        >>> head_table(atlas, "induction", count=2).data.count("<tr>")  # with the header
        3
    """
    cells = _cells(atlas, by, count, smallest, columns)
    header = "".join(f"<th>{_html(name)}</th>" for name in cells)
    rows = zip(*cells.values(), strict=True)
    body = "".join("<tr>" + "".join(f"<td>{_html(c)}</td>" for c in row) + "</tr>\n" for row in rows)
    return HTML(f"<table>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>")


def score_table(atlas: Atlas) -> HTML:
    """What each score of the atlas means, with its range and null, from its docstring.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> atlas = published_atlas()
        >>> score_table(atlas).data.count("<tr>") == 1 + len(atlas.scores)
        True
    """
    rows = "".join(
        f"<tr><td><code>{_html(name)}</code></td><td>{_html(entry['meaning'])}</td>"
        f"<td>{_html(entry['range'])}</td><td>{_html(entry['null'])}</td></tr>\n"
        for name, entry in atlas.info["scores"].items()
    )
    header = "<tr><th>score</th><th>what it means</th><th>range</th><th>null</th></tr>"
    return HTML(f"<table>\n<thead>{header}</thead>\n<tbody>\n{rows}</tbody>\n</table>")


def sortable_table(
    atlas: Atlas, *, by: str, count: int = 15, columns: Sequence[str] = ALWAYS
) -> go.Figure:
    """The top heads by any score: a menu in the figure chooses which. As a picture: by the first one.

    Args:
        atlas: to be shown.
        by: the score it is sorted by at first.
        count: rows.
        columns: further scores to show; those that the atlas lacks are left out.

    Raises:
        KeyError: with the scores there are, if there is no such score.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> atlas = published_atlas()
        >>> fig = sortable_table(atlas, by="induction", count=3)
        >>> len(fig.data[0].cells["values"][0])
        3
    """
    atlas.score(by)  # before any drawing
    scores = [by, *(score for score in atlas.scores if score != by)]
    tables = {score: _cells(atlas, score, count, False, columns) for score in scores}
    first = tables[by]
    fig = ShownFigure(
        go.Table(
            header={
                "values": all_written(list(first)),
                "fill_color": "#dbe7f3",
                "align": "left",
                "height": 30,
            },
            cells={"values": _written(first), "align": "left", "height": 24},
            columnwidth=_widths(first),
        )
    )
    buttons = [
        {
            "label": as_written(score),
            "method": "restyle",
            "args": [
                {
                    "header.values": [all_written(list(cells))],
                    "cells.values": [_written(cells)],
                    "columnwidth": [_widths(cells)],
                }
            ],
        }
        for score, cells in tables.items()
    ]
    fig.update_layout(
        title=f"Top heads of {as_written(atlas.info['model'])}: choose a score to sort by",
        updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.04, "yanchor": "bottom"}],
        paper_bgcolor="white",
        font={"size": 13},
        width=WIDTH,
        height=150 + 24 * min(count, len(atlas.table)),
        margin={"l": 20, "r": 20, "t": 80, "b": 20},
    )
    fig.show_now()
    return fig


def _written(cells: Mapping[str, list[str]]) -> list[list[str]]:
    return [all_written(column) for column in cells.values()]


def _widths(columns: Iterable[str]) -> list[float]:
    """Of a table's columns, relative to each other: the names of scores are long."""
    return [{"head": 0.5, "± error": 0.5}.get(name, 1.0) for name in columns]


def _cells(
    atlas: Atlas, by: str, count: int, smallest: bool, columns: Sequence[str]
) -> dict[str, list[str]]:
    """Texts of a sorted table, column by column."""
    atlas.score(by)
    rows = atlas.table.sort_values([by, "layer", "head"], ascending=[smallest, True, True]).head(count)
    cells = {"head": rows["name"].tolist(), by: [f"{value:.3f}" for value in rows[by]]}
    if by + ERROR in rows:
        cells["± error"] = [f"{error:.3f}" for error in rows[by + ERROR]]
    for column in columns:
        if column != by and column in atlas.scores:
            cells[column] = [f"{value:.3f}" for value in rows[column]]
    return cells
