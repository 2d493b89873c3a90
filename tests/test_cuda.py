"""The same numbers on CUDA as on the CPU: `make test-cuda`.

TF32 is off. Both devices then compute in float32 and differ in the order of their sums. Attention
matrices are refactored by a singular value decomposition, whose signs are arbitrary: queries, keys,
values and head outputs before W_O cannot be compared, and nothing here or in the demos depends on them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities import get_attention_mask

from helpers.atlas.build import Settings, build_atlas
from helpers.attribution import attribution_sweep
from helpers.edges.circuit import with_only_edges
from helpers.edges.estimated import edge_attribution
from helpers.edges.exact import edge_sweep
from helpers.edges.graph import Reader, possible_edges
from helpers.edges.writes import writes
from helpers.head_scores import attention_scores, repeated_random_tokens
from helpers.ioi.published_run import TOLERANCE, compare, measure
from helpers.logit_diff import (
    LogitDiff,
    logit_diff,
    logit_diff_directions,
    residual_stack_to_logit_diff,
)
from helpers.models import load_model
from helpers.patching import BLOCK_SITES, HEAD_SITES, patch_sweep
from helpers.path_patching import path_patch_sweep
from tests.gpt2_shape import build_checkpoint
from tests.tiny_models import tiny_gpt2_hf, tiny_llama_hf, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("exact_float32", "one_thread")

CLEAN = torch.tensor([[0, 5, 9, 12, 5, 30], [0, 7, 7, 3, 41, 2]])
CORRUPTED = torch.tensor([[0, 5, 9, 3, 5, 30], [0, 7, 7, 12, 41, 2]])
ANSWERS = torch.tensor([[4, 8], [8, 4]])

# Values of order one to ten after three layers; the CPU's own loss to rounding is about 1e-6.
CLOSE = {"atol": 1e-4, "rtol": 1e-4}

# The CPU with itself: what keeps this module's own code from rotting where there is no GPU.
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=[tiny_gpt2_hf, tiny_llama_hf], ids=["gpt2-shaped", "llama-shaped"])
def folder(request, tmp_path) -> Path:
    request.param().save_pretrained(tmp_path / "tiny")
    tiny_tokenizer().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@torch.no_grad()
def numbers(folder: Path, device: str) -> dict[str, Tensor]:
    """What the demos measure, by name."""
    model = load_model(folder, device=device)
    assert next(model.parameters()).device.type == device
    clean, corrupted, answers = (t.to(device) for t in (CLEAN, CORRUPTED, ANSWERS))
    logits, cache = model.run_with_cache(clean)
    directions = logit_diff_directions(model, answers)
    stacks = {
        "components": cache.decompose_resid(layer=-1, pos_slice=-1),
        "heads": cache.stack_head_results(layer=-1, pos_slice=-1),
    }
    padded = model.to_tokens(["w5 w6 w7", "w5 w6 w7 w8 w9"], padding_side="left")
    mask = get_attention_mask(model.tokenizer, padded, prepend_bos=True, padding_side="left")
    repeated = repeated_random_tokens(model, length=8, low=1, high=60)
    metric = LogitDiff(answers)
    return {
        "log-probabilities": logits.log_softmax(-1),
        "pattern": cache["pattern", 1],
        **{name: residual_stack_to_logit_diff(s, cache, directions) for name, s in stacks.items()},
        "left padding": logit_diff(model(padded, attention_mask=mask), answers, per_prompt=True),
        **attention_scores(model, repeated),
        **{
            site: patch_sweep(model, corrupted, clean, site, metric)
            for site in (*BLOCK_SITES, *HEAD_SITES)
        },
        **{
            f"path to {through}": path_patch_sweep(model, corrupted, clean, (2, 1), through, metric)
            for through in "qkv"
        },
        **{
            f"{site}, estimated": attribution_sweep(model, corrupted, clean, site, metric, steps=2)
            for site in ("resid_pre", "z", "q", "pattern")
        },
        "edges": edge_sweep(model, corrupted, clean, some_readers(), metric),
        "edges, estimated": edge_attribution(model, corrupted, clean, metric, steps=2),
        "half of the edges": with_only_edges(
            model, clean, half_of_edges(model), writes(model, corrupted), metric
        ),
    }


def some_readers() -> list[Reader]:
    """One of each kind, of three layers."""
    of_heads = [Reader(2, 1, "q"), Reader(2, 1, "k"), Reader(1, 2, "v")]
    return [*of_heads, Reader(1, None, "mlp"), Reader(3, None, "logits")]


def half_of_edges(model: TransformerBridge) -> Tensor:
    kept = possible_edges(model)
    kept[:, ::2] = False
    return kept


@pytest.mark.parametrize("device", DEVICES)
def test_what_the_demos_measure(folder, device):
    ours, theirs = numbers(folder, device), numbers(folder, "cpu")
    for name, value in ours.items():
        torch.testing.assert_close(
            value.cpu(), theirs[name].cpu(), **CLOSE, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("device", DEVICES)
def test_the_head_atlas(folder, device):
    settings = Settings(rows=2, tokens=20)
    ours, theirs = (build_atlas(load_model(folder, device=name), settings) for name in (device, "cpu"))
    assert ours.scores == theirs.scores
    assert "copying_rank" in ours.scores
    for score in ours.scores:
        # A rank is a count: of 20 tokens one may change places with its neighbour, which moves it by
        # 2/19/20, or into or out of the top five.
        counted = score in ("copying_rank", "qk_same_token") or "top5" in score
        close = {"atol": 0.06, "rtol": 0} if counted else {"atol": 1e-3, "rtol": 1e-3}
        torch.testing.assert_close(ours.score(score), theirs.score(score), **close)


@pytest.mark.cuda
def test_the_whole_published_record(narrow_gpt2, tmp_path):
    """Every figure of the IOI demo, on random weights with GPT-2 small's layers and vocabulary."""
    folder = build_checkpoint(tmp_path, width=96).folder
    on_cuda = measure(load_model(folder, device="cuda"))
    deviations = compare(on_cuda, measure(narrow_gpt2))
    print("", *deviations, sep="\n")
    assert not [str(deviation) for deviation in deviations if not deviation.largest <= TOLERANCE]


@pytest.mark.cuda
def test_cuda_is_chosen_by_itself_and_by_the_environment(folder, monkeypatch):
    monkeypatch.delenv("DEMO_DEVICE", raising=False)
    for device in (None, "cuda", "cuda:0"):
        if device:
            monkeypatch.setenv("DEMO_DEVICE", device)
        assert next(load_model(folder).parameters()).is_cuda
    monkeypatch.setenv("DEMO_DEVICE", "cpu")
    assert not next(load_model(folder).parameters()).is_cuda
