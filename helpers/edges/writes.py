"""What every part of a model adds to the residual stream in a run."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.models import n_key_value_heads
from helpers.precision import in_float, precision_of, rounding_of
from helpers.replay import Activations, as_refusal, forward, hook_names_of, keep, side_by_side

# The rest is shared with the modules beside this one.
__all__ = ["Writes", "writes"]


class Writes(NamedTuple):
    """A run's residual stream, part by part.

    Attributes:
        parts: what each writer adds, in the order of :func:`helpers.edges.graph.writers`, in float32
            (float64 for such a model).
        biases: what each attention layer adds on any prompt; no edge carries it.

    Example:
        >>> written = writes(model, prompts.tokens)
        >>> whole = written.parts.sum(0) + written.biases.sum(0)
        >>> final = cache["resid_post", model.cfg.n_layers - 1]
        >>> torch.allclose(whole, final, atol=1e-3)
        True
    """

    parts: Float[Tensor, "writer batch position d_model"]
    biases: Float[Tensor, "layer d_model"]

    def mean(self) -> Writes:
        """The average over prompts, as one prompt.

        Example:
            >>> writes(model, prompts.tokens).mean().parts.shape[1]
            1
        """
        return Writes(self.parts.mean(1, keepdim=True), self.biases)


@torch.no_grad()
def writes(model: TransformerBridge, tokens: Int[Tensor, "batch position"]) -> Writes:
    """What the embeddings, every head and every MLP add to the residual stream.

    It takes as much memory as (heads + 1) × layers residual streams.

    Raises:
        NotImplementedError: if the stream of this model is not that sum (heads' outputs are normalised
            or scaled before they are added, as in Gemma 2 and Granite).

    Example:
        >>> writes(model, prompts.tokens).parts.shape[0] == 1 + 3 * (4 + 1)  # 3 layers of 4 heads
        True
    """
    layers = range(model.cfg.n_layers)
    stream: Activations = {}
    z: Activations = {}
    mlp_out: Activations = {}
    sites = {"resid_pre": stream, "z": z, "mlp_out": mlp_out}
    hooks = [keep(store, hook_names_of(model, site, layers)) for site, store in sites.items()]
    top: Activations = {}
    hooks.append(keep(top, hook_names_of(model, "resid_post", layers[-1:])))
    with as_refusal(
        f"What parts of {model.cfg.model_name} write cannot be read here: its forward pass does not run "
        "with a single row after the last block"
    ):
        forward(model, tokens.to(model.cfg.device), hooks)

    parts = [in_float(stream[0])[None]]
    for layer in layers:
        parts += [written_by_heads(model, layer, z[layer]), in_float(mlp_out[layer])[None]]
    bias_or_none = [model.blocks[layer].attn.b_O for layer in layers]
    nothing = parts[0].new_zeros(model.cfg.d_model)
    biases = torch.stack([nothing if bias is None else in_float(bias) for bias in bias_or_none])
    found = Writes(torch.cat(parts), biases)
    _check_sums(model, found, [*(stream[layer] for layer in layers[1:]), top[layers[-1]]])
    return found


def written_by_heads(
    model: TransformerBridge, layer: int, z: Float[Tensor, "batch position head d_head"]
) -> Float[Tensor, "head batch position d_model"]:
    """What the heads of a layer add: ``z W_O``, head by head."""
    weights = model.blocks[layer].attn.W_O
    if z.shape[2:] != weights.shape[:2]:
        raise NotImplementedError(
            f"In {model.cfg.model_name}, heads' outputs are {tuple(z.shape)} where W_O is "
            f"{tuple(weights.shape)} (attention may be latent, as in DeepSeek): what a head writes is "
            "not known here."
        )
    return torch.einsum("bphd,hdm->hbpm", in_float(z), in_float(weights))


def stream_before(
    model: TransformerBridge, written: Writes, layer: int, *, mlp: bool = False
) -> Float[Tensor, "batch position d_model"]:
    """The stream that attention of a layer reads, or its MLP; after the last layer, the final one."""
    within = mlp and not side_by_side(model)
    count = 1 + layer * (model.cfg.n_heads + 1) + (model.cfg.n_heads if within else 0)
    return written.parts[:count].sum(0) + written.biases[: layer + within].sum(0)


def before_mlp(
    model: TransformerBridge, layer: int, stream: Float[Tensor, "row position d_model"]
) -> Float[Tensor, "row position d_model"]:
    """What an MLP is given of a stream: through its own norm, or one that it shares with attention."""
    block = model.blocks[layer]
    return (block.ln2 if hasattr(block, "ln2") else block.ln1)(stream)


def check_heads_apart(model: TransformerBridge, tokens: Int[Tensor, "batch position"]) -> None:
    """Refuse a model in which the query or key of one head changes what another does.

    As where all heads' queries are normalised together, before they are parted (MiniMax M2).
    """
    layer = model.cfg.n_layers - 1
    tokens, z_names = tokens.to(model.cfg.device), hook_names_of(model, "z", [layer])

    def enlarge(activation: Tensor, hook: Any) -> Tensor:
        result = activation.clone()
        result[:, :, 0] *= 8
        return result

    own: Activations = {}
    forward(model, tokens, [keep(own, z_names)])
    for site, sharing in (("q", 1), ("k", model.cfg.n_heads // n_key_value_heads(model))):
        other: Activations = {}
        forward(model, tokens, [(hook_names_of(model, site, [layer]), enlarge), keep(other, z_names)])
        off = (other[layer] - own[layer])[:, :, sharing:].norm()
        if not off <= rounding_of(precision_of(model)) ** 0.5 * own[layer].norm():
            raise NotImplementedError(
                f"In {model.cfg.model_name}, another {site} for one head changes what other heads do "
                "(they may be normalised together): edges into heads have no meaning of their own here."
            )


def _check_sums(model: TransformerBridge, written: Writes, streams: list[Tensor]) -> None:
    """After every layer; what is wrong in one could be hidden behind the size of later ones."""
    # What one layer adds, in this precision, and what rounding of the stream leaves of it.
    eps = rounding_of(precision_of(model))
    before = written.parts[0]
    for layer, stream in enumerate(streams):
        stop = 1 + (layer + 1) * (model.cfg.n_heads + 1)
        parts = written.parts[stop - model.cfg.n_heads - 1 : stop].sum(0) + written.biases[layer]
        after = in_float(stream)
        off = (before + parts - after).norm(dim=-1)
        allowed = eps**0.5 * (after - before).norm(dim=-1) + 8 * eps * after.norm(dim=-1)
        if not (off <= allowed).all():
            raise NotImplementedError(
                f"In {model.cfg.model_name}, layer {layer} does not add the sum of its heads' z W_O and "
                "its MLP's output to the residual stream (they may be normalised or scaled first, as in "
                "Gemma 2 and Granite). Edges between parts are then not what helpers.edges takes them "
                "for; patch_sweep, which replaces whole activations, is exact here too."
            )
        before = after
