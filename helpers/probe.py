"""What is measured about a model before its residual stream is read: one run of a few tokens.

Is the final stream, through the last norm and the unembedding, what the logits come from? By what are
they multiplied, or squashed? Is the stream the sum of what the hooks of layers and heads show? What this
project assumes of GPT-2 and Llama is not so everywhere; :func:`probe` finds out, and
:mod:`helpers.readout` goes by it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities import get_act_name

from helpers.precision import in_float, precision_of, rounding_of

INSTEAD = "Patching and ablation, which run the model itself, say what a component does here."


@dataclass(frozen=True)
class Readout:
    """What a model does to unembedded logits, and whether parts of its stream are what hooks show.

    A fault is a clause that says how they are not; None if they are.

    Attributes:
        scale: they are multiplied by it; 1 in most models.
        cap: they are squashed to ``cap tanh(logits / cap)``; 0 in models that leave them.
        layers_fault: the stream is not the sum of the embeddings, ``attn_out`` and ``mlp_out``.
        heads_fault: what attention writes, ``attn_out``, is not the sum of its heads' ``z W_O``.
    """

    scale: float
    cap: float
    layers_fault: str | None = None
    heads_fault: str | None = None

    def finish(self, logits: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The model's logits, from what its unembedding gives."""
        scaled = logits * self.scale
        return self.cap * torch.tanh(scaled / self.cap) if self.cap else scaled


def probe_tokens(model: TransformerBridge) -> Int[Tensor, "1 8"]:
    """A few tokens, twice: what a model does only on a repetition counts too."""
    few = torch.arange(4, device=model.cfg.device)[None] % model.cfg.d_vocab
    return torch.cat([few, few], dim=1)


@torch.no_grad()
def probe(model: TransformerBridge) -> Readout:
    """Run the model on a few tokens, without the caller's hooks, and compare it with what is assumed.

    Raises:
        NotImplementedError: if its logits are not its last norm, its unembedding, a number and a cap.
    """
    try:
        with _without_hooks(model):
            logits, cache = model.run_with_cache(probe_tokens(model))
        both_ways = _read_out(model, cache)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise NotImplementedError(
            f"{called(model)} has no residual stream, last norm and unembedding in the places where "
            f"this project looks for them ({type(error).__name__}: {str(error).partition(chr(10))[0]}). "
            "Choose a decoder of the usual kind."
        ) from error
    logits = in_float(logits)
    cap = max(0.0, model.cfg.output_logits_soft_cap or 0.0)
    readout = Readout(1.0 if cap else _ratio(both_ways[0], logits), cap)
    tolerance = tolerance_of(precision_of(model))
    if not all(same_logits(readout.finish(way), logits, tolerance) for way in both_ways):
        raise NotImplementedError(
            f"In {called(model)} the final residual stream, its last norm "
            f"({type(model.ln_final.original_component).__name__}) and the unembedding do not give "
            "the model's logits: it does more between its last block and its logits, or after "
            f"unembedding, than a norm, a linear map, a number and a soft cap. {INSTEAD}"
        )
    return replace(
        readout,
        layers_fault=_layers_fault(model, cache, tolerance),
        heads_fault=_heads_fault(model, cache, tolerance),
    )


def called(model: TransformerBridge) -> str:
    """A model's name and architecture, for sentences about it."""
    return f"{model.cfg.model_name} ({model.cfg.architecture})"


def norm_weight(model: TransformerBridge) -> Float[Tensor, " d_model"] | None:
    """By what the last norm multiplies; None if by nothing, as where it is folded."""
    weight = getattr(model.ln_final.original_component, "weight", None)
    if weight is None:
        return None
    weight = in_float(weight.detach())
    weight = 1 + weight if model.ln_final.uses_weight_offset else weight
    return None if bool((weight == 1).all()) else weight


def normed(
    stack: Float[Tensor, "component ..."], cache: ActivationCache, position: int | None
) -> Float[Tensor, "component ..."]:
    """Vectors as the last norm gives them to the unembedding, its scale frozen, its bias left out.

    Of all positions, or of one.
    """
    scaled = cache.apply_ln_to_stack(in_float(stack), layer=-1, pos_slice=position)
    weight = norm_weight(cache.model)
    return scaled if weight is None else scaled * weight.to(scaled)


def before_norm(
    model: TransformerBridge, directions: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """With the last norm's weight and centring moved from the stream to the directions."""
    weight = norm_weight(model)
    if weight is not None:
        directions = directions * weight.to(directions)
    if model.ln_final.uses_rms_norm:
        return directions
    mean = directions.mean(-1, keepdim=True)
    # Folding has centred them already: what is left is rounding, and better left alone.
    is_centred = mean.abs().max() <= rounding_of(mean.dtype) * directions.abs().max()
    return directions if is_centred else directions - mean


def tolerance_of(dtype: torch.dtype) -> float:
    """Relative; generous to rounding, as a wrong norm or scale is wrong by tenths."""
    return min(rounding_of(dtype) ** 0.5, 0.06)


def same_logits(
    ours: Float[Tensor, "... vocab"], models: Float[Tensor, "... vocab"], tolerance: float
) -> bool:
    """But for a constant that is added to all logits, which no probability sees."""
    ours = _centred(ours)
    models = _centred(models.to(ours))
    return bool((ours - models).norm() <= tolerance * models.norm())


def _read_out(
    model: TransformerBridge, cache: ActivationCache
) -> tuple[Float[Tensor, "1 position vocab"], Float[Tensor, "1 position vocab"]]:
    """Logits from the final stream in both ways that are used, before scale and cap."""
    final = cache["resid_post", model.cfg.n_layers - 1]
    unembed, bias = in_float(model.W_U), in_float(model.b_U)
    norm_bias = getattr(model.ln_final.original_component, "bias", None)
    if norm_bias is not None:
        bias = bias + in_float(norm_bias.detach()).to(unembed) @ unembed
    stream = normed(final[None], cache, None)[0]
    directions = before_norm(model, unembed.T).T
    scaled = in_float(final) / cache["ln_final.hook_scale"]
    return stream @ unembed.to(stream) + bias, scaled @ directions.to(scaled) + bias


def _ratio(ours: Tensor, logits: Tensor) -> float:
    """The number by which logits are multiplied after unembedding; exactly 1 if by none."""
    x, y = (_centred(values.double()) for values in (ours, logits.to(ours)))
    size = (x * x).sum().item()
    if size == 0:  # nothing to compare, and nothing that a number would change
        return 1.0
    ratio = (x * y).sum().item() / size
    # Of float32 sums over the vocabulary; in half precision the model rounds its logits further.
    return 1.0 if abs(ratio - 1) < 1e-3 else ratio


def _centred(logits: Tensor) -> Tensor:
    return logits - logits.mean(-1, keepdim=True)


@contextmanager
def _without_hooks(model: TransformerBridge) -> Iterator[None]:
    """The model as it is by itself, also inside ``with model.hooks(…)``; then with its hooks again."""
    points = [point for point in model.modules() if isinstance(point, HookPoint)]
    kept = [point._forward_hooks for point in points]
    for point in points:
        point._forward_hooks = OrderedDict()
    try:
        yield
    finally:
        for point, hooks in zip(points, kept, strict=True):
            point._forward_hooks = hooks


def _differ(ours: Tensor, theirs: Tensor, size: Tensor, tolerance: float) -> bool:
    """In more than a small part of ``size``."""
    return bool((in_float(ours) - in_float(theirs)).norm() > tolerance * in_float(size).norm())


def _layers_fault(model: TransformerBridge, cache: ActivationCache, tolerance: float) -> str | None:
    embeddings = [cache[name] for name in ("hook_embed", "hook_pos_embed") if name in cache]
    first = cache["resid_pre", 0]
    if not embeddings or _differ(sum(embeddings), first, first, tolerance):
        return "what enters the first block is not the sum of the embeddings that hooks show"
    for layer in range(model.cfg.n_layers):
        before, after = cache["resid_pre", layer], cache["resid_post", layer]
        names = [get_act_name(site, layer) for site in ("attn_out", "mlp_out")]
        written = [cache[name] for name in names if name in cache]
        # The stream keeps what is added to it up to the rounding of its own size.
        size = torch.maximum(in_float(after - before).abs(), 0.1 * in_float(after).abs())
        if not written or _differ(sum(written), after - before, size, tolerance):
            return f"block {layer} adds something else to the stream than its attn_out and mlp_out"
        middle = get_act_name("resid_mid", layer)
        if middle in cache and _differ(written[0], cache[middle] - before, size, tolerance):
            return f"the stream in the middle of block {layer} is not what resid_mid shows"
    return None


def _heads_fault(model: TransformerBridge, cache: ActivationCache, tolerance: float) -> str | None:
    faults = (_heads_fault_of(model, cache, layer, tolerance) for layer in range(model.cfg.n_layers))
    return next((fault for fault in faults if fault is not None), None)


def _heads_fault_of(
    model: TransformerBridge, cache: ActivationCache, layer: int, tolerance: float
) -> str | None:
    names = get_act_name("z", layer), get_act_name("attn_out", layer)
    z, written = (cache[name] if name in cache else None for name in names)  # noqa: SIM401
    block = getattr(model.blocks[layer], "attn", None)
    w_o = getattr(block, "W_O", None)
    if z is None or written is None or w_o is None or z.shape[2:] != w_o.shape[:2]:
        return f"block {layer} has no attention heads whose outputs (z) hooks show"
    heads = torch.einsum("bphd,hdm->bpm", in_float(z), in_float(w_o).to(z.device))
    bias = getattr(block, "b_O", None)
    heads = heads if bias is None else heads + in_float(bias).to(heads)
    if _differ(heads, written, written, tolerance):
        return f"attention in block {layer} does more to its heads' outputs than W_O (a norm, say)"
    return None
