"""How logits are read out of the residual stream that leaves the last block.

In most models the last norm divides by a scale and the unembedding is linear, with nothing in between or
after. In some the norm keeps a weight of its own (OLMo 2, GLM 4, Nemotron), logits are multiplied by a
number (Granite) or squashed (Gemma 2); and in some a layer adds something else to the stream than what
its hook shows (scaled by a number in Granite, normalised in OLMo 2 and Gemma 2). What follows from that
is said here and used wherever a residual stream is turned into logits. ``ARCHITECTURES.md``, beside this
file, says what works on which architecture.

What is assumed of a model is measured once (:mod:`helpers.probe`), not concluded from its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities import get_act_name

from helpers.precision import in_float, precision_of
from helpers.probe import INSTEAD, Readout, before_norm, called, normed, probe

_Known = tuple[tuple[bool, torch.dtype], Readout]  # of a model in some state
_known: WeakKeyDictionary[TransformerBridge, _Known] = WeakKeyDictionary()


def final_readout(model: TransformerBridge) -> Readout:
    """How this model's logits come from its final residual stream.

    Measured at the first call for a model, and again if its weights have been processed, or put into
    another precision, since.

    Raises:
        NotImplementedError: if they are not its last norm, its unembedding, a number and a cap: where a
            layer stands in between (ModernBERT's head), say.

    Example:
        >>> readout = final_readout(model)
        >>> readout.scale  # what the logits are multiplied by
        1.0
    """
    state = (model.compatibility_mode, precision_of(model))
    if model not in _known or _known[model][0] != state:
        _known[model] = state, probe(model)
    return _known[model][1]


def linear_readout(model: TransformerBridge) -> Readout:
    """As :func:`final_readout`, if logits are linear in the final stream, its scale frozen.

    Raises:
        NotImplementedError: if they are capped, and as :func:`final_readout`.

    Example:
        >>> linear_readout(model) == final_readout(model)
        True
    """
    readout = final_readout(model)
    if readout.cap:
        raise NotImplementedError(
            f"{called(model)} squashes its logits (soft cap {readout.cap:g}), so they are no sum over "
            f"components and there is no direct logit attribution. {INSTEAD}"
        )
    return readout


def check_heads(model: TransformerBridge) -> None:
    """Refuse a model whose heads do not each add ``z W_O`` to a stream that is read out linearly.

    Raises:
        NotImplementedError: if they do not, and as :func:`linear_readout`.

    Example:
        >>> check_heads(model)  # nothing is said: direct effects of heads can be read off
    """
    readout = linear_readout(model)
    if fault := readout.layers_fault or readout.heads_fault:
        raise NotImplementedError(
            f"In {called(model)} {fault}, so there is no direct effect of a head to read off. {INSTEAD}"
        )


def unembedding(model: TransformerBridge) -> Float[Tensor, "d_model vocab"]:
    """What a vector in the residual stream adds to the logits, times the last norm's scale: float32.

    W_U with the last norm's weight, its centring and the scale of the logits multiplied in. In a model
    whose last norm is folded, this is W_U.

    Raises:
        NotImplementedError: as :func:`linear_readout`.

    Example:
        >>> unembedding(model).shape == (model.cfg.d_model, model.cfg.d_vocab)
        True
    """
    return read_directions(model, in_float(model.W_U).T).T


def read_directions(
    model: TransformerBridge, directions: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Directions in the unembedding's input, as directions in the residual stream before the last norm.

    A vector's product with them, divided by the last norm's scale, is what it adds to the logits.

    Raises:
        NotImplementedError: as :func:`linear_readout`.

    Example:
        >>> token_directions = read_directions(model, model.W_U.T[:3])
        >>> torch.allclose(token_directions, unembedding(model).T[:3])
        True
    """
    scale = linear_readout(model).scale
    return before_norm(model, in_float(directions)) * scale


def normed_stack(
    stack: Float[Tensor, "component batch d_model"], cache: ActivationCache
) -> Float[Tensor, "component batch d_model"]:
    """Vectors of the final position as the unembedding meets them, the last norm's scale frozen.

    A bias of the norm is left out: like the unembedding's, it belongs to no component.

    Example:
        >>> final = cache["resid_post", -1][None, :, -1]
        >>> [normed] = normed_stack(final, cache)
        >>> torch.allclose(normed @ model.W_U + model.b_U, logits[:, -1], atol=1e-3)
        True
    """
    return normed(stack, cache, -1)


def check_parts(stack: Float[Tensor, "component batch d_model"], cache: ActivationCache) -> None:
    """Refuse parts of a stream in a model whose stream is not the sum of them.

    There, what the stream is made of can still be read out: each vector must then be one that the cache
    has for the last position.

    Raises:
        NotImplementedError: if the model is such a one and a vector is none of these.

    Example:
        >>> parts = cache.decompose_resid(layer=-1, pos_slice=-1)
        >>> check_parts(parts, cache)  # nothing is said: the stream is their sum
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
            f"In {called(cache.model)} {fault}, so parts of the stream are not what they seem, and "
            "their attribution may be wrong. Give vectors that this run's cache has "
            f"({', '.join(sites)}) at the last position, keep those sites in the cache, and add or "
            f"subtract their values instead. {INSTEAD}"
        )


def _are_cached(stack: Tensor, cache: ActivationCache, sites: Sequence[str]) -> bool:
    """Whether each vector is, to the bit of its precision, one that the cache has there for a site."""
    layers = range(cache.model.cfg.n_layers)
    of_layers = {get_act_name(site, layer) for site in sites for layer in layers}
    names = of_layers | {get_act_name(site) for site in sites if "embed" in site}
    kept = [cache[name][:, -1] for name in names if name in cache]
    return all(
        any(one.shape == vector.shape and torch.equal(one.to(vector), vector) for one in kept)
        for vector in stack
    )
