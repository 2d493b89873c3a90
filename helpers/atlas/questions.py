"""Questions to an atlas, one line each.

heads_of_kind(atlas, "induction")       # which heads are induction heads here?
is_known(atlas, 17, 3)                  # is this head anything known?
most_similar(atlas, other, 17, 3)       # which head of the other model has the same profile?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from helpers.atlas.table import Atlas
from helpers.head_scores import Head, top_heads


@dataclass(frozen=True)
class Kind:
    """A known kind of head: a score, and from where on a head counts as one.

    Thresholds are a choice, not a fact: scores fall off without a gap. For scores between 0 and 1 it is
    nearly one half of all there is; for those in logits, a tenth of a logit.

    Attributes:
        score: the column that tells.
        threshold: heads above it are of the kind; below it, if it is negative.

    Example:
        >>> KINDS["induction"]
        Kind(score='induction', threshold=0.4)
    """

    score: str
    threshold: float


KINDS = {
    "previous token": Kind("previous_token", 0.4),
    "duplicate token": Kind("duplicate_token", 0.4),
    "induction": Kind("induction", 0.4),
    "rests on the first token": Kind("first_token", 0.8),
    "looks at itself": Kind("self_attention", 0.4),
    "spreads its attention": Kind("entropy", 0.85),
    "matches a token with itself": Kind("qk_same_token", 0.8),
    "copies": Kind("copying_eigenvalue", 0.8),
    "suppresses": Kind("copying_eigenvalue", -0.8),
    "favours the right name": Kind("ioi_attribution", 0.1),
    "favours the wrong name": Kind("ioi_attribution", -0.1),
}


def heads_of_kind(atlas: Atlas, kind: str) -> list[Head]:
    """The heads of a kind, strongest first; none if the score was not measured.

    Raises:
        KeyError: with the kinds there are.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> atlas = published_atlas()
        >>> [head.name for head in heads_of_kind(atlas, "induction")[:3]]
        ['L5H1', 'L6H9', 'L5H5']
    """
    if kind not in KINDS:
        raise KeyError(f"No kind {kind!r}; there is {', '.join(KINDS)}.")
    score, threshold = KINDS[kind].score, KINDS[kind].threshold
    if score not in atlas.scores:
        return []
    values = atlas.score(score)
    smallest = threshold < 0
    ordered = top_heads(values, values.numel(), smallest=smallest)
    return [h for h in ordered if (h.value < threshold if smallest else h.value > threshold)]


def is_known(atlas: Atlas, layer: int, head: int) -> dict[str, float]:
    """The kinds that a head is of, each with its score; empty if none.

    Raises:
        ValueError: if there is no such head.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> atlas = published_atlas()
        >>> list(is_known(atlas, 5, 5))
        ['induction']
    """
    _check_head(atlas, layer, head)
    found = {kind: heads_of_kind(atlas, kind) for kind in KINDS}
    return {kind: h.value for kind, heads in found.items() for h in heads if h[:2] == (layer, head)}


def rank_of(atlas: Atlas, score: str, layer: int, head: int) -> int:
    """How many heads score higher, plus one.

    Raises:
        ValueError: if there is no such head.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> atlas = published_atlas()
        >>> rank_of(atlas, "induction", 5, 5)
        3
    """
    _check_head(atlas, layer, head)
    return int(ranks(atlas, score)[layer, head])


def ranks(atlas: Atlas, score: str) -> Int[Tensor, "layer head"]:
    """:func:`rank_of` every head.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> atlas = published_atlas()
        >>> ranks(atlas, "induction")[5, 5]
        tensor(3)
    """
    values = atlas.score(score)
    higher = values.flatten()[None, :] > values.flatten()[:, None]
    return higher.sum(1).reshape(values.shape) + 1


def relative_depth(atlas: Atlas, layer: int) -> float:
    """0 for the first layer, 1 for the last.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> atlas = published_atlas()
        >>> relative_depth(atlas, 0), relative_depth(atlas, 11)
        (0.0, 1.0)
    """
    return layer / max(1, atlas.info["n_layers"] - 1)


def profiles(atlas: Atlas, scores: Sequence[str]) -> Float[Tensor, "head score"]:
    """Each head's scores as parts of the strongest head's, so that models and units compare.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> atlas = published_atlas()
        >>> profiles(atlas, ["induction", "previous_token"]).shape
        torch.Size([144, 2])
    """
    columns = [atlas.score(score).flatten() for score in scores]
    return torch.stack([c / c.abs().max().clamp(min=1e-9) for c in columns], dim=1)


def most_similar(atlas: Atlas, other: Atlas, layer: int, head: int, *, count: int = 1) -> list[Head]:
    """The heads of another atlas (or of the same) whose :func:`profiles` are nearest to a head's.

    Over the scores that both have: with GPT-2 small's published ones, five. Values are
    :func:`distances`.

    Raises:
        ValueError: if there is no such head, or no score that both have.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> atlas = published_atlas()
        >>> most_similar(atlas, atlas, 5, 5)[0].name
        'L6H9'
    """
    _check_head(atlas, layer, head)
    return top_heads(distances(atlas, other)[layer, head], count, smallest=True)


def distances(atlas: Atlas, other: Atlas) -> Float[Tensor, "layer head other_layer other_head"]:
    """How far the :func:`profiles` of heads are apart; a head is infinitely far from itself.

    Root mean square over the scores that both have: 0 is the same profile, 1 as far as a strongest head
    is from one at zero.

    Raises:
        ValueError: if there is no score that both have.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> atlas = published_atlas()
        >>> distances(atlas, atlas).shape
        torch.Size([12, 12, 12, 12])
    """
    common = [score for score in atlas.scores if score in other.scores]
    if not common:
        raise ValueError(f"{atlas.info['model']} and {other.info['model']} have no score in common.")
    ours, theirs = profiles(atlas, common), profiles(other, common)
    # One head at a time: all at once would take gigabytes for the largest models.
    apart = torch.stack([(theirs - head).pow(2).mean(1).sqrt() for head in ours])
    if other is atlas:
        apart.fill_diagonal_(torch.inf)
    shapes = [(table.info["n_layers"], table.info["n_heads"]) for table in (atlas, other)]
    return apart.reshape(*shapes[0], *shapes[1])


def _check_head(atlas: Atlas, layer: int, head: int) -> None:
    n_layers, n_heads = atlas.info["n_layers"], atlas.info["n_heads"]
    if not (0 <= layer < n_layers and 0 <= head < n_heads):
        raise ValueError(
            f"{atlas.info['model']} has no L{layer}H{head}: {n_layers} layers of {n_heads} heads."
        )
