"""How logits are read out of the residual stream that leaves the last block.

In most models the last norm divides by a scale and the unembedding is linear, with nothing in between or
after. In some the norm keeps a weight of its own (OLMo 2, GLM 4, Nemotron), logits are multiplied by a
number (Granite) or squashed (Gemma 2); and in some a layer adds something else to the stream than what
its hook shows (scaled by a number in Granite, normalised in OLMo 2 and Gemma 2). What follows from that
is said here and used wherever a residual stream is turned into logits.

What is assumed of a model is checked once, on a run of a few tokens: parts of that run's final stream
are read out as direct logit attribution does, and must come to the model's own logits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities import get_act_name

_INSTEAD = "Patching and ablation, which run the model itself, say what a component does here."


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


_known: WeakKeyDictionary[TransformerBridge, Readout] = WeakKeyDictionary()


def in_float(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The same values in float32 if they are in half precision; float32 and float64 stay."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def final_readout(model: TransformerBridge) -> Readout:
    """How this model's logits come from its final residual stream; measured once for each model.

    Raises:
        NotImplementedError: if they are not its last norm, its unembedding, a number and a cap: where a
            layer stands in between (ModernBERT's head), say.
    """
    if model not in _known:
        _known[model] = _measure(model)
    return _known[model]


def linear_readout(model: TransformerBridge) -> Readout:
    """As :func:`final_readout`, if logits are linear in the final stream, its scale frozen.

    Raises:
        NotImplementedError: if they are capped, and as :func:`final_readout`.
    """
    readout = final_readout(model)
    if readout.cap:
        raise NotImplementedError(
            f"{_called(model)} squashes its logits (soft cap {readout.cap:g}), so they are no sum over "
            f"components and there is no direct logit attribution. {_INSTEAD}"
        )
    return readout


def check_heads(model: TransformerBridge) -> None:
    """Refuse a model whose heads do not each add ``z W_O`` to a stream that is read out linearly.

    Raises:
        NotImplementedError: if they do not, and as :func:`linear_readout`.
    """
    readout = linear_readout(model)
    if fault := readout.layers_fault or readout.heads_fault:
        raise NotImplementedError(
            f"In {_called(model)} {fault}, so there is no direct effect of a head to read off. "
            f"{_INSTEAD}"
        )


def unembedding(model: TransformerBridge) -> Float[Tensor, "d_model vocab"]:
    """What a vector in the residual stream adds to the logits, times the last norm's scale: float32.

    W_U with the last norm's weight, its centring and the scale of the logits multiplied in. In a model
    whose last norm is folded, this is W_U.

    Raises:
        NotImplementedError: as :func:`linear_readout`.
    """
    return read_directions(model, in_float(model.W_U).T).T


def read_directions(
    model: TransformerBridge, directions: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Directions in the unembedding's input, as directions in the residual stream before the last norm.

    A vector's product with them, divided by the last norm's scale, is what it adds to the logits.

    Raises:
        NotImplementedError: as :func:`linear_readout`.
    """
    scale = linear_readout(model).scale
    return _before_norm(model, in_float(directions)) * scale


def normed_stack(
    stack: Float[Tensor, "component batch d_model"], cache: ActivationCache
) -> Float[Tensor, "component batch d_model"]:
    """Vectors of the final position as the unembedding meets them, the last norm's scale frozen.

    A bias of the norm is left out: like the unembedding's, it belongs to no component.
    """
    scaled = cache.apply_ln_to_stack(in_float(stack), layer=-1, pos_slice=-1)
    weight = _norm_weight(cache.model)
    return scaled if weight is None else scaled * weight.to(scaled)


def check_parts(stack: Float[Tensor, "component batch d_model"], cache: ActivationCache) -> None:
    """Refuse parts of a stream in a model whose stream is not the sum of them.

    There, what the stream is made of can still be read out: each vector must then be one that the cache
    has for the last position.

    Raises:
        NotImplementedError: if the model is such a one and a vector is none of these.
    """
    readout = final_readout(cache.model)
    fault = readout.layers_fault or readout.heads_fault
    if fault is None:
        return
    sites: tuple[str, ...] = ("resid_pre", "resid_post")
    if readout.layers_fault is None:
        sites += ("resid_mid", "attn_out", "mlp_out", "embed", "pos_embed")
    if not _are_cached(stack, cache, sites):
        raise NotImplementedError(
            f"In {_called(cache.model)} {fault}, so parts of the stream are not what they seem, and "
            "their attribution may be wrong. Give vectors that this run's cache has "
            f"({', '.join(sites)}) at the last position, keep those sites in the cache, and add or "
            f"subtract their values instead. {_INSTEAD}"
        )


def _called(model: TransformerBridge) -> str:
    return f"{model.cfg.model_name} ({model.cfg.architecture})"


def _norm_weight(model: TransformerBridge) -> Float[Tensor, " d_model"] | None:
    """By what the last norm multiplies; None if by nothing, as where it is folded."""
    weight = getattr(model.ln_final.original_component, "weight", None)
    if weight is None:
        return None
    weight = in_float(weight.detach())
    weight = 1 + weight if model.ln_final.uses_weight_offset else weight
    return None if bool((weight == 1).all()) else weight


def _norm_bias(model: TransformerBridge) -> Float[Tensor, " d_model"] | None:
    bias = getattr(model.ln_final.original_component, "bias", None)
    return None if bias is None else in_float(bias.detach())


def _before_norm(model: TransformerBridge, directions: Tensor) -> Tensor:
    """With the last norm's weight and centring moved from the stream to the directions."""
    weight = _norm_weight(model)
    if weight is not None:
        directions = directions * weight.to(directions)
    if not model.ln_final.uses_rms_norm:
        directions = directions - directions.mean(-1, keepdim=True)
    return directions


# --- what is measured -----------------------------------------------------------------------------


@torch.no_grad()
def _measure(model: TransformerBridge) -> Readout:
    tokens = torch.arange(3, device=model.cfg.device)[None] % model.cfg.d_vocab
    try:
        with _without_hooks(model):
            logits, cache = model.run_with_cache(tokens)
        final = cache["resid_post", model.cfg.n_layers - 1]
        ours, normed = _read_out(model, final, cache)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise NotImplementedError(
            f"{_called(model)} has no residual stream, last norm and unembedding in the places where "
            f"this project looks for them ({type(error).__name__}: {str(error).partition(chr(10))[0]}). "
            "Choose a decoder of the usual kind."
        ) from error
    logits = in_float(logits)
    cap = max(0.0, model.cfg.output_logits_soft_cap or 0.0)
    readout = Readout(1.0 if cap else _ratio(ours, logits), cap)
    tolerance = _tolerance(model)
    for way in (ours, normed):
        if not _close(readout.finish(way), logits.to(way), tolerance):
            raise NotImplementedError(
                f"In {_called(model)} the final residual stream, its last norm "
                f"({type(model.ln_final.original_component).__name__}) and the unembedding do not give "
                "the model's logits: it does more between its last block and its logits, or after "
                "unembedding, than a norm, a linear map, a number and a soft cap. "
                f"{_INSTEAD}"
            )
    faults = _layers_fault(model, cache, tolerance), _heads_fault(model, cache, tolerance)
    return Readout(readout.scale, cap, *faults)


def _read_out(
    model: TransformerBridge, final: Tensor, cache: ActivationCache
) -> tuple[Float[Tensor, "1 position vocab"], Float[Tensor, "1 position vocab"]]:
    """Logits from the final stream in both ways that this module offers, before scale and cap."""
    unembed, bias = in_float(model.W_U), in_float(model.b_U)
    norm_bias = _norm_bias(model)
    if norm_bias is not None:
        bias = bias + norm_bias.to(unembed) @ unembed
    stack = cache.apply_ln_to_stack(in_float(final)[None], layer=-1)[0]
    weight = _norm_weight(model)
    stack = stack if weight is None else stack * weight.to(stack)
    directions = _before_norm(model, unembed.T).T
    scaled = in_float(final) / cache["ln_final.hook_scale"]
    return stack @ unembed.to(stack) + bias, scaled @ directions.to(scaled) + bias


def _ratio(ours: Tensor, logits: Tensor) -> float:
    """The number by which logits are multiplied after unembedding; exactly 1 if by none."""
    x, y = (_centred(values.double()) for values in (ours, logits.to(ours)))
    ratio = ((x * y).sum() / (x * x).sum()).item()
    # Of float32 sums over the vocabulary; in half precision the model rounds its logits further.
    return 1.0 if abs(ratio - 1) < 1e-3 else ratio


def _tolerance(model: TransformerBridge) -> float:
    """Relative; generous to rounding, as a wrong norm or scale is wrong by tenths."""
    return min(torch.finfo(model.cfg.dtype).eps ** 0.5, 0.06)


def _close(ours: Tensor, models: Tensor, tolerance: float) -> bool:
    """But for a constant that is added to all logits, which no probability sees."""
    ours, models = _centred(ours), _centred(models)
    return bool((ours - models).norm() <= tolerance * models.norm())


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
    if z is None or written is None or w_o is None or z.ndim != 4 or w_o.ndim != 3:
        return f"block {layer} has no attention heads whose outputs (z) hooks show"
    heads = torch.einsum("bphd,hdm->bpm", in_float(z), in_float(w_o).to(z.device))
    bias = getattr(block, "b_O", None)
    heads = heads if bias is None else heads + in_float(bias).to(heads)
    if _differ(heads, written, written, tolerance):
        return f"attention in block {layer} does more to its heads' outputs than W_O (a norm, say)"
    return None


def _are_cached(stack: Tensor, cache: ActivationCache, sites: Sequence[str]) -> bool:
    """Whether each vector is, to the bit, one that the cache has at the last position for a site."""
    layers = range(cache.model.cfg.n_layers)
    of_layers = {get_act_name(site, layer) for site in sites for layer in layers}
    names = of_layers | {get_act_name(site) for site in sites if "embed" in site}
    kept = [cache[name][:, -1] for name in names if name in cache]
    return all(
        any(one.shape == vector.shape and torch.equal(one, vector) for one in kept) for vector in stack
    )
