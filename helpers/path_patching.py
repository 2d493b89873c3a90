"""Direct path patching: what one head tells another, through its query, key or value, and nothing else.

The sender's output changes as it does between two runs, and only one input of one receiver hears of it
("Interpretability in the Wild", Wang et al., 2022; "Localizing Model Behavior with Path Patching",
Goldowsky-Dill et al., 2023). :func:`path_patch_sweep` returns what
``transformer_lens.patching.get_act_patch_direct_path`` returns, for all senders of one receiver at
once, and also for keys and values that query heads share.

It takes a head's output to reach the residual stream as ``z W_O``, and refuses models in which it does
not (Gemma 2 normalises what attention writes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.head_scores import Head, top_heads
from helpers.precision import precision_of, rounding_of
from helpers.replay import (
    Activations,
    BaseRun,
    Hook,
    Metric,
    check_model,
    check_replay,
    check_site,
    check_tokens,
    chosen,
    first_difference,
    forward,
    hook_names_of,
    keep,
    measure,
    prompts_at_once,
    receiver_inputs,
    run_base,
    run_receiver,
    side_by_side,
    unpatched_metric,
)
from helpers.work import Pool, Run, Work, finished


class Path(NamedTuple):
    """What an earlier head tells an input of a later one.

    ``sender`` carries the effect as its value; ``through`` is "query", "key" or "value".

    Example:
        >>> path = Path(sender=Head(5, 5, 0.4), through="key", receiver=Head(7, 3, 1.0))
        >>> f"{path.sender.name} speaks to the {path.through} of {path.receiver.name}"
        'L5H5 speaks to the key of L7H3'
    """

    sender: Head
    through: str
    receiver: Head


def strongest_paths(
    effects: Mapping[str, Float[Tensor, "layer head"]],
    receiver: Head,
    count: int = 4,
    *,
    at_least: float = 0.0,
) -> list[Path]:
    """The direct paths into a head of largest effect, strongest first.

    Args:
        effects: for each input of the receiver ("query", "key", "value"), the effect of each sender.
        receiver: the head that hears.
        count: how many paths at most.
        at_least: the size that a path must have, without sign.

    Example:
        >>> effects = {"query": torch.tensor([[0.1, -0.7]]), "key": torch.tensor([[0.3, 0.0]])}
        >>> paths = strongest_paths(effects, receiver=Head(1, 0, 1.0), count=2)
        >>> [(path.sender.name, path.through) for path in paths]
        [('L0H1', 'query'), ('L0H0', 'key')]
    """
    paths = [
        Path(sender, through, receiver)
        for through, values in effects.items()
        for sender in top_heads(values, min(count, values.numel()), by_size=True)
        if abs(sender.value) >= at_least
    ]
    return sorted(paths, key=lambda path: -abs(path.sender.value))[:count]


@torch.no_grad()
def path_patch_sweep(
    model: TransformerBridge,
    base_tokens: Int[Tensor, "batch position"],
    source_tokens: Int[Tensor, "batch position"],
    receiver: tuple[int, int],
    through: Literal["q", "k", "v"],
    metric: Metric,
    *,
    chunk: int | None = None,
    progress: bool | None = None,
    on: Pool | None = None,
) -> Float[Tensor, "layer head ..."]:
    """Metric of the base run, with one input of a head hearing one earlier head as in the source run.

    For each sender the change of what it writes, ``(z_source - z_base) W_O`` at every position, is
    added to the residual stream that the receiver's query (or key, or value) is computed from. Layer
    norm is recomputed, so the intervention is exact; every other reader sees the base run.

    Args:
        model: a causal decoder whose heads add ``z W_O`` to the residual stream, as almost all do, in
            eval mode and without hooks.
        base_tokens: the prompts that are run and patched, all of one length, unpadded.
        source_tokens: the prompts the senders' outputs come from, row by row.
        receiver: (layer, head), in query heads; a shared key or value changes for this head alone.
        through: the input that hears the sender.
        metric: as for :func:`helpers.patching.patch_sweep`; the result is not normalised.
        chunk: how many patched prompts run at once. ``None``: as many as take about half a gigabyte,
            and on a CPU seconds.
        progress: show a bar. ``None``: in a terminal or a notebook.
        on: :class:`helpers.cluster.Workers` that make the passes; ``None`` for this process.

    Returns:
        The metric for each sender. From the receiver's own layer on, where no path leads to it, the
        metric of the unpatched run.

    Raises:
        ValueError: before any patching, as for :func:`helpers.patching.patch_sweep`, and if the
            receiver or the input does not exist or nothing comes before the receiver.
        NotImplementedError: before any patching, as for :func:`helpers.patching.patch_sweep`, and if
            what an attention layer adds to the residual stream is not the sum of its heads'
            ``z W_O`` and its bias.

    Example:
        >>> metric = prompts.metric()
        >>> clean, corrupted = prompts.tokens, prompts.corrupted_tokens
        >>> heard = path_patch_sweep(model, corrupted, clean, (2, 0), "q", metric)
        >>> heard.shape == (model.cfg.n_layers, model.cfg.n_heads)  # of each sender
        True
    """
    check_model(model)
    check_tokens(base_tokens, source_tokens)
    layer, head = _check_receiver(model, receiver, through)
    first = first_difference(base_tokens, source_tokens)
    paths = _Paths(base_tokens, source_tokens, (layer, head), through, metric, first)
    beside_attention: Activations = {}
    base, base_z, base_inputs = paths.run_base(
        model, [keep(beside_attention, _beside_attention(model, range(layer)))]
    )
    check_replay(model, base, first)
    unpatched = unpatched_metric(model, metric, base)
    check_site(model, base, through, layer, base_inputs[layer], first)
    check_site(model, base, "z", layer, base_z[layer], first)
    _check_writes(model, base, base_z, beside_attention)

    senders = list(product(range(layer), range(model.cfg.n_heads)))
    shape = (model.cfg.n_layers, model.cfg.n_heads)
    values = unpatched.expand(*shape, *unpatched.shape).clone()
    size = max(1, (chunk or prompts_at_once(model, base_tokens.shape[1], first)) // len(base_tokens))
    tasks = [senders[start : start + size] for start in range(0, len(senders), size)]
    names = [f"senders L{some[0][0]}H{some[0][1]} … L{some[-1][0]}H{some[-1][1]}" for some in tasks]
    work = Work(f"paths into L{layer}H{head}", paths, tasks, names, [len(some) for some in tasks])
    prepare = partial(paths.prepare, model, (base, base_z))
    for index, measured in finished(model, work, on=on, progress=progress, prepare=prepare):
        for (sender_layer, sender_head), value in zip(tasks[index], measured, strict=True):
            values[sender_layer, sender_head] = value
    return values


@dataclass(frozen=True)
class _Paths:
    """What all senders of one receiver share. A task is a list of senders."""

    base_tokens: Int[Tensor, "batch position"]
    source_tokens: Int[Tensor, "batch position"]
    receiver: tuple[int, int]
    through: str
    metric: Metric
    first: int

    def run_base(
        self, model: TransformerBridge, also: Sequence[Hook] = ()
    ) -> tuple[BaseRun, Activations, Activations]:
        """The unpatched run, heads' outputs up to the receiver's layer, and what that layer hears."""
        layer = self.receiver[0]
        base_z: Activations = {}
        base_inputs: Activations = {}
        hooks = [
            keep(base_z, hook_names_of(model, "z", range(layer + 1))),
            keep(base_inputs, hook_names_of(model, self.through, [layer])),
            *also,
        ]
        base = run_base(model, self.base_tokens.to(model.cfg.device), hooks)
        return base, base_z, base_inputs

    def prepare(self, model: TransformerBridge, ready: tuple[BaseRun, Activations] | None = None) -> Run:
        base, base_z = ready or self.run_base(model)[:2]
        layer, _ = self.receiver
        source_z: Activations = {}
        z_names = hook_names_of(model, "z", range(layer + 1))
        forward(model, self.source_tokens.to(model.cfg.device), [keep(source_z, z_names)])
        resid = base.resid_pre[layer][:, self.first :]

        def run(
            senders: list[tuple[int, int]], tick: Callable[..., object]
        ) -> Float[Tensor, "sender ..."]:
            heard = [
                resid + _change(model, base_z, source_z, *sender)[:, self.first :] for sender in senders
            ]
            inputs = receiver_inputs(model, base, torch.cat(heard), self.through, layer, self.first)
            final = run_receiver(
                model, base, base_z[layer], inputs, self.through, self.receiver, self.first
            )
            final = final.unflatten(0, (len(senders), len(base.tokens)))
            tick(len(senders))
            return measure(model, self.metric, final, partial(self._where, senders))

        return run

    def _where(self, senders: Sequence[tuple[int, int]], cell: int) -> str:
        layer, head = senders[cell]
        return (
            f"While measuring {len(self.base_tokens)} prompts with what L{layer}H{head} tells the "
            f"{self.through} of L{self.receiver[0]}H{self.receiver[1]} patched."
        )


def _check_receiver(model: TransformerBridge, receiver: Sequence[int], through: str) -> tuple[int, int]:
    [layer] = chosen("layers", receiver[:1], model.cfg.n_layers)
    [head] = chosen("heads", receiver[1:], model.cfg.n_heads)
    if layer == 0:
        raise ValueError("A receiver in layer 0 hears no head; choose one in a later layer.")
    if through not in ("q", "k", "v"):
        raise ValueError(f"through must be 'q', 'k' or 'v'; got {through!r}.")
    return layer, head


def _beside_attention(model: TransformerBridge, layers: Iterable[int]) -> set[str]:
    """Where to see what tells attention's writes from the MLP's.

    The residual stream between the two; or, where they run side by side, the MLP's output.
    """
    return hook_names_of(model, "mlp_out" if side_by_side(model) else "resid_mid", layers)


def _check_writes(
    model: TransformerBridge, base: BaseRun, base_z: Activations, beside_attention: Activations
) -> None:
    """Refuse a model whose attention adds something else to the residual stream than its heads' sum."""
    eps = rounding_of(precision_of(model))
    for layer, kept in beside_attention.items():
        before, attn = base.resid_pre[layer], model.blocks[layer].attn
        after = base.resid_pre[layer + 1] - kept if side_by_side(model) else kept.view_as(before)
        write = after - before
        heads = torch.einsum("bphd,hdm->bpm", base_z[layer], attn.W_O)
        off = heads - write if attn.b_O is None else heads + attn.b_O - write
        # Rounding in W_O's product, and in what the stream keeps of it beside its own size.
        allowed = eps**0.5 * write.norm(dim=-1) + 8 * eps * after.norm(dim=-1)
        if not (off.norm(dim=-1) <= allowed).all():
            raise NotImplementedError(
                f"In {model.cfg.model_name}, layer {layer}, attention does not add the sum of its heads'"
                " z W_O to the residual stream (it may be normalised first, as in Gemma 2, or scaled). "
                "What one head tells another is then not z W_O, and this sweep would be wrong; "
                "patch_sweep, which replaces whole activations, is exact here too."
            )


def _change(
    model: TransformerBridge, base_z: Activations, source_z: Activations, layer: int, head: int
) -> Float[Tensor, "batch position d_model"]:
    """How what a head writes differs between the runs."""
    return (source_z[layer] - base_z[layer])[:, :, head] @ model.blocks[layer].attn.W_O[head]
