"""Plots for tensors: small verbs with one look.

Each verb takes tensors on any device and dtype, numpy arrays or lists, shows the figure and returns
it. Zero is white in the middle of a diverging scale, facets share their colours, and what is needed to
read a figure without hovering or colour is written on it.
"""

from helpers.plotting.attention import attention_patterns
from helpers.plotting.bars import waterfall
from helpers.plotting.circuit import circuit_graph
from helpers.plotting.heatmaps import head_map, head_names, imshow, position_map
from helpers.plotting.lines import intervals, line, scatter
from helpers.plotting.look import WIDTH

__all__ = [
    "WIDTH",
    "attention_patterns",
    "circuit_graph",
    "head_map",
    "head_names",
    "imshow",
    "intervals",
    "line",
    "position_map",
    "scatter",
    "waterfall",
]
