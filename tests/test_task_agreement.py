"""Patching, attribution and attention to roles, on each sampled task, by TransformerLens's functions.

On tiny random models of GPT-2's and Llama's shape at every layer, on SmolLM2 at a sample of sites.
"""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest
import torch
import transformer_lens.patching as tl_patching
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge

from helpers.head_scores import attention_between
from helpers.ioi.dataset import sample_ioi
from helpers.logit_diff import residual_stack_to_logit_diff
from helpers.patching import patch_sweep
from helpers.task import Task
from helpers.tasks.capitals import sample_capitals
from helpers.tasks.docstrings import sample_docstrings
from helpers.tasks.greater_than import sample_greater_than
from tests.patching_reference import TRANSFORMER_LENS_SWEEPS
from tests.test_tasks import tokenizer_of
from tests.tiny_models import random_hf

# Logits of order ten in float32, summed in another order; a wrong site moves the metric by far more.
CLOSE = {"atol": 1e-4, "rtol": 0}
SITES = [("resid_pre", True), ("z", False), ("v", False), ("pattern", False)]
SAMPLERS = [sample_greater_than, sample_docstrings, sample_capitals]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def tiny(request) -> TransformerBridge:
    tokenizer = tokenizer_of("digits")
    model = TransformerBridge.boot_transformers(
        "tiny",
        hf_model=random_hf(request.param, len(tokenizer), 64, key_value_heads=2).eval(),
        tokenizer=tokenizer,
        device="cpu",
    )
    model.enable_compatibility_mode(disable_warnings=True)
    return model.eval()


def run(model: TransformerBridge, task: Task) -> ActivationCache:
    with torch.no_grad():
        return model.run_with_cache(task.tokens)[1]


def check_patching(
    model: TransformerBridge, task: Task, site: str, by_position: bool, layers: list[int]
) -> None:
    metric, corrupted = task.metric(), task.corrupted_tokens
    [first, *_], last = task.changed_positions, task.tokens.shape[1] - 1
    positions = [first, last] if by_position else None
    ours = patch_sweep(
        model, corrupted, task.tokens, site, metric, layers=layers, positions=positions
    ).flatten()
    columns = positions or range(len(ours) // len(layers))
    sites = pd.DataFrame(product(layers, columns), columns=["layer", "column"])
    theirs = getattr(tl_patching, f"get_act_patch_{TRANSFORMER_LENS_SWEEPS[site, by_position][0]}")
    with torch.no_grad():
        values = theirs(
            model,
            corrupted,
            run(model, task),
            lambda logits: metric(logits[:, -1]),
            index_axis_names=None,
            index_df=sites,
        )
    torch.testing.assert_close(ours, values.flatten(), **CLOSE)
    assert ours.std() > 1e-3, "patches that do something"


def check_attribution(model: TransformerBridge, task: Task) -> None:
    cache = run(model, task)
    stack = cache.stack_head_results(pos_slice=-1, incl_remainder=False)
    ours = residual_stack_to_logit_diff(stack, cache, task.combined_by("mean logit").directions(model))
    normed = cache.apply_ln_to_stack(stack, layer=-1, pos_slice=-1)
    theirs = torch.zeros_like(normed[..., 0])
    for prompt, answers in enumerate(task.answer_tokens):
        right, wrong = (model.W_U[:, side[side >= 0].reshape(-1)].mean(1) for side in answers)
        theirs[:, prompt] = normed[:, prompt] @ (right - wrong)
    torch.testing.assert_close(ours, theirs.mean(1), **CLOSE)


def check_attention(model: TransformerBridge, task: Task, layers: list[int]) -> None:
    cache = run(model, task)
    rows, end = torch.arange(len(task)), task.positions["end"]
    for at in task.positions.values():
        ours = attention_between(cache, end, at)
        for layer in layers:
            theirs = cache["pattern", layer][rows, :, end, at].mean(0)
            torch.testing.assert_close(ours[layer], theirs, **CLOSE)


@pytest.mark.parametrize(("site", "by_position"), SITES)
@pytest.mark.parametrize("sample", SAMPLERS)
def test_patching_on_tiny_models(tiny, sample, site, by_position):
    check_patching(tiny, sample(tiny, 3, seed=0), site, by_position, [0, 1, 2])


@pytest.mark.parametrize("sample", SAMPLERS)
def test_attribution_and_attention_on_tiny_models(tiny, sample):
    task = sample(tiny, 3, seed=0)
    check_attribution(tiny, task)
    check_attention(tiny, task, [0, 1, 2])


def ioi_task(model: TransformerBridge, count: int, *, seed: int) -> Task:
    people = sample_ioi(model, count, seed=seed)
    return people.task(model, people.swapped_subject)


@pytest.mark.smollm2
@pytest.mark.parametrize("sample", [*SAMPLERS, ioi_task])
def test_all_of_it_on_the_embedded_model(smollm2, sample):
    task = sample(smollm2, 2, seed=0)
    for site, by_position in SITES[:2]:
        check_patching(smollm2, task, site, by_position, [23])
    check_attribution(smollm2, task)
    check_attention(smollm2, task, [5, 23])
