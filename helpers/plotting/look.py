"""The one look of all figures: size, colours, title, template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from helpers.display import ShownFigure
from helpers.plotting.labels import as_written

WIDTH = 900  # what fits GitHub's page
PLOT_WIDTH = 0.75 * WIDTH  # the rest is margins and colour bar
DIVERGING = "RdBu"  # red below zero, blue above; safe for the common colour blindnesses
SEQUENTIAL = "Blues"
FONT = 13
SMALLEST_FONT = 9
LETTER = 0.6  # its width, in font sizes
VEIL = "rgba(255, 255, 255, 0.85)"  # behind text that lies on lines
ZERO_LINE = {"zeroline": True, "zerolinecolor": "grey", "zerolinewidth": 1}
SERIES_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito
SERIES_DASHES = ("solid", "dash", "dot", "dashdot")


def finish(fig: ShownFigure, title: str, height: int, room_above: int = 80) -> ShownFigure:
    """The figure with its title and the common look, its legend between title and plot, shown."""
    more_rows = 20 * max(_legend_rows(fig) - 1, 0)
    fig.update_layout(
        title={
            "text": as_written(title),
            "x": 0.05,
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 24},
        },
        template=_template(),
        paper_bgcolor="white",  # the picture must read on a dark page too
        font={"size": FONT},
        width=WIDTH,
        height=height + more_rows,
        margin={"l": 80, "r": 40, "t": room_above + more_rows, "b": 80},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    fig.show_now()
    return fig


def tick_texts(labels: Sequence[str], room: float = PLOT_WIDTH) -> dict[str, Any]:
    """Labels side by side in a room of pixels: flat where they fit, else steep, and small if dense."""
    pitch = room / len(labels)
    if LETTER * FONT * (max(map(len, labels)) + 0.5) <= pitch:  # with a gap to the next
        return {"tickangle": 0}
    size = int(0.87 * pitch) + 1  # steep lines of text are as far apart as sin 60°
    return {"tickangle": -60, "tickfont": {"size": min(FONT, max(SMALLEST_FONT, size))}}


def _legend_rows(fig: go.Figure) -> int:
    """How many rows the legend takes: entries in columns of equal width, as wide as the longest."""
    names = [trace.name for trace in fig.data if trace.name] if fig.layout.showlegend else []
    if not names:
        return 0
    in_a_row = max(1, int(0.85 * WIDTH / (50 + LETTER * FONT * max(map(len, names)))))
    return -(-len(names) // in_a_row)


def _template() -> go.layout.Template:
    """The part of plotly's white template that these figures use; the whole is heavy in a notebook."""
    white = pio.templates["plotly_white"].layout
    used = ("annotationdefaults", "coloraxis", "font", "hovermode", "plot_bgcolor", "xaxis", "yaxis")
    return go.layout.Template(layout={name: white[name] for name in used})
