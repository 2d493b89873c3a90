"""Measuring what is published of GPT-2 small's IOI run, and comparing the two records.

:func:`published_comparison` is the whole of it as a table to print. :func:`measure` gives a record of
the shape of ``helpers/ioi/gpt2_small_ioi.json``; :func:`compare` tells where two such records differ.
One function measures one figure, from the same :class:`Run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge

from helpers.head_scores import Head, attention_scores, repeated_random_tokens, top_heads
from helpers.ioi.prompts import reference_prompts
from helpers.ioi.record import published, published_value
from helpers.logit_diff import (
    LogitDiff,
    logit_diff,
    logit_diff_directions,
    normalise,
    residual_stack_to_logit_diff,
)
from helpers.patching import patch_sweep
from helpers.precision import in_float
from helpers.task import Task

__all__ = ["published_comparison"]

Record = dict[str, Any]

# What a model of this name must be like to be GPT-2 small.
GPT2_SMALL_NAMES = ("gpt2", "gpt2-small")
GPT2_SMALL_SIZES: Mapping[str, int | str] = {
    "n_layers": 12,
    "n_heads": 12,
    "d_model": 768,
    "d_mlp": 3072,
    "d_vocab": 50257,
    "positional_embedding_type": "standard",
}

# --- a run ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A model on the eight prompts, clean and corrupted."""

    model: TransformerBridge
    prompts: Task
    logits: Float[Tensor, "batch pos vocab"]
    cache: ActivationCache
    directions: Float[Tensor, "batch d_model"]
    clean: float
    corrupted: float


def run_prompts(model: TransformerBridge) -> Run:
    prompts = reference_prompts(model)
    logits, cache = model.run_with_cache(prompts.tokens)
    return Run(
        model=model,
        prompts=prompts,
        logits=logits,
        cache=cache,
        directions=logit_diff_directions(model, prompts.answer_tokens),
        clean=logit_diff(logits, prompts.answer_tokens).item(),
        corrupted=logit_diff(model(prompts.corrupted_tokens), prompts.answer_tokens).item(),
    )


# --- one function a figure ------------------------------------------------------------------------


def one_prompt(run: Run) -> Record:
    """Rank, logit and probability of the answer to a single prompt, and the ten likeliest tokens."""
    text = published_value("test_prompt")
    model = run.model
    logits = in_float(model(model.to_tokens(text["prompt"], prepend_bos=True))[0, -1])
    probabilities = logits.softmax(-1)
    answer = int(model.to_tokens(text["answer"], prepend_bos=False)[0, 0])
    order = logits.argsort(descending=True).tolist()
    return {
        "prompt": text["prompt"],
        "answer": text["answer"],
        "rank": order.index(answer),
        "logit": logits[answer].item(),
        "probability": probabilities[answer].item(),
        "top_10": [
            [model.to_string([token]), logits[token].item(), probabilities[token].item()]
            for token in order[:10]
        ],
    }


def logit_lens(run: Run) -> dict[str, float]:
    stack, labels = run.cache.accumulated_resid(
        layer=-1, incl_mid=True, pos_slice=-1, return_labels=True
    )
    values = residual_stack_to_logit_diff(stack, run.cache, run.directions)
    return dict(zip(labels, values.tolist(), strict=True))


def layer_attribution(run: Run) -> dict[str, float]:
    stack, labels = run.cache.decompose_resid(layer=-1, pos_slice=-1, return_labels=True)
    values = residual_stack_to_logit_diff(stack, run.cache, run.directions)
    return dict(zip(labels, values.tolist(), strict=True))


def head_attribution(run: Run, cache: ActivationCache | None = None) -> Float[Tensor, "layer head"]:
    """By the run's own cache, or by another's of the same prompts."""
    cache = run.cache if cache is None else cache
    stack = cache.stack_head_results(layer=-1, pos_slice=-1)
    values = residual_stack_to_logit_diff(stack, cache, run.directions)
    return values.reshape(run.model.cfg.n_layers, run.model.cfg.n_heads)


def patched(run: Run, site: str) -> Float[Tensor, "layer position_or_head"]:
    """Clean activations into the corrupted run: 0 restores nothing, 1 the whole logit difference."""
    metric = LogitDiff(run.prompts.answer_tokens)
    raw = patch_sweep(run.model, run.prompts.corrupted_tokens, run.prompts.tokens, site, metric)
    return normalise(raw, clean=run.clean, corrupted=run.corrupted)


def head_scores(run: Run) -> dict[str, Float[Tensor, "layer head"]]:
    scores = attention_scores(run.model, repeated_random_tokens(run.model))
    return {f"score_{kind.replace(' ', '_')}": values for kind, values in scores.items()}


# --- ablation -------------------------------------------------------------------------------------


def ablate_at_end(run: Run, head: Head) -> tuple[Tensor, ActivationCache]:
    """Logits and cache of the run in which one head writes nothing at the last position."""

    def zero(z: Float[Tensor, "batch pos head d_head"], hook: Any) -> Tensor:
        z[:, -1, head.head] = 0
        return z

    with run.model.hooks(fwd_hooks=[(f"blocks.{head.layer}.attn.hook_z", zero)]):
        return run.model.run_with_cache(run.prompts.tokens)


def final_scale(cache: ActivationCache) -> Float[Tensor, " batch"]:
    """What the last layer norm divides by, at the last position."""
    return cache["ln_final.hook_scale"][:, -1, 0]


# --- the record -----------------------------------------------------------------------------------

PATCHING = {
    "patch_resid_pre": "resid_pre",
    "patch_attn_out": "attn_out",
    "patch_mlp_out": "mlp_out",
    "patch_head_z": "z",
    "patch_head_v": "v",
    "patch_head_pattern": "pattern",
}


@torch.no_grad()
def measure(model: TransformerBridge) -> Record:
    """``printed`` and ``figures`` of a model, in the published record's shape and units."""
    run = run_prompts(model)
    by_head = head_attribution(run)
    mover = top_heads(by_head, 1)[0]
    ablated_logits, ablated_cache = ablate_at_end(run, mover)
    before, after = final_scale(run.cache), final_scale(ablated_cache)
    answers = run.prompts.answer_tokens
    printed = {
        "test_prompt": one_prompt(run),
        "logit_diff_per_prompt": logit_diff(run.logits, answers, per_prompt=True).tolist(),
        "logit_diff_average": run.clean,
        "logit_diff_corrupted": run.corrupted,
        "top_name_mover": mover.name,
        "top_name_mover_direct_attribution": mover.value,
        "ablation_naive_prediction": run.clean - mover.value,
        "ablation_logit_diff": logit_diff(ablated_logits, answers).item(),
        "ln_scale_ratio_average": (before / after).mean().item(),
        "ln_scale_original": before.tolist(),
        "ln_scale_ablated": after.tolist(),
    }
    figures: dict[str, Any] = {
        "logit_lens": logit_lens(run),
        "layer_attribution": layer_attribution(run),
        "head_attribution": by_head.tolist(),
        **{name: patched(run, site).tolist() for name, site in PATCHING.items()},
        **{name: values.tolist() for name, values in head_scores(run).items()},
        "head_attribution_after_ablation": head_attribution(run, ablated_cache).tolist(),
    }
    return {"printed": printed, "figures": figures}


# --- comparison -----------------------------------------------------------------------------------

# The record rounds to four decimals (half a unit: 5e-5), and its three runs, on other machines, agree
# to 2e-5. A run here multiplies in another order, in float32, logits of order ten: some 1e-5 more.
# 5e-4 holds all of that several times over. The smallest effects that a demo speaks of are 0.1.
TOLERANCE = 5e-4

# Where the record has fewer decimals, a unit of the last one.
COARSER: Mapping[str, float] = {
    "logit_diff_per_prompt": 1e-3,
    "logit_diff_average": 1e-3,
    "logit_diff_corrupted": 1e-3,
    "test_prompt.logit": 1e-2,
    "test_prompt.top logits": 1e-2,
    "ln_scale_original": 1e-2,
    "ln_scale_ablated": 1e-2,
}

NOT_MEASURED = ("ablation_note",)  # a remark on the record


@dataclass(frozen=True)
class Deviation:
    """How far a figure is from the published one.

    Attributes:
        largest: the largest deviation of a number in it; infinite if the two are not of one shape, or
            a word differs.
        where: the entry in which it occurs.
    """

    name: str
    largest: float
    where: str
    tolerance: float

    @property
    def too_large(self) -> bool:
        return not self.largest <= self.tolerance  # so that NaN is too large

    def __str__(self) -> str:
        verdict = "DIFFERS" if self.too_large else "agrees"
        at = f" at {self.where}" if self.where else ""
        return f"{verdict:<8} {self.name:<40} {self.largest:.1e} (allowed {self.tolerance:.0e}){at}"


def compare(measured: Record, reference: Record | None = None) -> list[Deviation]:
    """Every published figure and value, with the largest deviation from it.

    Args:
        measured: from :func:`measure`.
        reference: what to compare with; by default the published record.
    """
    reference = published() if reference is None else reference
    ours, theirs = _figures(measured), _figures(reference)
    return [_deviation(name, ours.get(name), theirs.get(name)) for name in {**theirs, **ours}]


def _figures(record: Record) -> dict[str, Any]:
    """Figures and values by name; ``test_prompt`` taken apart, since its parts differ in kind."""
    values = {**record["printed"], **record["figures"]}
    for name in NOT_MEASURED:
        values.pop(name, None)
    prompt = dict(values.pop("test_prompt", {}))
    columns = zip(*prompt.pop("top_10", []), strict=True)
    prompt.update(
        zip(("top tokens", "top logits", "top probabilities"), map(list, columns), strict=False)
    )
    return {**{f"test_prompt.{part}": value for part, value in prompt.items()}, **values}


def _deviation(name: str, ours: Any, theirs: Any) -> Deviation:
    tolerance = COARSER.get(name, TOLERANCE)
    distances = dict(_distances(ours, theirs))
    # A NaN compares as nothing: look for it first.
    where = next((place for place, distance in distances.items() if distance != distance), None)
    where = max(distances, key=lambda place: distances[place]) if where is None else where
    return Deviation(name, distances[where], where, tolerance)


def _distances(ours: Any, theirs: Any, place: str = "") -> list[tuple[str, float]]:
    """Distance of each pair of entries, by where they stand."""
    if _is_number(ours) and _is_number(theirs):
        return [(place, abs(ours - theirs))]
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping) and list(ours) == list(theirs):
        pairs = [(f"{place}[{key}]", ours[key], theirs[key]) for key in theirs]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = [(f"{place}[{i}]", *pair) for i, pair in enumerate(zip(ours, theirs, strict=True))]
    else:
        return [(place, 0.0 if ours == theirs else float("inf"))]
    return [entry for at, one, other in pairs for entry in _distances(one, other, at)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# --- for a reader ---------------------------------------------------------------------------------


def published_comparison(model: TransformerBridge) -> str:
    """Each published figure of GPT-2 small with this model's largest deviation from it, as a table.

    For any other model a sentence that says why nothing is compared, and nothing is run. The name alone
    does not make a model GPT-2 small, and its sizes alone neither.

    Args:
        model: from :func:`helpers.models.load_model`, without hooks.

    Example:
        >>> print(published_comparison(model))  # not GPT-2 small
        The published figures are GPT-2 small's and are not compared with this run's: ...
    """
    if why_not := _why_not_gpt2_small(model):
        return (
            "The published figures are GPT-2 small's and are not compared with this run's: this is "
            f"another model ({why_not})."
        )
    return comparison_table(compare(measure(model)))


def comparison_table(deviations: Sequence[Deviation]) -> str:
    """Figure, largest deviation, what is allowed, and the verdict, a line each; then how many agree."""
    rows = [("figure", "largest deviation", "allowed", "")]
    rows += [(d.name, f"{d.largest:.1e}", f"{d.tolerance:.0e}", _verdict(d)) for d in deviations]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{name:<{widths[0]}}  {largest:>{widths[1]}}  {allowed:>{widths[2]}}  {verdict}".rstrip()
        for name, largest, allowed, verdict in rows
    ]
    agreeing = sum(not d.too_large for d in deviations)
    return "\n".join([*lines, f"{agreeing} of {len(deviations)} published figures and values agree."])


def _verdict(deviation: Deviation) -> str:
    # Where an agreeing figure deviates most is chance, and would differ from machine to machine.
    if not deviation.too_large:
        return "agrees"
    return f"DIFFERS at {deviation.where}" if deviation.where else "DIFFERS"


def _why_not_gpt2_small(model: TransformerBridge) -> str:
    """In what the model is another one; empty for GPT-2 small."""
    name = model.cfg.model_name
    if name.rsplit("/", 1)[-1] not in GPT2_SMALL_NAMES:
        return name
    sizes = {what: getattr(model.cfg, what, None) for what in GPT2_SMALL_SIZES}
    unlike = [
        f"{what} {sizes[what]}, not {wanted}"
        for what, wanted in GPT2_SMALL_SIZES.items()
        if sizes[what] != wanted
    ]
    return f"{name} by name, but with {', '.join(unlike)}" if unlike else ""
