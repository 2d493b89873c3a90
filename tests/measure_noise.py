"""How far the demos' numbers move when nothing changes but the machine's arithmetic.

`python -m tests.measure_noise` prints what the constants in helpers.notebooks.compare are judged
by: the spread of key quantities between one thread and two, and between one batch of eight prompts
and two of four. It takes two minutes on two cores.
"""

from __future__ import annotations

from itertools import combinations

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.head_scores import attention_scores, repeated_random_tokens
from helpers.ioi.prompts import reference_prompts
from helpers.logit_diff import LogitDiff, logit_diff, logit_diff_directions, residual_stack_to_logit_diff
from helpers.model_folder import EMBEDDED_MODEL
from helpers.models import load_model
from helpers.patching import patch_sweep
from helpers.path_patching import path_patch_sweep
from helpers.task import Task

Quantities = dict[str, Tensor]


def of_prompts(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], other: Tensor, answers: Tensor
) -> Quantities:
    """What the demo computes from a batch of prompts."""
    logits, cache = model.run_with_cache(tokens)
    directions = logit_diff_directions(model, answers)
    stack = cache.stack_head_results(layer=-1, pos_slice=-1)
    metric, size = LogitDiff(answers), (model.cfg.n_layers, model.cfg.n_heads)
    by_head = residual_stack_to_logit_diff(stack, cache, directions).reshape(size)
    strongest = divmod(int(by_head.argmax()), model.cfg.n_heads)
    return {
        "logit difference": logit_diff(logits, answers),
        "by head": by_head,
        "patch sweep, resid_pre": patch_sweep(model, other, tokens, "resid_pre", metric),
        "patch sweep, z": patch_sweep(model, other, tokens, "z", metric),
        "path patch, q": path_patch_sweep(model, other, tokens, strongest, "q", metric),
    }


def mean_of_parts(model: TransformerBridge, prompts: Task, size: int) -> Quantities:
    """The quantities averaged over batches of `size` prompts."""
    columns = (prompts.tokens, prompts.corrupted_tokens, prompts.answer_tokens)
    parts = [of_prompts(model, *batch) for batch in zip(*(c.split(size) for c in columns), strict=True)]
    return {key: torch.stack([part[key] for part in parts]).mean(0) for key in parts[0]}


def scores_of_parts(model: TransformerBridge, size: int) -> Quantities:
    """The heads' scores on random tokens, averaged over batches of `size` rows."""
    rows = repeated_random_tokens(model, batch=2, length=100, seed=0)
    parts = [attention_scores(model, some) for some in rows.split(size)]
    return {kind: torch.stack([part[kind] for part in parts]).mean(0) for kind in parts[0]}


def spread(old: Tensor, new: Tensor) -> tuple[float, float, float]:
    """Largest absolute difference, that over the largest entry, and the largest relative one.

    The relative one is of entries of at least 1/1000 of the largest: those that can be seen.
    """
    gap, size = (old - new).abs(), torch.maximum(old.abs(), new.abs())
    seen = size > size.max() / 1000
    return gap.max().item(), (gap.max() / size.max()).item(), (gap[seen] / size[seen]).max().item()


@torch.no_grad()
def main() -> None:
    """Print one line for each quantity: the largest spread between any two of the four runs."""
    model = load_model(EMBEDDED_MODEL, device="cpu")
    prompts = reference_prompts(model)
    runs: list[Quantities] = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for parts in (1, 2):
            found = mean_of_parts(model, prompts, len(prompts) // parts)
            runs.append(found | scores_of_parts(model, 2 // parts))
    print("quantity                  largest    absolute  of the largest  relative")
    for key in runs[0]:
        pairs = [spread(*pair) for pair in combinations([run[key] for run in runs], 2)]
        absolute, of_largest, relative = (max(column) for column in zip(*pairs, strict=True))
        largest = runs[0][key].abs().max().item()
        print(f"{key:24} {largest:8.4f}  {absolute:10.2e}  {of_largest:14.2e}  {relative:8.2e}")


if __name__ == "__main__":
    main()
