"""Scores of a head's two circuits by themselves: what it copies (OV) and what it matches (QK).

`ov_eigenvalue` is read off the weights and is exact. The others are taken over sampled tokens, each as
it enters the head: the residual stream after the first block, of the token right after the
beginning of the sequence (the token itself in the first block). The model's own layer norms, query,
key and value maps are applied to it, so shared key/value heads, biases and RMSNorm are what they are.
Queries and keys are taken before rotation: with rotary embeddings this is the match of two tokens at
one and the same position, and says nothing about how it falls off with distance.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.atlas.inputs import start_token
from helpers.atlas.scores import Measured, centred_rank, how_many
from helpers.precision import in_float
from helpers.progress import progress_bar
from helpers.readout import unembedding
from helpers.replay import hook_names_of

TOP = 5


def ov_eigenvalue(
    ov_circuit: Float[Tensor, "head d_head d_head"],
) -> Float[Tensor, " head"]:
    """Whether the OV circuit maps tokens to themselves, by the signs of its eigenvalues: exact.

    The circuit from token to logits, W_E W_V W_O W_U, is as wide as the vocabulary; the small product
    in the other order, W_O W_U W_E W_V, has the same eigenvalues but for zeros. Embeddings are the
    plain ones, without what the first block makes of them. Where many embeddings share a direction, that
    direction decides; `copying_eigenvalue` is the same on what heads really read.
    Formula: sum of eigenvalues / sum of their magnitudes.
    Range: -1 to 1; 1 if all are positive (copying), -1 if all are negative (suppression).
    Null: 0; Gaussian weights spread about 1.5/d_head around it.
    Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.
    """
    eigenvalues = torch.linalg.eigvals(ov_circuit.double())
    least = torch.finfo(torch.float64).tiny  # of a head that writes nothing
    return (eigenvalues.real.sum(-1) / eigenvalues.abs().sum(-1).clamp(min=least)).float()


def copying_eigenvalue(
    values: Float[Tensor, "token head d_head"], readers: Float[Tensor, "token head d_head"]
) -> Float[Tensor, " head"]:
    """The eigenvalue score of the OV circuit on tokens as heads read them: after the first block.

    ``values`` are a head's values for tokens, ``readers`` what W_O makes of the tokens' unembedding,
    W_O W_U[token]; both are centred over the tokens, so that what all tokens share does not count.
    Formula: eigenvalues of values^T readers: their sum / sum of their magnitudes.
    Range: -1 to 1; 1 if all are positive (copying), -1 if all are negative (suppression).
    Null: 0; Gaussian weights spread about 1.5/d_head around it.
    Source: after Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; tokens after
    the first block as in Wang et al. 2022 (arXiv 2211.00593).
    """
    values, readers = (in_float(part) - in_float(part).mean(0) for part in (values, readers))
    return ov_eigenvalue(torch.einsum("thi,thj->hij", values, readers))


def copying_rank(
    logits: Float[Tensor, "token vocab"], tokens: Int[Tensor, " token"]
) -> Float[Tensor, " token"]:
    """Where a token stands among all logits, in what the head writes when it attends to that token.

    Formula: (logits below the token's own - logits above it) / (vocabulary - 1), mean over tokens.
    Range: -1 to 1; 1 if the token is always raised most, -1 if it is always lowered most.
    Null: 0.
    Source: after Wang et al. 2022 (arXiv 2211.00593), who count the top five; see copying_top5.
    """
    return centred_rank(logits, logits.gather(1, tokens[:, None])[:, 0])


def copying_top5(
    logits: Float[Tensor, "token vocab"], tokens: Int[Tensor, " token"]
) -> Float[Tensor, " token"]:
    """How often a token is among the five that the head raises most when it attends to that token.

    Formula: share of tokens with fewer than five other logits as high as the token's own.
    Range: 0 to 1.
    Null: 5/vocabulary.
    Source: Wang et al. 2022, Interpretability in the Wild (arXiv 2211.00593), the copy score.
    """
    own = logits.gather(1, tokens[:, None])
    return (how_many(logits >= own) <= TOP).float()


def suppression_top5(
    logits: Float[Tensor, "token vocab"], tokens: Int[Tensor, " token"]
) -> Float[Tensor, " token"]:
    """How often a token is among the five that the head lowers most when it attends to that token.

    Formula: share of tokens with fewer than five other logits as low as the token's own.
    Range: 0 to 1.
    Null: 5/vocabulary.
    Source: Wang et al. 2022 (arXiv 2211.00593), the negative copy score; McDougall et al. 2023, Copy
    Suppression (arXiv 2310.04625).
    """
    own = logits.gather(1, tokens[:, None])
    return (how_many(logits <= own) <= TOP).float()


def qk_same_token(
    queries: Float[Tensor, "token d_head"], keys: Float[Tensor, "token d_head"]
) -> Float[Tensor, " token"]:
    """Whether a token's query matches its own key better than those of other tokens.

    Without rotation, that is, at equal positions; positions and what lies between are left out.
    Formula: (keys that match worse - keys that match better) / (tokens - 1), mean over tokens.
    Range: -1 to 1; 1 if every token's own key matches best, -1 if it matches worst.
    Null: 0.
    Source: after Elhage et al. 2021, A Mathematical Framework for Transformer Circuits (QK circuit).
    """
    matches = in_float(queries) @ in_float(keys).T
    return centred_rank(matches, matches.diagonal())


OV_SCORES = (copying_rank, copying_top5, suppression_top5)


@torch.no_grad()
def ov_eigenvalues(model: TransformerBridge) -> Measured:
    """:func:`ov_eigenvalue` of every head; one sample, as it is exact."""
    unembed_embed = unembedding(model).float() @ model.W_E.float().to(
        model.W_U.device
    )  # d_model d_model
    rows = []
    for block in model.blocks:
        w_o = block.attn.W_O.float()
        w_v = _per_query_head(block.attn.W_V.float(), model.cfg.n_heads)
        rows.append(ov_eigenvalue(w_o @ unembed_embed.to(w_o.device) @ w_v.to(w_o.device)).cpu())
    return Measured(torch.stack(rows)[None], null=0.0)


@torch.no_grad()
def eigenvalue_samples(
    model: TransformerBridge,
    tokens: Int[Tensor, "sample token"],
    *,
    progress: bool | None = None,
) -> Measured:
    """:func:`copying_eigenvalue` of every head, one sample a row of tokens."""
    samples = torch.zeros(len(tokens), model.cfg.n_layers, model.cfg.n_heads)
    unembed_all = unembedding(model).float().T
    with progress_bar("eigenvalues", len(tokens), progress) as bar:
        for row, some in enumerate(tokens):
            streams = first_streams(model, some)
            unembed = unembed_all[some.to(unembed_all.device)]
            for layer, block in enumerate(model.blocks):
                w_o = block.attn.W_O.float()
                w_v = _per_query_head(block.attn.W_V, model.cfg.n_heads)
                normed = block.ln1(streams[min(layer, 1)].to(w_v.device))
                values = torch.einsum("tm,hmd->thd", normed, w_v).float()
                readers = torch.einsum("tm,hdm->thd", unembed.to(w_o.device), w_o)
                samples[row, layer] = copying_eigenvalue(values, readers).cpu()
            bar.update()
    return Measured(samples, null=0.0)


@torch.no_grad()
def first_streams(
    model: TransformerBridge, tokens: Int[Tensor, " token"]
) -> list[Float[Tensor, "token d_model"]]:
    """A token's residual stream before and after the first block, right after BOS."""
    found: list[Tensor] = []

    def keep(resid: Tensor, hook) -> None:
        found.append(resid[:, -1].clone())

    names = hook_names_of(model, "resid_pre", [0]) | hook_names_of(model, "resid_post", [0])
    model.run_with_hooks(
        _after_start(model, tokens),
        return_type=None,
        fwd_hooks=[(names.__contains__, keep)],
        stop_at_layer=1,
    )
    return found


@torch.no_grad()
def token_samples(
    model: TransformerBridge, tokens: Int[Tensor, " token"], *, progress: bool | None = None
) -> dict[str, Measured]:
    """:func:`qk_same_token` and the OV scores of every head, one sample a token."""
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    names = [score.__name__ for score in (qk_same_token, *OV_SCORES)]
    samples = {name: torch.zeros(len(tokens), n_layers, n_heads) for name in names}
    inputs = head_inputs(model, tokens)
    unembed = unembedding(model).float()
    with progress_bar("circuits", n_layers, progress) as bar:
        for layer in range(n_layers):
            queries, keys, values = (
                _per_query_head(inputs[site][layer].transpose(0, 1), n_heads) for site in "qkv"
            )
            w_o = model.blocks[layer].attn.W_O.float()
            for head in range(n_heads):
                match = qk_same_token(queries[head], keys[head])
                samples["qk_same_token"][:, layer, head] = match.cpu()
                written = w_o[head].to(unembed.device) @ unembed  # d_head vocab
                logits = values[head].to(unembed.device) @ written
                for score in OV_SCORES:
                    value = score(logits, tokens.to(logits.device))
                    samples[score.__name__][:, layer, head] = value.cpu()
            bar.update()
    top = TOP / model.cfg.d_vocab
    nulls = {"copying_top5": top, "suppression_top5": top}
    return {name: Measured(samples[name], nulls.get(name, 0.0)) for name in names}


@torch.no_grad()
def head_inputs(
    model: TransformerBridge, tokens: Int[Tensor, " token"]
) -> dict[str, dict[int, Float[Tensor, "token head d_head"]]]:
    """Query, key and value ("q", "k", "v") of each layer for a token's own residual stream.

    One run on [BOS, token]: every block above the first is given the first one's output, and so reads
    what the token is, not what the model has made of it since.
    """
    layers = range(model.cfg.n_layers)
    found: dict[str, dict[int, Tensor]] = {site: {} for site in "qkv"}
    embedded: list[Tensor] = []

    def give_first_output(resid: Tensor, hook) -> Tensor | None:
        if hook.layer() == 0:
            return None
        if not embedded:
            embedded.append(resid)
        return embedded[0].to(resid.device)

    def keep(site: str):
        def keep_last_position(activation: Tensor, hook) -> None:
            found[site][hook.layer()] = activation[:, -1].float()

        return keep_last_position

    hooks = [(hook_names_of(model, "resid_pre", layers).__contains__, give_first_output)]
    hooks += [(hook_names_of(model, site, layers).__contains__, keep(site)) for site in "qkv"]
    model.run_with_hooks(_after_start(model, tokens), return_type=None, fwd_hooks=hooks)
    return found


def _after_start(model: TransformerBridge, tokens: Tensor) -> Int[Tensor, "token 2"]:
    first = torch.full_like(tokens, start_token(model))
    return torch.stack([first, tokens], dim=1).to(model.cfg.device)


def _per_query_head(values: Float[Tensor, "head ..."], n_heads: int) -> Float[Tensor, "n_heads ..."]:
    """Shared keys and values, repeated for each query head that uses them."""
    return values.repeat_interleave(n_heads // len(values), dim=0)
