"""How much each attention head looks like a head of a known kind.

The scores are attention averages on random tokens repeated twice, where nothing but the repetition is
there to be noticed ("In-context Learning and Induction Heads", Olsson et al., 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities import get_act_name

from helpers.precision import in_float


class Head(NamedTuple):
    """An attention head and a value measured for it.

    Example:
        >>> Head(9, 6, 1.25).name
        'L9H6'
    """

    layer: int
    head: int
    value: float

    @property
    def name(self) -> str:
        return f"L{self.layer}H{self.head}"


def top_heads(
    values: Float[Tensor, "layer head"], count: int, *, smallest: bool = False, by_size: bool = False
) -> list[Head]:
    """The ``count`` heads of largest value, most extreme first.

    Args:
        values: one for each head.
        count: how many heads.
        smallest: the smallest, most negative ones instead.
        by_size: those of largest magnitude instead; each keeps its sign.

    Raises:
        ValueError: if there are fewer heads, ``values`` is not [layer, head], or both orders asked for.

    Example:
        >>> top_heads(torch.tensor([[0.25, -1.0], [0.5, 0.0]]), 2, by_size=True)
        [Head(layer=0, head=1, value=-1.0), Head(layer=1, head=0, value=0.5)]
    """
    if smallest and by_size:
        raise ValueError("Choose one of smallest and by_size; got both.")
    if values.ndim != 2 or not 0 < count <= values.numel():
        raise ValueError(
            f"Expected values [layer, head] and 0 < count <= {values.numel()}; "
            f"got shape {tuple(values.shape)} and count {count}."
        )
    order = values.abs() if by_size else values
    cells = [
        divmod(index, values.shape[1])
        for index in order.flatten().topk(count, largest=not smallest).indices.tolist()
    ]
    return [Head(layer, head, values[layer, head].item()) for layer, head in cells]


def repeated_random_tokens(
    model: TransformerBridge,
    *,
    batch: int = 2,
    length: int = 100,
    seed: int = 0,
    low: int = 100,
    high: int = 20_000,
) -> Int[Tensor, "batch 2*length"]:
    """Uniformly random tokens, each row followed by a copy of itself; no beginning-of-sequence token.

    The defaults are those of the published GPT-2 small scores. The same seed gives the same tokens on
    every machine, whatever else drew random numbers.

    Raises:
        ValueError: if the token range is empty or leaves the vocabulary, or a size is not positive.

    Example:
        >>> tokens = repeated_random_tokens(model, length=10, high=model.cfg.d_vocab)
        >>> tokens.shape, torch.equal(tokens[:, :10], tokens[:, 10:])
        (torch.Size([2, 20]), True)
    """
    if batch < 1 or length < 2:
        raise ValueError(f"batch must be >= 1 and length >= 2; got {batch} and {length}.")
    if not 0 <= low < high <= model.cfg.d_vocab:
        raise ValueError(
            f"Token ids must satisfy 0 <= low < high <= {model.cfg.d_vocab} (the vocabulary of "
            f"{model.cfg.model_name}); got low={low}, high={high}."
        )
    generator = torch.Generator().manual_seed(seed)
    once = torch.randint(low, high, (batch, length), generator=generator)
    return torch.cat([once, once], dim=1).to(model.cfg.device)


def diagonal_score(pattern: Float[Tensor, "batch head dest src"], offset: int) -> Float[Tensor, " head"]:
    """Average attention from each position to the one ``offset`` before it, from 0 to 1.

    A head that attends nowhere else scores 1. One that spreads evenly over the positions it can see
    scores the mean of 1 / (position + 1) over the diagonal.

    Example:
        >>> pattern = torch.eye(5).roll(1, 0)[None, None]  # a head that attends to the token before
        >>> diagonal_score(pattern, 1)
        tensor([1.])
    """
    return in_float(pattern.diagonal(-offset, dim1=-2, dim2=-1)).mean(dim=(0, -1))


def kind_offsets(length: int) -> dict[str, int]:
    """How far back each kind of head looks on tokens that repeat after ``length`` positions.

    Example:
        >>> kind_offsets(50)
        {'previous token': 1, 'duplicate token': 50, 'induction': 49}
    """
    return {
        "previous token": 1,
        "duplicate token": length,  # the earlier copy of this token
        "induction": length - 1,  # what followed the earlier copy
    }


def attention_scores(
    model: TransformerBridge,
    repeated_tokens: Int[Tensor, "batch 2*length"],
    offsets: Mapping[str, int] | None = None,
) -> dict[str, Float[Tensor, "layer head"]]:
    """Previous-token, duplicate-token and induction score of every head, from one run.

    Args:
        repeated_tokens: from :func:`repeated_random_tokens`.
        offsets: other diagonals to score, by name; by default :func:`kind_offsets`.

    Raises:
        ValueError: if the second half of the tokens does not repeat the first.
        NotImplementedError: if a layer shows no attention pattern.

    Example:
        >>> tokens = repeated_random_tokens(model, length=10, high=model.cfg.d_vocab)
        >>> scores = attention_scores(model, tokens)
        >>> top_heads(scores["induction"], 1)
        [Head(layer=..., head=..., value=...)]
    """
    length = repeated_tokens.shape[-1] // 2
    if not torch.equal(repeated_tokens[:, :length], repeated_tokens[:, length:]):
        raise ValueError("repeated_tokens must be the same tokens twice; the two halves differ.")
    offsets = kind_offsets(length) if offsets is None else offsets
    found: dict[int, dict[str, Tensor]] = {}

    def score_pattern(pattern: Float[Tensor, "batch head dest src"], hook) -> None:
        found[hook.layer()] = {
            kind: diagonal_score(pattern, offset).cpu() for kind, offset in offsets.items()
        }

    # Scoring inside the hook keeps one layer's patterns in memory instead of all of them.
    model.run_with_hooks(
        repeated_tokens,
        return_type=None,
        fwd_hooks=[(lambda name: name.endswith("pattern"), score_pattern)],
    )
    missing = [str(layer) for layer in range(model.cfg.n_layers) if layer not in found]
    if missing:
        raise NotImplementedError(
            f"{model.cfg.model_name} shows no attention pattern in layer {', '.join(missing)}, where it "
            "may be recurrent: no head there has a score. Choose a model with attention in all layers, "
            "or score the others from a cache with diagonal_score."
        )
    return {
        kind: torch.stack([found[layer][kind] for layer in range(model.cfg.n_layers)])
        for kind in offsets
    }


def attention_between(
    cache: ActivationCache, destinations: Int[Tensor, " batch"], sources: Int[Tensor, " batch"]
) -> Float[Tensor, "layer head"]:
    """Attention of every head from one position of each prompt to another, averaged over the prompts.

    Args:
        cache: with the attention patterns of all layers.
        destinations: the position that attends, in each prompt.
        sources: the position that is attended to, in each prompt.

    Raises:
        ValueError: if there is not one position of either kind for each prompt of the run.
        NotImplementedError: if the cache has no attention pattern of some layer.

    Example:
        >>> end = prompts.positions["end"]
        >>> attention = attention_between(cache, end, end - 1)  # to the token before
        >>> attention.shape == (model.cfg.n_layers, model.cfg.n_heads)
        True
    """
    layers = range(cache.model.cfg.n_layers)
    missing = [str(layer) for layer in layers if get_act_name("pattern", layer) not in cache]
    if missing:
        raise NotImplementedError(
            f"The cache holds no attention pattern of layer {', '.join(missing)}: keep hook_pattern of "
            f"all layers in it, and choose a model with attention in all of them (this is "
            f"{cache.model.cfg.model_name})."
        )
    batch = cache["pattern", 0].shape[0]
    if not (destinations.shape == sources.shape == (batch,)):
        raise ValueError(
            f"Expected one destination and one source for each of the {batch} prompts; got "
            f"{tuple(destinations.shape)} and {tuple(sources.shape)}."
        )
    rows = torch.arange(batch)
    patterns = (cache["pattern", layer] for layer in layers)
    chosen = [pattern[rows, :, destinations.cpu(), sources.cpu()] for pattern in patterns]
    return torch.stack([in_float(attention).mean(0) for attention in chosen])
