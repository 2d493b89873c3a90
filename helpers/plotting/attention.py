"""Attention of a few heads, live and as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import circuitsvis as cv
import numpy as np
import plotly.graph_objects as go

from helpers.display import show_circuitsvis
from helpers.plotting.heatmaps import imshow
from helpers.plotting.inputs import Values, as_array, as_labels


def attention_patterns(
    patterns: Values,
    *,
    tokens: Sequence[str],
    names: Sequence[str],
    title: str,
    notes: Sequence[str] | None = None,
) -> go.Figure:
    """Attention of a few heads, as a CircuitsVis view and as a static picture in its own output.

    Args:
        patterns: ``[head, destination, source]``, each row a distribution over sources.
        tokens: of the prompt, one for each position.
        names: one for each head.
        title: of the picture.
        notes: what to say of each head, beside its name in the picture. The view's small previews
            have room for names only.

    Raises:
        ValueError: for empty or NaN values, patterns that are not square, labels that do not fit.

    Example:
        >>> pattern = cache["pattern", 1][0, :2]  # two heads on the first prompt
        >>> tokens = model.to_str_tokens(prompts.tokens[0])
        >>> fig = attention_patterns(pattern, tokens=tokens, names=["L1H0", "L1H1"], title="Attention")
        <IPython.core.display.HTML object>
        >>> len(fig.data)
        2
    """
    array = as_array(patterns, "patterns", dims=(3,))
    if array.shape[1] != array.shape[2]:
        raise ValueError(f"patterns must be [head, dest, src] with dest = src; got {array.shape}.")
    tokens = as_labels(tokens, array.shape[1], "tokens")
    names = as_labels(names, len(array), "names")
    captions = names
    if notes is not None:
        notes = as_labels(notes, len(array), "notes")
        captions = [f"{name}: {note}" for name, note in zip(names, notes, strict=True)]
    show_circuitsvis(
        cv.attention.attention_heads(
            attention=np.round(array, 4).tolist(), tokens=tokens, attention_head_names=names
        )
    )
    cells = [[f"{dest} → {src}" for src in tokens] for dest in tokens]
    return imshow(
        array,
        title=title,
        x="attended to (source)",
        y="from (destination)",
        x_labels=tokens,
        y_labels=tokens,
        facet_labels=captions,
        names=cells,
        value_name="attention",
        value_range=(0, 1),
        scale="sequential",
        height=190 + 16 * max(len(tokens), 15),
    )
