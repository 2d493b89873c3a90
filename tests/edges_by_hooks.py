"""Edges with plain hooks, one at a time: what helpers.edges is compared with.

The reader's norm is given the changed stream, what it leads to is kept, and a second run of the whole
model has that one head's output (or that MLP's input) replaced. Nothing is shared with the helpers but
the names of writers and readers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.edges.graph import Reader, Writer

Hooks = list[tuple[str, Callable[..., Tensor | None]]]


@torch.no_grad()
def edge_by_hooks(
    model: TransformerBridge,
    base: Tensor,
    source: Tensor,
    writer: Writer,
    reader: Reader,
    metric: Callable[[Tensor], Tensor],
    *,
    share: float = 1.0,
) -> Tensor:
    """The metric of the base run when one reader hears one writer as in the source run.

    Or a share of the way from the base run to it.
    """
    change = share * (written(model, source, writer) - written(model, base, writer))
    if reader.through == "logits":
        top = f"blocks.{model.cfg.n_layers - 1}.hook_out"
        hooks: Hooks = [(top, lambda stream, hook: stream + change)]
    elif reader.through == "mlp":
        hooks = _into_mlp(model, reader.layer, change)
    else:
        hooks = into_head(model, base, reader, change)
    return metric(model.run_with_hooks(base, fwd_hooks=hooks)[:, -1])


def written(model: TransformerBridge, tokens: Tensor, writer: Writer) -> Tensor:
    if writer.layer < 0:
        return kept(model, tokens, "blocks.0.hook_in")
    if writer.head is None:
        return kept(model, tokens, f"blocks.{writer.layer}.hook_mlp_out")
    z = kept(model, tokens, f"blocks.{writer.layer}.attn.hook_z")[:, :, writer.head]
    return z @ model.blocks[writer.layer].attn.W_O[writer.head]


def kept(model: TransformerBridge, tokens: Tensor, name: str, hooks: Hooks = ()) -> Tensor:  # type: ignore
    store = {}

    def keep(activation: Tensor, hook: object) -> None:
        store[name] = activation.clone()

    model.run_with_hooks(tokens, fwd_hooks=[*hooks, (name, keep)])
    return store[name]


def _into_mlp(model: TransformerBridge, layer: int, change: Tensor) -> Hooks:
    """Where attention runs beside it, one norm serves both, and the MLP alone is given what it makes."""
    if hasattr(model.blocks[layer], "ln2"):
        return [(f"blocks.{layer}.ln2.hook_in", lambda stream, hook: stream + change)]
    stream = {}

    def keep(activation: Tensor, hook: object) -> None:
        stream["read"] = activation.clone()

    return [
        (f"blocks.{layer}.hook_in", keep),
        (
            f"blocks.{layer}.mlp.hook_in",
            lambda _, hook: model.blocks[layer].ln1(stream["read"] + change),
        ),
    ]


def into_head(model: TransformerBridge, base: Tensor, reader: Reader, change: Tensor) -> Hooks:
    """One head's output as it is when its query, key or value hears a changed stream."""
    layer, head, _ = reader
    attn = f"blocks.{layer}.attn"
    own = kept(model, base, f"{attn}.hook_z")
    hears_it = into_input(model, base, reader, change)
    changed = kept(model, base, f"{attn}.hook_z", hears_it)

    def only_this_head(z: Tensor, hook: object) -> Tensor:
        result = own.clone()
        result[:, :, head] = changed[:, :, head]
        return result

    return [(f"{attn}.hook_z", only_this_head)]


def into_input(model: TransformerBridge, base: Tensor, reader: Reader, change: Tensor) -> Hooks:
    """A query, key or value as it is when it hears a changed stream, for every head that uses it."""
    layer, head, through = reader
    attn = f"blocks.{layer}.attn"
    hears: Hooks = [(f"blocks.{layer}.ln1.hook_in", lambda stream, hook: stream + change)]
    heard = kept(model, base, f"{attn}.hook_{through}", hears)
    shared = head * heard.shape[2] // model.cfg.n_heads

    def give(activation: Tensor, hook: object) -> Tensor:
        result = activation.clone()
        result[:, :, shared] = heard[:, :, shared]
        return result

    return [(f"{attn}.hook_{through}", give)]


@torch.no_grad()
def through_mlps_by_hooks(
    model: TransformerBridge,
    base: Tensor,
    source: Tensor,
    sender: Writer,
    reader: Reader,
    metric: Callable[[Tensor], Tensor],
    *,
    for_its_group: bool = False,
) -> Tensor:
    """The same, when MLPs between the two hear the sender too and pass it on: Wang et al. and ARENA.

    Nothing is frozen here: what heads between say does not come into it, and MLPs are called by hand.
    """
    change = written(model, source, sender) - written(model, base, sender)
    parallel = not hasattr(model.blocks[0], "ln2")
    # Beside attention, an MLP of the sender's own layer does not hear it.
    for layer in range(sender.layer + parallel, reader.layer):
        block = model.blocks[layer]
        name, norm = ("hook_in", block.ln1) if parallel else ("ln2.hook_in", block.ln2)
        stream = kept(model, base, f"blocks.{layer}.{name}")
        change = change + block.mlp(norm(stream + change)) - block.mlp(norm(stream))
    into = into_input if for_its_group else into_head
    return metric(model.run_with_hooks(base, fwd_hooks=into(model, base, reader, change))[:, -1])
