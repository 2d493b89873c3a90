"""Induction as a mechanism: a head that finds the earlier copy, and writes what followed it.

Both halves are measured: where a head looks, and which logits its output moves directly. A head's
direct effect on the logits is ``z W_O W_U``, divided by the scale that the last layer norm had in the
run (frozen, as in direct logit attribution).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.atlas.attention import even_attention
from helpers.atlas.inputs import REPEATS
from helpers.atlas.scores import Measured
from helpers.precision import in_float
from helpers.progress import progress_bar
from helpers.readout import unembedding
from helpers.replay import hook_names_of


def induction_logit(
    effect: Float[Tensor, "batch position head"],
) -> Float[Tensor, "batch head"]:
    """How much a head itself raises the logit of the token that followed the earlier copy.

    Measured on n random tokens repeated twice, against the average logit of the vocabulary.
    Formula: mean over the second copy of (z W_O / scale) · (W_U[next token] - mean over tokens of W_U).
    Range: unbounded, in logits; negative if the head lowers it.
    Null: 0.
    Source: Olsson et al. 2022, In-context Learning and Induction Heads; TransformerLens demos.
    """
    return in_float(effect).mean(1)


def prefix_matching(
    pattern: Float[Tensor, "batch head dest src"], block: int
) -> Float[Tensor, "batch head"]:
    """Attention to what followed any earlier copy, on 25 random tokens repeated four times after BOS.

    The paper averages the entries; the sum over earlier copies is taken here, so that a head that
    shares its attention out among them can also score 1.
    Formula: mean over i in the second and later copies of the sum over k >= 1 of A[i, i-25k+1].
    Range: 0 to 1; 1 if the head attends nowhere else.
    Null: even attention, mean over i of (number of earlier copies)/(i+1).
    Source: Olsson et al. 2022, In-context Learning and Induction Heads, appendix.
    """
    pattern, length = in_float(pattern), pattern.shape[-1]
    dest = torch.arange(1 + block, length, device=pattern.device)
    total = pattern.new_zeros(*pattern.shape[:2], len(dest))
    for k in range(1, REPEATS):
        src = dest - k * block + 1
        seen = src >= 1  # position 0 is the beginning of the sequence
        total[..., seen] += pattern[..., dest[seen], src[seen]]
    return total.mean(-1)


def prefix_copying(
    pattern: Float[Tensor, "batch head dest src"], effect: Float[Tensor, "batch dest head token"]
) -> Float[Tensor, "batch head"]:
    """Which share of the logits that a head raises belongs to the tokens that it attends to.

    On 25 random tokens repeated four times after BOS; ``effect`` is the head's direct effect on the
    logits of the 25 tokens. After the paper, whose exact weighting is not repeated here.
    Formula: r = relu(effect - mean over the 25); sum over i, t of a[i, t] r[i, t] / sum over i, t of
    a[i] r[i, t], where a[i, t] is the attention to copies of token t, and a[i] its sum over t.
    Range: 0 to 1; 1 if only the attended token is ever raised.
    Null: 1/25, if what is raised has nothing to do with what is attended to.
    Source: after Olsson et al. 2022, In-context Learning and Induction Heads, appendix.
    """
    pattern, effect, block = in_float(pattern), in_float(effect), effect.shape[-1]
    raised = (effect - effect.mean(-1, keepdim=True)).relu().transpose(1, 2)  # batch head dest token
    to_tokens = pattern[..., 1:].unflatten(-1, (-1, block)).sum(-2)
    all_raised = to_tokens.sum(-1, keepdim=True) * raised
    least = torch.finfo(raised.dtype).tiny  # of a head that raises nothing
    return (to_tokens * raised).sum((-2, -1)) / all_raised.sum((-2, -1)).clamp(min=least)


@torch.no_grad()
def induction_logit_samples(
    model: TransformerBridge,
    repeated_tokens: Int[Tensor, "row 2*length"],
    *,
    rows_at_once: int = 4,
    progress: bool | None = None,
) -> Measured:
    """:func:`induction_logit` of every head, one sample a row of tokens repeated twice."""
    length = repeated_tokens.shape[1] // 2
    where = slice(length, 2 * length - 1)  # what comes next is known from the first copy
    unembed = _centred_unembedding(model)

    def measure(tokens: Tensor, run: _Run) -> Tensor:
        directions = unembed[:, tokens[:, length + 1 :].cpu()].permute(1, 2, 0)
        effects: dict[int, Tensor] = {}

        def keep_effect(z: Tensor, hook) -> None:
            weights = model.blocks[hook.layer()].attn.W_O.float()
            wanted = torch.einsum("bpm,hdm->bphd", directions.to(z.device), weights)
            effects[hook.layer()] = (z[:, where].float() * wanted).sum(-1).cpu()

        scale = run({"z": keep_effect})[:, where]
        return torch.stack([induction_logit(effects[layer] / scale) for layer in sorted(effects)], dim=1)

    return Measured(_by_rows(model, repeated_tokens, measure, rows_at_once, progress), null=0.0)


@torch.no_grad()
def prefix_samples(
    model: TransformerBridge,
    tokens: Int[Tensor, "row position"],
    *,
    rows_at_once: int = 4,
    progress: bool | None = None,
) -> dict[str, Measured]:
    """:func:`prefix_matching` and :func:`prefix_copying`, one sample a row.

    Args:
        tokens: from :func:`helpers.atlas.inputs.prefix_tokens`.
    """
    block = (tokens.shape[1] - 1) // REPEATS
    unembed = _centred_unembedding(model)

    def measure(some: Tensor, run: _Run) -> Tensor:
        directions = unembed[:, some[:, 1 : 1 + block].cpu()].permute(1, 2, 0)  # batch token d_model
        patterns: dict[int, Tensor] = {}
        found: dict[int, Tensor] = {}

        def keep_pattern(pattern: Tensor, hook) -> None:
            patterns[hook.layer()] = pattern.float()

        def keep_scores(z: Tensor, hook) -> None:
            weights = model.blocks[hook.layer()].attn.W_O.float()
            written = torch.einsum("btm,hdm->bhdt", directions.to(z.device), weights)
            effect = torch.einsum("bphd,bhdt->bpht", z.float(), written)
            pattern = patterns.pop(hook.layer())
            later = slice(1 + block, None)
            scores = [prefix_matching(pattern, block)]
            scores.append(prefix_copying(pattern[..., later, :], effect[:, later]))
            found[hook.layer()] = torch.stack(scores, dim=-1).cpu()

        run({"pattern": keep_pattern, "z": keep_scores})
        return torch.stack([found[layer] for layer in sorted(found)], dim=1)

    both = _by_rows(model, tokens, measure, rows_at_once, progress)
    null = prefix_matching(even_attention(tokens.shape[1]), block).item()
    return {
        "prefix_matching": Measured(both[..., 0], null),
        "prefix_copying": Measured(both[..., 1], 1 / block),
    }


_Run = Callable[[dict[str, Callable[..., None]]], Float[Tensor, "batch position 1"]]


def _by_rows(
    model: TransformerBridge,
    tokens: Tensor,
    measure: Callable[[Tensor, _Run], Tensor],
    rows_at_once: int,
    progress: bool | None,
) -> Tensor:
    """Results of ``measure`` for a few rows at a time; it is given a function that runs the model."""
    results = []
    with progress_bar("direct effects", len(tokens), progress) as bar:
        for some in tokens.to(model.cfg.device).split(rows_at_once):
            results.append(measure(some, partial(_run, model, some)))
            bar.update(len(some))
    return torch.cat(results)


def _run(
    model: TransformerBridge, tokens: Tensor, hooks: dict[str, Callable[..., None]]
) -> Float[Tensor, "batch position 1"]:
    """Run with hooks at sites of all layers; the scale of the last layer norm."""
    scale: list[Tensor] = []

    def keep_scale(value: Tensor, hook) -> None:
        scale.append(value.float().cpu())

    layers = range(model.cfg.n_layers)
    at_sites = [(hook_names_of(model, s, layers).__contains__, f) for s, f in hooks.items()]
    at_end = ({"ln_final.hook_scale"}.__contains__, keep_scale)
    model.run_with_hooks(tokens, return_type=None, fwd_hooks=[*at_sites, at_end])
    return scale[0]


def _centred_unembedding(model: TransformerBridge) -> Float[Tensor, "d_model vocab"]:
    """W_U with the average logit taken off (as `load_model` has done already), on the CPU."""
    weights = unembedding(model).float().cpu()
    return weights - weights.mean(-1, keepdim=True)
