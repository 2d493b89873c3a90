"""Exact activation patching, many sites in one forward pass.

Activation patching (Meng et al., 2022, "Locating and Editing Factual Associations in GPT"; Wang et
al., 2022, "Interpretability in the Wild") replaces one activation of a run by its value in another
run and asks what becomes of the output. :func:`patch_sweep` does it for every layer, head and
position asked for. It returns what the functions of ``transformer_lens.patching`` return, but
computes nothing twice (the machinery is in :mod:`helpers.replay`):

- A causal model has the same activations in both runs before the first token that differs. Those
  positions need no run; later ones find their keys and values in the base run's cache.
- A patch at position p changes nothing before p, so each position is swept on its own suffix.
- A patch at layer l changes nothing below l. The batch grows as one forward pass climbs the stack:
  at each block it gains a copy of the base run's residual stream for every site in that block.
- Only the final position is unembedded, and only the answer tokens if the metric is a
  :class:`~helpers.logit_diff.LogitDiff` or a :class:`~helpers.answers.GroupDiff`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.models import n_key_value_heads
from helpers.progress import progress_bar
from helpers.replay import (
    Activations,
    BaseRun,
    Cell,
    Metric,
    PrefixCache,
    at_columns,
    check_model,
    check_tokens,
    checked_base,
    chosen,
    forward,
    hook_names_of,
    keep,
    measure,
    prompts_at_once,
    run_patched,
    unpatched_metric,
)

BLOCK_SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
HEAD_SITES = ("z", "q", "k", "v", "pattern")


@torch.no_grad()
def patch_sweep(
    model: TransformerBridge,
    base_tokens: Int[Tensor, "batch position"],
    source_tokens: Int[Tensor, "batch position"],
    site: str,
    metric: Metric,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    by_position: bool | None = None,
    chunk: int | None = None,
    progress: bool | None = None,
) -> Float[Tensor, "layer ..."]:
    """Metric of the base run, with one activation at a time taken from the source run.

    Args:
        model: any causal decoder that TransformerLens loads, in eval mode and without hooks.
        base_tokens: the prompts that are run and patched, all of one length, unpadded.
        source_tokens: the prompts the activations come from, row by row.
        site: what is replaced, by TransformerLens's names. The residual stream before, within and
            after a block (``resid_pre``, ``resid_mid``, ``resid_post``); what a layer adds to it
            (``attn_out``, ``mlp_out``); a head's output before W_O (``z``), query, key, value
            (``q``, ``k``, ``v``; before rotation, key/value heads where they are shared) or
            attention pattern (``pattern``, the row of a destination position).
        metric: from the logits at the final position to a scalar, or to one value for each prompt.
            The result is the raw metric, not normalised.
        layers, heads, positions: the subset to sweep, in the order wanted; ``None`` for all.
        by_position: patch one position at a time, or all of ``positions`` together. ``None``: one
            at a time at sites without heads, together at sites with heads.
        chunk: how many patched prompts run at once, at least one batch. ``None``: as many as take
            about half a gigabyte.
        progress: show a bar. ``None``: in a terminal or a notebook.

    Returns:
        The metric for each layer, head (at sites with heads), position (``by_position``) and prompt
        (if the metric keeps prompts apart), in that order of axes.

    Raises:
        ValueError: before any patching, if the runs differ in shape or nowhere, the site, a layer,
            head or position does not exist, the metric gives a wrong shape or NaN, or the model has
            hooks or is in training mode.
        NotImplementedError: before any patching, if the model is not causal; if what this module
            computes for an unpatched run is not what the model itself computes (logits scaled after
            unembedding, say, or a cache of another kind than keys and values); or if the model
            does not let itself be patched at the site (it ignores what a hook returns there, or
            cannot take a batch that grows from block to block, as ALiBi models such as Bloom).

    Example:
        >>> metric = prompts.metric()
        >>> effects = patch_sweep(model, prompts.corrupted_tokens, prompts.tokens, "resid_pre", metric)
        >>> effects.shape == (model.cfg.n_layers, prompts.tokens.shape[1])  # layer, position
        True
        >>> torch.allclose(effects[0, prompts.changed_positions], metric(logits[:, -1]), atol=1e-3)
        True
    """
    check_model(model)
    check_tokens(base_tokens, source_tokens)
    layers = chosen("layers", layers, model.cfg.n_layers)
    heads_or_none = _chosen_heads(model, site, heads)
    positions = chosen("positions", positions, base_tokens.shape[1])
    hook_names = hook_names_of(model, site, layers)
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1; got {chunk}.")
    if by_position is None:
        by_position = site in BLOCK_SITES
    groups = [[position] for position in positions] if by_position else [positions]

    first = int((base_tokens != source_tokens).any(0).nonzero()[0])
    base = checked_base(model, base_tokens, site, max(layers), first)
    unpatched = unpatched_metric(model, metric, base)
    source: Activations = {}
    differing = source_tokens[:, first:].to(model.cfg.device)
    forward(model, differing, [keep(source, hook_names)], PrefixCache(base.cache, first))

    cells: list[Cell] = list(product(layers, heads_or_none))
    values = unpatched.expand(len(cells), len(groups), *unpatched.shape).clone()
    passes = _plan(model, base, cells, groups, first, chunk)
    with progress_bar(f"patching {site}", model.cfg.n_layers * len(passes), progress) as bar:
        for group, columns, rows in passes:
            patches = [cells[row] for row in rows]
            kept = [column - first for column in columns]
            values_at = [source[layer][at_columns(site, kept, head)] for layer, head in patches]
            final = run_patched(model, base, values_at, site, patches, columns, bar.update)
            values[rows, group] = measure(model, metric, final)

    head_axis = [len(heads_or_none)] if site in HEAD_SITES else []
    position_axis = [len(positions)] if by_position else []
    return values.reshape(len(layers), *head_axis, *position_axis, *unpatched.shape)


@torch.no_grad()
def patch_head_outputs(
    model: TransformerBridge,
    base_tokens: Int[Tensor, "batch position"],
    heads: Sequence[tuple[int, int]],
    outputs: Sequence[Float[Tensor, "batch position d_head"]],
    metric: Metric,
    *,
    positions: Sequence[int] | None = None,
    chunk: int | None = None,
    progress: bool | None = None,
) -> Float[Tensor, "patch ..."]:
    """Metric of the base run, with one head's output ``z`` at a time replaced by a given one.

    For what no single run holds: a head that looks as in one run and reads as in another, say.

    Args:
        model, base_tokens, metric, chunk, progress: as for :func:`patch_sweep`.
        heads: (layer, head) of each patch; a head may come more than once.
        outputs: what replaces its output, before W_O, at all positions.
        positions: where it is replaced; ``None`` for everywhere. Fewer leading ones are faster.

    Returns:
        The metric for each patch, and for each prompt if the metric keeps prompts apart.

    Raises:
        ValueError: before any patching, as for :func:`patch_sweep`, and if an output has a wrong shape.

    Example:
        >>> metric = prompts.metric()
        >>> nothing = torch.zeros(*prompts.tokens.shape, model.cfg.d_head)
        >>> patch_head_outputs(model, prompts.tokens, [(0, 1), (1, 2)], [nothing, nothing], metric).shape
        torch.Size([2])
    """
    check_model(model)
    columns = sorted(chosen("positions", positions, base_tokens.shape[1]))
    shape = (*base_tokens.shape, model.cfg.d_head)
    cells: list[Cell] = []
    for (layer, head), output in zip(heads, outputs, strict=True):
        chosen("layers", [layer], model.cfg.n_layers)
        chosen("heads", [head], model.cfg.n_heads)
        if output.shape != shape:
            raise ValueError(
                f"The output for L{layer}H{head} must be {shape}; it is {tuple(output.shape)}."
            )
        cells.append((layer, head))
    base = checked_base(
        model, base_tokens, "z", max((layer for layer, _ in cells), default=0), columns[0]
    )
    unpatched = unpatched_metric(model, metric, base)

    result = unpatched.expand(len(cells), *unpatched.shape).clone()
    passes = _plan(model, base, cells, [columns], 0, chunk)
    with progress_bar("patching z", model.cfg.n_layers * len(passes), progress) as bar:
        for _, _, rows in passes:
            values = [outputs[row][:, columns] for row in rows]
            patches = [cells[row] for row in rows]
            final = run_patched(model, base, values, "z", patches, columns, bar.update)
            result[rows] = measure(model, metric, final)
    return result


def _plan(
    model: TransformerBridge,
    base: BaseRun,
    cells: Sequence[Cell],
    groups: Sequence[Sequence[int]],
    first: int,
    chunk: int | None,
) -> list[tuple[int, list[int], list[int]]]:
    """Forward passes to make: for each, the group, its columns and the rows of ``cells``.

    A patch before the first difference changes nothing and needs no pass.
    """
    ascending = sorted(range(len(cells)), key=lambda row: cells[row][0])
    passes = []
    for group, positions in enumerate(groups):
        columns = sorted({position for position in positions if position >= first})
        if columns:
            prompts = chunk or prompts_at_once(model, base.tokens.shape[1], columns[0])
            size = max(1, prompts // len(base.tokens))
            rows = (ascending[i : i + size] for i in range(0, len(cells), size))
            passes += [(group, columns, some) for some in rows]
    return passes


def _chosen_heads(
    model: TransformerBridge, site: str, heads: Sequence[int] | None
) -> Sequence[int | None]:
    if site in BLOCK_SITES:
        if heads is not None:
            raise ValueError(f"The site {site!r} has no heads.")
        return [None]
    if site not in HEAD_SITES:
        raise ValueError(f"site must be one of {BLOCK_SITES + HEAD_SITES}; got {site!r}.")
    n_heads = n_key_value_heads(model) if site in ("k", "v") else model.cfg.n_heads
    return chosen("heads", heads, n_heads)
