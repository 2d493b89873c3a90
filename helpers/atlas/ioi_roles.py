"""What each head does in Indirect Object Identification (Wang et al., 2022, arXiv 2211.00593).

A sample is a pair of prompts that differ in who is repeated: each name is the right answer once.
"""

from __future__ import annotations

import random

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.atlas.scores import Measured
from helpers.ioi.prompts import REFERENCE_TEMPLATES, ioi_prompts
from helpers.logit_diff import LogitDiff, logit_diff, logit_diff_directions
from helpers.patching import patch_sweep
from helpers.precision import in_float
from helpers.readout import read_directions
from helpers.replay import hook_names_of
from helpers.task import Task

NAMES = (
    *(" John", " Mary", " Tom", " James", " Dan", " Sid", " Martin", " Amy", " Anna", " Ben"),
    *(" Carl", " David", " Emma", " Frank", " George", " Helen", " Jack", " Jane", " Kate", " Laura"),
    *(" Mark", " Nick", " Paul", " Peter", " Robert", " Sam", " Sarah", " Simon", " Steve", " William"),
)


def ioi_attribution(
    effect: Float[Tensor, "batch layer head"],
) -> Float[Tensor, "batch layer head"]:
    """What a head adds directly to the logit difference between the right name and the wrong one.

    Formula: (z W_O / scale) · (W_U[IO] - W_U[S]) at the last token, mean over prompts.
    Range: unbounded, in logits; negative if the head favours the wrong name.
    Null: 0.
    Source: Wang et al. 2022, Interpretability in the Wild (arXiv 2211.00593).
    """
    return in_float(effect)


def ioi_attention_io(
    attention: Float[Tensor, "batch layer head src"], positions: Int[Tensor, " batch"]
) -> Float[Tensor, "batch layer head"]:
    """Attention from the last token to the indirect object, as of a name mover.

    Formula: A[end, IO], mean over prompts.
    Range: 0 to 1.
    Null: even attention, 1/(length of the prompt).
    Source: Wang et al. 2022, Interpretability in the Wild (arXiv 2211.00593).
    """
    return _attention_to(attention, positions)


def ioi_attention_s1(
    attention: Float[Tensor, "batch layer head src"], positions: Int[Tensor, " batch"]
) -> Float[Tensor, "batch layer head"]:
    """Attention from the last token to the first mention of the subject.

    Formula: A[end, S1], mean over prompts.
    Range: 0 to 1.
    Null: even attention, 1/(length of the prompt).
    Source: Wang et al. 2022, Interpretability in the Wild (arXiv 2211.00593).
    """
    return _attention_to(attention, positions)


def ioi_attention_s2(
    attention: Float[Tensor, "batch layer head src"], positions: Int[Tensor, " batch"]
) -> Float[Tensor, "batch layer head"]:
    """Attention from the last token to the second mention of the subject, as of an S-inhibition head.

    Formula: A[end, S2], mean over prompts.
    Range: 0 to 1.
    Null: even attention, 1/(length of the prompt).
    Source: Wang et al. 2022, Interpretability in the Wild (arXiv 2211.00593).
    """
    return _attention_to(attention, positions)


def ioi_patching(
    restored: Float[Tensor, "batch layer head"], span: float
) -> Float[Tensor, "batch layer head"]:
    """Which part of the logit difference comes back when a head's output is patched.

    Clean into corrupted, at all positions. It means little if the model does not do the task: see
    `ioi_logit_diff` in the provenance, and the errors.
    Formula: (logit difference patched - corrupted) / (clean - corrupted), z patched, mean over prompts.
    Range: unbounded; 0 if the head does not matter, 1 if it restores everything.
    Null: 0.
    Source: Wang et al. 2022 (arXiv 2211.00593); TransformerLens, Exploratory Analysis demo.
    """
    return in_float(restored) / span


ATTENTION_SCORES = {"IO": ioi_attention_io, "S1": ioi_attention_s1, "S2": ioi_attention_s2}


def _attention_to(attention: Tensor, positions: Tensor) -> Tensor:
    index = positions[:, None, None, None].expand(*attention.shape[:3], 1)
    return in_float(attention.gather(-1, index)[..., 0])


def sampled_prompts(
    model: TransformerBridge, pairs: int, seed: int, names: tuple[str, ...] = NAMES
) -> Task:
    """Pairs of prompts from the four reference templates, with names drawn by lot.

    Raises:
        ValueError: if the model's tokenizer has fewer than two of the names as single tokens, or gives
            the templates different lengths.
    """
    token_lists = {name: tuple(model.to_tokens(name, prepend_bos=False)[0].tolist()) for name in names}
    single = [name for name, ids in token_lists.items() if len(ids) == 1]
    if len({token_lists[name] for name in single}) < max(2, len(single)):
        raise ValueError(
            f"Of {len(names)} first names, {len(single)} are single tokens of {model.cfg.model_name}, "
            "not all of them different; two are needed."
        )
    draw = random.Random(seed)
    templates = [REFERENCE_TEMPLATES[i % len(REFERENCE_TEMPLATES)] for i in range(pairs)]
    chosen = [(template, tuple(draw.sample(single, 2))) for template in templates]
    filled = [(_with_names(template, pair), pair) for template, pair in chosen]
    return ioi_prompts(model, [text for text, _ in filled], [(a, b) for _, (a, b) in filled])


def _with_names(template: str, pair: tuple[str, ...]) -> str:
    """A reference template with other names: "When John and Mary …" begins with two of them."""
    opening, _, rest = template.partition(" ")
    _, _, rest = rest.partition(" and ")
    _, _, rest = rest.partition(" ")
    return f"{opening}{pair[0]} and{pair[1]} {rest}"


@torch.no_grad()
def attention_and_attribution(model: TransformerBridge, prompts: Task) -> dict[str, Measured]:
    """:func:`ioi_attribution` and the attention scores of every head, from one run."""
    answers = logit_diff_directions(model, prompts.answer_tokens)
    directions = read_directions(model, answers).float()
    effects: dict[int, Tensor] = {}
    rows: dict[int, Tensor] = {}
    scale: list[Tensor] = []

    def keep_effect(z: Tensor, hook) -> None:
        weights = model.blocks[hook.layer()].attn.W_O.float()
        wanted = torch.einsum("bm,hdm->bhd", directions.to(z.device), weights)
        effects[hook.layer()] = (z[:, -1].float() * wanted).sum(-1).cpu()

    def keep_row(pattern: Tensor, hook) -> None:
        rows[hook.layer()] = pattern[:, :, -1].float().cpu()

    def keep_scale(value: Tensor, hook) -> None:
        scale.append(value[:, -1].float().cpu())

    layers = range(model.cfg.n_layers)
    hooks = [
        (hook_names_of(model, "z", layers).__contains__, keep_effect),
        (hook_names_of(model, "pattern", layers).__contains__, keep_row),
        ({"ln_final.hook_scale"}.__contains__, keep_scale),
    ]
    model.run_with_hooks(prompts.tokens, return_type=None, fwd_hooks=hooks)
    attention = torch.stack([rows[layer] for layer in layers], dim=1)
    effect = torch.stack([effects[layer] / scale[0] for layer in layers], dim=1)
    even = 1 / prompts.tokens.shape[1]
    scores = {
        score.__name__: Measured(_pairs(score(attention, prompts.positions[where].cpu())), even)
        for where, score in ATTENTION_SCORES.items()
    }
    return {"ioi_attribution": Measured(_pairs(ioi_attribution(effect)), 0.0), **scores}


@torch.no_grad()
def patching(model: TransformerBridge, prompts: Task, *, progress: bool | None = None) -> Measured:
    """:func:`ioi_patching` of every head."""
    metric = LogitDiff(prompts.answer_tokens, per_prompt=True)
    patched = patch_sweep(
        model, prompts.corrupted_tokens, prompts.tokens, "z", metric, progress=progress
    ).movedim(-1, 0)
    clean, corrupted = (metric(model(tokens)) for tokens in (prompts.tokens, prompts.corrupted_tokens))
    span = (clean - corrupted).mean().item()
    if span == 0:
        raise ValueError(
            "Clean and corrupted prompts give the same logit difference: nothing to restore."
        )
    restored = (patched - corrupted[:, None, None]).float().cpu()
    return Measured(_pairs(ioi_patching(restored, span)), 0.0)


def task_logit_diff(model: TransformerBridge, prompts: Task) -> tuple[float, float]:
    """Average logit difference of the prompts, and its standard error over pairs."""
    with torch.no_grad():
        values = logit_diff(model(prompts.tokens), prompts.answer_tokens, per_prompt=True).float().cpu()
    pairs = values.unflatten(0, (-1, 2)).mean(1)
    return pairs.mean().item(), (pairs.std() / len(pairs) ** 0.5).item()


def _pairs(values: Float[Tensor, "batch layer head"]) -> Float[Tensor, "pair layer head"]:
    return values.unflatten(0, (-1, 2)).mean(1)
