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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.models import n_key_value_heads
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
    first_difference,
    forward,
    hook_names_of,
    keep,
    measure,
    prompts_at_once,
    run_base,
    run_patched,
    unpatched_metric,
)
from helpers.work import Pool, Recipe, Run, Work, finished

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
    on: Pool | None = None,
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
            about half a gigabyte, and on a CPU seconds.
        progress: show a bar. ``None``: in a terminal or a notebook.
        on: :class:`helpers.cluster.Workers` that make the passes; ``None`` for this process.

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
    hook_names_of(model, site, layers)  # refuses a site that the model does not have
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1; got {chunk}.")
    if by_position is None:
        by_position = site in BLOCK_SITES
    groups = [[position] for position in positions] if by_position else [positions]

    first = first_difference(base_tokens, source_tokens)
    base = checked_base(model, base_tokens, site, max(layers), first)
    unpatched = unpatched_metric(model, metric, base)

    cells: list[Cell] = list(product(layers, heads_or_none))
    values = unpatched.expand(len(cells), len(groups), *unpatched.shape).clone()
    passes = _plan(model, base, cells, groups, first, chunk)
    tasks = [([cells[row] for row in rows], columns) for _, columns, rows in passes]
    sweep = _Sweep(base_tokens, source_tokens, site, metric, tuple(layers), first)
    work = _work(model, site, sweep, tasks, tasks)
    prepare = partial(sweep.prepare, model, base)
    for index, measured in finished(model, work, on=on, progress=progress, prepare=prepare):
        group, _, rows = passes[index]
        values[rows, group] = measured.to(values)

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
    on: Pool | None = None,
) -> Float[Tensor, "patch ..."]:
    """Metric of the base run, with one head's output ``z`` at a time replaced by a given one.

    For what no single run holds: a head that looks as in one run and reads as in another, say.

    Args:
        model, base_tokens, metric, chunk, progress, on: as for :func:`patch_sweep`.
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
    places = [([cells[row] for row in rows], columns) for _, _, rows in passes]
    tasks = [
        (*place, [outputs[row][:, columns] for row in rows])
        for place, (_, _, rows) in zip(places, passes, strict=True)
    ]
    given = _GivenOutputs(base_tokens, metric)
    work = _work(model, "z", given, tasks, places)
    prepare = partial(given.prepare, model, base)
    for index, measured in finished(model, work, on=on, progress=progress, prepare=prepare):
        result[passes[index][2]] = measured.to(result)
    return result


# The cells of a pass, and the positions patched.
Place = tuple[list[Cell], list[int]]


@dataclass(frozen=True)
class _Sweep:
    """What the passes of a sweep share. A task is the place of one."""

    base_tokens: Int[Tensor, "batch position"]
    source_tokens: Int[Tensor, "batch position"]
    site: str
    metric: Metric
    layers: tuple[int, ...]
    first: int

    def prepare(self, model: TransformerBridge, base: BaseRun | None = None) -> Run:
        base = base or run_base(model, self.base_tokens.to(model.cfg.device))
        source: Activations = {}
        differing = self.source_tokens[:, self.first :].to(model.cfg.device)
        names = hook_names_of(model, self.site, self.layers)
        forward(model, differing, [keep(source, names)], PrefixCache(base.cache, self.first))

        def run(task: Place, tick: Callable[..., object]) -> Float[Tensor, "cell ..."]:
            cells, columns = task
            kept = [column - self.first for column in columns]
            values = [source[layer][at_columns(self.site, kept, head)] for layer, head in cells]
            final = run_patched(model, base, values, self.site, cells, columns, tick)
            return measure(model, self.metric, final, _where(self.site, task, base.tokens))

        return run


@dataclass(frozen=True)
class _GivenOutputs:
    """What the passes share that replace heads' outputs by given ones; these come with each task."""

    base_tokens: Int[Tensor, "batch position"]
    metric: Metric

    def prepare(self, model: TransformerBridge, base: BaseRun | None = None) -> Run:
        base = base or run_base(model, self.base_tokens.to(model.cfg.device))

        def run(
            task: tuple[list[Cell], list[int], list[Tensor]], tick: Callable[..., object]
        ) -> Float[Tensor, "cell ..."]:
            cells, columns, given = task
            outputs = [output.to(model.cfg.device) for output in given]
            final = run_patched(model, base, outputs, "z", cells, columns, tick)
            return measure(model, self.metric, final, _where("z", (cells, columns), base.tokens))

        return run


def _work(
    model: TransformerBridge, site: str, recipe: Recipe, tasks: Sequence[Any], places: Sequence[Place]
) -> Work:
    sizes = [model.cfg.n_layers] * len(tasks)
    return Work(
        f"patching {site}", recipe, tasks, [_place_name(site, *place) for place in places], sizes
    )


def _place_name(site: str, cells: Sequence[Cell], columns: Sequence[int]) -> str:
    """Such as "z at L0H1 … L3H2, positions 4, 5"."""
    ends = dict.fromkeys(f"L{layer}" if head is None else f"L{layer}H{head}" for layer, head in cells)
    names = list(ends)
    where = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
    positions = f"position{'s' * (len(columns) > 1)} {', '.join(map(str, columns))}"
    return f"{site} at {where}, {positions}"


def _where(site: str, place: Place, tokens: Int[Tensor, "batch position"]) -> Callable[[int], str]:
    """In words, which run of a pass it was in which a metric failed."""

    def name(cell: int) -> str:
        prompts = "prompt 0" if len(tokens) == 1 else f"prompts 0 to {len(tokens) - 1}"
        first = " ".join(map(str, tokens[0].tolist()))
        return (
            f"While measuring {prompts} with {_place_name(site, [place[0][cell]], place[1])} patched; "
            f"prompt 0 has the tokens {first}."
        )

    return name


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
