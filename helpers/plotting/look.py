"""The one look of all figures: size, colours, title, template."""

from __future__ import annotations

import plotly.graph_objects as go
import plotly.io as pio

from helpers.display import ShownFigure

WIDTH = 900  # what fits GitHub's page
DIVERGING = "RdBu"  # red below zero, blue above; safe for the common colour blindnesses
SEQUENTIAL = "Blues"
SMALLEST_FONT = 9
SERIES_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito
SERIES_DASHES = ("solid", "dash", "dot", "dashdot")


def finish(fig: ShownFigure, title: str, height: int, room_above: int = 80) -> ShownFigure:
    """The figure with its title and the common look, shown."""
    fig.update_layout(
        title={
            "text": title,
            "x": 0.05,
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 24},
        },
        template=_template(),
        paper_bgcolor="white",  # the picture must read on a dark page too
        font={"size": 13},
        width=WIDTH,
        height=height,
        margin={"l": 80, "r": 40, "t": room_above, "b": 80},
    )
    fig.show_now()
    return fig


def _template() -> go.layout.Template:
    """The part of plotly's white template that these figures use; the whole is heavy in a notebook."""
    white = pio.templates["plotly_white"].layout
    used = ("annotationdefaults", "coloraxis", "font", "hovermode", "plot_bgcolor", "xaxis", "yaxis")
    return go.layout.Template(layout={name: white[name] for name in used})
