"""Edges as a drawing: parts on a grid of heads and layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformer_lens.model_bridge import TransformerBridge

from helpers.edges.graph import Edge, Writer


def edge_drawing(model: TransformerBridge, edges: Sequence[Edge]) -> dict[str, Any]:
    """What :func:`helpers.plotting.circuit_graph` needs for some edges, titles apart.

    A column is a head's number, or the MLPs'; a row is a layer, with the embeddings below and the logits
    above.

    Example:
        >>> from helpers.edges.graph import Reader
        >>> edge = Edge(Writer(0, 1), Reader(2, 3, "k"), 0.5)
        >>> drawing = edge_drawing(model, [edge])
        >>> drawing["nodes"], drawing["edges"]
        ({'L0H1': (1, 0), 'L2H3': (3, 2)}, [('L0H1', 'L2H3', 'k +0.50', 0.5)])
    """
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    rows = {-1: "embed", **{layer: f"L{layer}" for layer in range(n_layers)}, n_layers: "output"}

    def named(part: Writer) -> str:
        return "logits" if part.layer == n_layers else part.name

    def placed(part: Writer) -> tuple[int, int]:
        aside = n_heads if 0 <= part.layer < n_layers else n_heads // 2
        return aside if part.head is None else part.head, part.layer

    parts = dict.fromkeys(part for edge in edges for part in (edge.writer, edge.reader.part))
    arrows = []
    for edge in edges:
        through = "" if edge.reader.head is None else f"{edge.reader.through} "
        text = f"{through}{edge.value:+.2f}"
        arrows.append((named(edge.writer), named(edge.reader.part), text, edge.value))
    return {
        "nodes": {named(part): placed(part) for part in parts},
        "edges": arrows,
        "x_labels": [*(f"H{head}" for head in range(n_heads)), "MLP"],
        "y_labels": rows,
    }
