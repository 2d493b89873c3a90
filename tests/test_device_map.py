"""Models that do not lie on one device: what runs there, and what says beforehand that it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from helpers.models import load_model
from helpers.patching import patch_sweep
from helpers.path_patching import path_patch_sweep
from tests.cluster_metrics import prompts, save_tiny

pytestmark = pytest.mark.usefixtures("one_thread")

PARTS = ("wte", "wpe", "h.0", "h.1", "ln_f")
ON_DISK = {f"transformer.{part}": "cpu" for part in PARTS} | {
    "transformer.h.2": "disk",
    "lm_head": "cpu",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


def test_one_device_by_its_map_is_one_device(folder):
    base, source, metric = prompts()
    mapped, plain = load_model(folder, device_map={"": "cpu"}), load_model(folder, device="cpu")
    values = (patch_sweep(model, base, source, "z", metric) for model in (mapped, plain))
    assert torch.equal(*values)


def test_weights_on_disk_are_refused_before_they_are_processed(folder):
    with pytest.raises(NotImplementedError, match=r"leaves parts of tiny off its devices, .* for one"):
        load_model(folder, device_map=ON_DISK)


@pytest.fixture(scope="module")
def offloaded(folder: Path) -> TransformerBridge:
    """By accelerate, to disk and to memory; its weights as they are."""
    return TransformerBridge.boot_transformers(str(folder), device_map=ON_DISK).eval()


def test_it_runs_with_parts_on_disk(folder, offloaded):
    base, _, _ = prompts()
    plain = TransformerBridge.boot_transformers(str(folder), device="cpu").eval()
    torch.testing.assert_close(offloaded(base), plain(base))


def test_sweeps_refuse_it_before_they_start(offloaded):
    base, source, _ = prompts()

    def metric(logits):
        raise AssertionError("it has started")

    with pytest.raises(NotImplementedError, match=r"is spread out over .*meta"):
        patch_sweep(offloaded, base, source, "z", metric)
    with pytest.raises(NotImplementedError, match="patch with hooks"):
        path_patch_sweep(offloaded, base, source, (2, 1), "k", metric)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two CUDA devices here")
def test_two_devices(folder):
    """Loaded over both it computes the same, and sweeps say that they do not follow it."""
    base, source, metric = prompts()
    halves = {name: int(name in ("transformer.h.2", "transformer.ln_f")) for name in ON_DISK}
    spread, plain = load_model(folder, device_map=halves), load_model(folder, device="cuda:0")
    torch.testing.assert_close(spread(base).cpu(), plain(base).cpu(), atol=1e-4, rtol=1e-4)
    with pytest.raises(NotImplementedError, match="spread out over cuda:0, cuda:1"):
        patch_sweep(spread, base, source, "z", metric)
