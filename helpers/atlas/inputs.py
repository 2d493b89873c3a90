"""What the scores are measured on: seeded random tokens, and a few passages of text."""

from __future__ import annotations

from importlib import resources

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

REPEATS = 4  # of a block of tokens, for prefix matching
ORDINARY = (100, 20_000)  # token ids: neither the special and commonest ones nor the rarest


def token_range(model: TransformerBridge) -> tuple[int, int]:
    """From which id to below which one random tokens are drawn.

    Example:
        >>> low, high = token_range(model)
        >>> 0 < low < high <= model.cfg.d_vocab
        True
    """
    d_vocab = model.cfg.d_vocab
    return ORDINARY if d_vocab > ORDINARY[1] else (d_vocab // 10, d_vocab)


def start_token(model: TransformerBridge) -> int:
    """Beginning of sequence, or what a tokenizer without one ends a text with.

    Example:
        >>> start_token(model) == model.tokenizer.bos_token_id
        True
    """
    tokenizer = model.tokenizer
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in ids if token is not None)


def sampled_tokens(count: int, seed: int, low: int, high: int) -> Int[Tensor, " token"]:
    """Different random tokens, the same for a seed on every machine.

    Raises:
        ValueError: if the range holds too few.

    Example:
        >>> tokens = sampled_tokens(5, seed=0, low=100, high=200)
        >>> len(tokens.unique())
        5
    """
    if not 1 < count <= high - low:
        raise ValueError(f"count must be 2 … {high - low} (low={low}, high={high}); got {count}.")
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(high - low, generator=generator)[:count] + low


def prefix_tokens(
    model: TransformerBridge, rows: int, block: int, seed: int, low: int, high: int
) -> Int[Tensor, "row position"]:
    """After the beginning of sequence, ``block`` different random tokens, four times.

    Raises:
        ValueError: if the range holds too few tokens.

    Example:
        >>> tokens = prefix_tokens(model, rows=2, block=5, seed=0, low=10, high=100)
        >>> tokens.shape, torch.equal(tokens[:, 1:6], tokens[:, 6:11])
        (torch.Size([2, 21]), True)
    """
    once = torch.stack([sampled_tokens(block, seed * rows + row, low, high) for row in range(rows)])
    first = torch.full((rows, 1), start_token(model))
    return torch.cat([first, once.repeat(1, REPEATS)], dim=1)


def passages(
    model: TransformerBridge, count: int = 12, most_tokens: int = 64
) -> Int[Tensor, "passage position"]:
    """Short passages of English (one is Python), as tokens, cut to one length.

    They start with the beginning-of-sequence token if the model has one.

    Args:
        count: how many of the twelve.
        most_tokens: where they are cut, if none is shorter.

    Raises:
        ValueError: if the shortest is no 16 tokens long, too few to say where a head looks.

    Example:
        >>> passages(model, count=2, most_tokens=20).shape
        torch.Size([2, 20])
    """
    rows = [model.to_tokens(passage)[0] for passage in passage_texts()[:count]]
    length = min(most_tokens, model.cfg.n_ctx, *(len(row) for row in rows))
    if length < 16:
        raise ValueError(
            f"The passages come to {length} tokens of {model.cfg.model_name}; 16 are needed."
        )
    return torch.stack([row[:length] for row in rows])


def passage_texts() -> list[str]:
    """The twelve passages.

    Example:
        >>> len(passage_texts())
        12
    """
    text = resources.files("helpers.atlas").joinpath("passages.txt").read_text(encoding="utf-8")
    return [passage.strip() for passage in text.split("\n=====\n")]
