"""What "path patching" is taken to mean: the same path by each definition.

All of them give one receiver's input what it would be if a sender's output were another run's. They
differ in what may happen in between:

- **Here and in TransformerLens** (``transformer_lens.patching.get_act_patch_direct_path``), as in
  Goldowsky-Dill et al. (2023, arXiv 2304.05969): nothing. The path is the residual stream alone.
- **Wang et al.** (2022, arXiv 2211.00593) and **ARENA's** exercises on it: every other head says what it
  said, but MLPs are computed anew. A path through MLPs counts as the sender's own.

With grouped keys and values there is one more choice: a key that several query heads share is changed
for the receiver alone (here), or for all of them (by index of the shared key, as ARENA's code would on
such a model). TransformerLens refuses those.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities import get_act_name

from helpers.precision import in_float
from helpers.replay import (
    Metric,
    check_model,
    check_tokens,
    checked_base,
    chosen,
    first_difference,
    hook_names_of,
)


@torch.no_grad()
def path_through_mlps(
    model: TransformerBridge,
    base_tokens: Int[Tensor, "batch position"],
    source_tokens: Int[Tensor, "batch position"],
    sender: tuple[int, int],
    receiver: tuple[int, int],
    through: str,
    metric: Metric,
    *,
    for_its_group: bool = False,
) -> Float[Tensor, "..."]:
    """Metric of the base run when a head hears another as in the source run, MLPs between included.

    Wang et al.'s definition: heads other than the sender are frozen to the base run until the receiver's
    input has been read; then the base run gets that input, and goes on from there.

    Args:
        sender, receiver: (layer, head); the sender's layer comes first.
        through: "q", "k" or "v", the input that hears.
        for_its_group: change a shared key or value for every query head that reads it.

    Raises:
        ValueError: for heads, layers or inputs there are not, and as for ``path_patch_sweep``.
        NotImplementedError: for a model that ``patch_sweep`` refuses at that input or at ``z``.

    Example:
        >>> runs = prompts.corrupted_tokens, prompts.tokens
        >>> path_through_mlps(model, *runs, (0, 1), (2, 3), "k", prompts.metric()).shape
        torch.Size([])
    """
    check_model(model)
    check_tokens(base_tokens, source_tokens)
    for layer, head in (sender, receiver):
        chosen("layers", [layer], model.cfg.n_layers)
        chosen("heads", [head], model.cfg.n_heads)
    if through not in ("q", "k", "v") or sender[0] >= receiver[0]:
        raise ValueError(
            f"Expected a sender in an earlier layer and through 'q', 'k' or 'v'; got {sender} to "
            f"{receiver}, through {through!r}."
        )
    first = first_difference(base_tokens, source_tokens)
    for read in (through, "z"):
        checked_base(model, base_tokens, read, receiver[0], first)
    base_z, source_z = (_heads_output(model, tokens) for tokens in (base_tokens, source_tokens))
    layer, head = receiver
    site = get_act_name(through, layer)

    def frozen(z: Tensor, hook: Any) -> Tensor:
        result = base_z[hook.layer()].clone()
        if hook.layer() == sender[0]:
            result[:, :, sender[1]] = source_z[sender[0]][:, :, sender[1]]
        return result

    z_names = hook_names_of(model, "z", range(model.cfg.n_layers))
    heard = _kept(model, base_tokens, site, [(z_names.__contains__, frozen)])
    shared = head * heard.shape[2] // model.cfg.n_heads

    def give(activation: Tensor, hook: Any) -> Tensor:
        result = activation.clone()
        result[:, :, shared] = heard[:, :, shared]
        return result

    hooks: list[tuple[Any, Any]] = [(site, give)]
    if not for_its_group:
        changed = _kept(model, base_tokens, get_act_name("z", layer), hooks)

        def only_this_head(z: Tensor, hook: Any) -> Tensor:
            result = base_z[layer].clone()
            result[:, :, head] = changed[:, :, head]
            return result

        hooks = [(get_act_name("z", layer), only_this_head)]
    return metric(in_float(model.run_with_hooks(base_tokens, fwd_hooks=hooks)[:, -1]))


def _heads_output(
    model: TransformerBridge, tokens: Int[Tensor, "batch position"]
) -> dict[int, Float[Tensor, "batch position head d_head"]]:
    names = hook_names_of(model, "z", range(model.cfg.n_layers))
    _, cache = model.run_with_cache(tokens, names_filter=names.__contains__)
    return {layer: cache["z", layer] for layer in range(model.cfg.n_layers)}


def _kept(model: TransformerBridge, tokens: Tensor, name: str, hooks: list[tuple[Any, Any]]) -> Tensor:
    """An activation of a run with hooks."""
    found: list[Tensor] = []

    def keep(activation: Tensor, hook: Any) -> None:
        found.append(activation.clone())

    with model.hooks(fwd_hooks=[*hooks, (name.__eq__, keep)]):
        model(tokens)
    return found[0]
