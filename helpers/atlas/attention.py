"""Scores that are read off attention patterns, and the runs that they are read off.

A pattern score maps a batch of patterns to one value for each row and head, and that is all it takes
to add one: write the function, give it a docstring with the four fields, and hand it to
:func:`pattern_samples`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.atlas.scores import Measured
from helpers.precision import in_float
from helpers.progress import progress_bar
from helpers.replay import hook_names_of

PatternScore = Callable[[Float[Tensor, "batch head dest src"]], Float[Tensor, "batch head"]]

LOCAL_WINDOW = 8


def previous_token(pattern: Float[Tensor, "batch head dest src"]) -> Float[Tensor, "batch head"]:
    """Attention to the token before. Measured on random tokens repeated twice.

    Formula: mean over i >= 1 of A[i, i-1].
    Range: 0 to 1; 1 if the head attends nowhere else.
    Null: even attention, mean over i >= 1 of 1/(i+1).
    Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.

    Example:
        >>> previous_token(torch.eye(6).roll(1, 0)[None, None])
        tensor([[1.]])
    """
    return _diagonal(pattern, 1)


def duplicate_token(pattern: Float[Tensor, "batch head dest src"]) -> Float[Tensor, "batch head"]:
    """Attention to the earlier copy of the same token. Measured on n random tokens repeated twice.

    Formula: mean over i >= n of A[i, i-n].
    Range: 0 to 1; 1 if the head attends nowhere else.
    Null: even attention, mean over i >= n of 1/(i+1).
    Source: Wang et al. 2022, Interpretability in the Wild (arXiv 2211.00593).

    Example:
        >>> duplicate_token(torch.eye(6).roll(3, 0)[None, None])  # three tokens, twice
        tensor([[1.]])
    """
    return _diagonal(pattern, pattern.shape[-1] // 2)


def induction(pattern: Float[Tensor, "batch head dest src"]) -> Float[Tensor, "batch head"]:
    """Attention to what followed the earlier copy. Measured on n random tokens repeated twice.

    Formula: mean over i >= n-1 of A[i, i-n+1].
    Range: 0 to 1; 1 if the head attends nowhere else.
    Null: even attention, mean over i >= n-1 of 1/(i+1).
    Source: Olsson et al. 2022, In-context Learning and Induction Heads.

    Example:
        >>> induction(torch.eye(6).roll(2, 0)[None, None])  # three tokens, twice
        tensor([[1.]])
    """
    return _diagonal(pattern, pattern.shape[-1] // 2 - 1)


def first_token(pattern: Float[Tensor, "batch head dest src"]) -> Float[Tensor, "batch head"]:
    """Attention to the first token, where heads rest that have nothing to do. Measured on text.

    Formula: mean over i >= 1 of A[i, 0].
    Range: 0 to 1; 1 if the head attends nowhere else.
    Null: even attention, mean over i >= 1 of 1/(i+1).
    Source: Xiao et al. 2023, Efficient Streaming Language Models with Attention Sinks
    (arXiv 2309.17453).

    Example:
        >>> first_token(torch.eye(6)[:1].expand(6, 6)[None, None])
        tensor([[1.]])
    """
    return in_float(pattern[..., 1:, 0]).mean(-1)


def self_attention(pattern: Float[Tensor, "batch head dest src"]) -> Float[Tensor, "batch head"]:
    """Attention of a token to itself. Measured on text.

    Formula: mean over i >= 1 of A[i, i].
    Range: 0 to 1; 1 if the head attends nowhere else.
    Null: even attention, mean over i >= 1 of 1/(i+1).
    Source: Clark et al. 2019, What Does BERT Look At? (arXiv 1906.04341).

    Example:
        >>> self_attention(torch.eye(6)[None, None])
        tensor([[1.]])
    """
    return in_float(pattern.diagonal(dim1=-2, dim2=-1)[..., 1:]).mean(-1)


def local_window(pattern: Float[Tensor, "batch head dest src"]) -> Float[Tensor, "batch head"]:
    """Attention to the eight tokens before, the token itself left out. Measured on text.

    Formula: mean over i >= 8 of the sum over d = 1 … 8 of A[i, i-d].
    Range: 0 to 1; 1 if the head attends nowhere else.
    Null: even attention, mean over i >= 8 of 8/(i+1).
    Source: Clark et al. 2019, What Does BERT Look At? (arXiv 1906.04341).

    Example:
        >>> local_window(torch.eye(20).roll(5, 0)[None, None])  # always the fifth before
        tensor([[1.]])
    """
    offsets = range(1, LOCAL_WINDOW + 1)
    diagonals = [pattern.diagonal(-d, dim1=-2, dim2=-1)[..., LOCAL_WINDOW - d :] for d in offsets]
    return in_float(torch.stack(diagonals)).sum(0).mean(-1)


def entropy(pattern: Float[Tensor, "batch head dest src"]) -> Float[Tensor, "batch head"]:
    """How evenly attention is spread, as a share of what it could be. Measured on text.

    Formula: mean over i >= 1 of -sum over j of A[i, j] ln A[i, j] / ln(i+1).
    Range: 0 to 1; 0 if all attention goes to one token.
    Null: even attention, 1.
    Source: Clark et al. 2019, What Does BERT Look At? (arXiv 1906.04341).

    Example:
        >>> entropy(even_attention(6)), entropy(torch.eye(6)[None, None])
        (tensor([[1.]]), tensor([[0.]]))
    """
    entropies = torch.special.entr(in_float(pattern)).sum(-1)[..., 1:]
    seen = torch.arange(2, pattern.shape[-1] + 1, device=pattern.device)
    return (entropies / seen.log()).mean(-1)


REPEATED_SCORES = (previous_token, duplicate_token, induction)
TEXT_SCORES = (first_token, self_attention, local_window, entropy)


def _diagonal(pattern: Tensor, offset: int) -> Tensor:
    return in_float(pattern.diagonal(-offset, dim1=-2, dim2=-1)).mean(-1)


def even_attention(length: int) -> Float[Tensor, "1 1 dest src"]:
    """The pattern of a head that spreads its attention evenly over what it can see.

    Example:
        >>> even_attention(2)
        tensor([[[[1.0000, 0.0000],
                  [0.5000, 0.5000]]]])
    """
    seen = torch.arange(1, length + 1.0)
    return (torch.ones(length, length) / seen[:, None]).tril()[None, None]


@torch.no_grad()
def pattern_samples(
    model: TransformerBridge,
    tokens: Int[Tensor, "row position"],
    scores: Mapping[str, PatternScore],
    *,
    rows_at_once: int = 4,
    progress: bool | None = None,
) -> dict[str, Measured]:
    """Pattern scores of every head, one sample a row of tokens.

    Args:
        model: any causal decoder.
        tokens: one or more rows of equal length.
        scores: functions such as :func:`induction`, by name.
        rows_at_once: how many rows run in one forward pass; one layer's patterns are held at a time.
        progress: show a bar. ``None``: in a terminal or a notebook.

    Returns:
        For each score its samples and its null, which is the score of :func:`even_attention`.

    Example:
        >>> measured = pattern_samples(model, prompts.tokens, {"rests": first_token})
        >>> measured["rests"].value.shape == (model.cfg.n_layers, model.cfg.n_heads)
        True
    """
    rows, length = tokens.shape
    shape = (rows, model.cfg.n_layers, model.cfg.n_heads)
    samples = {name: torch.zeros(shape) for name in scores}
    names = hook_names_of(model, "pattern", range(model.cfg.n_layers))
    with progress_bar("attention patterns", rows, progress) as bar:
        for start in range(0, rows, rows_at_once):
            some = tokens[start : start + rows_at_once]

            def keep_scores(pattern: Tensor, hook, first: int = start) -> None:
                for name, score in scores.items():
                    values = score(pattern.float()).cpu()
                    samples[name][first : first + len(values), hook.layer()] = values

            model.run_with_hooks(
                some.to(model.cfg.device),
                return_type=None,
                fwd_hooks=[(names.__contains__, keep_scores)],
            )
            bar.update(len(some))
    even = even_attention(length)
    return {name: Measured(samples[name], score(even).item()) for name, score in scores.items()}
