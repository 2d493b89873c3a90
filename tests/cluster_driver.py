"""A process that drives workers, to be interrupted and killed: ``python -m tests.cluster_driver``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.cluster import Workers
from helpers.models import load_model
from helpers.patching import patch_sweep
from helpers.work import Pool
from tests.cluster_metrics import Slow, prompts


def slow_sweep(model: TransformerBridge, on: Pool | None, seconds: float = 0.5) -> Tensor:
    """Of every head, a task each, and each takes its time."""
    base, source, _ = prompts()
    return patch_sweep(model, base, source, "z", Slow(seconds), chunk=len(base), progress=False, on=on)


def main() -> None:
    folder, keep = map(Path, sys.argv[1:])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    torch.set_num_threads(1)
    model = load_model(folder, device="cpu")
    with Workers(folder, count=2, keep=keep) as workers:
        print("started", flush=True)
        try:
            slow_sweep(model, workers)
            print("not interrupted", flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        slow_sweep(model, workers)
        print("finished", flush=True)


if __name__ == "__main__":
    main()
