"""``patch_sweep`` against ``transformer_lens.patching``: time, memory and agreement on eight prompts.

``python -m tests.bench_patching`` prints a table and writes ``build/bench.json``; under half an hour
on two idle cores, minutes with ``--quick``. Both sides run by turns in one process. Ours is the median
of whole sweeps. Theirs is one forward pass a patch, all of one cost, so it makes a random sample of
them, the same each time, and its time is the number of patches times the median over rounds of the
time of one. Every value theirs returns is compared; with ``--all`` it makes every patch, for hours.

Exits with an error if a sweep differs by more than 1e-4 or takes more than 2 GB beyond the model.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import psutil
import torch
import transformer_lens.patching as tl_patching
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge

from helpers.files import write_file
from helpers.ioi.prompts import reference_prompts
from helpers.logit_diff import LogitDiff
from helpers.models import load_model
from helpers.patching import HEAD_SITES, patch_sweep
from helpers.task import Task
from tests.gpt2_shape import gpt2_shaped_model
from tests.patching_reference import TRANSFORMER_LENS_SWEEPS
from tests.tiny_models import bridge

QUICK = [("resid_pre", True), ("attn_out", True), ("z", False)]
GOAL = {True: 20.0, False: 8.0}  # at least this ratio without, with heads
AGREEMENT = 1e-4
MEMORY_MB = 2000  # beyond the model, at the peak of a sweep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="three sites, one round, few patches")
    parser.add_argument("--all", action="store_true", help="every patch of theirs too: hours")
    parser.add_argument("--rounds", type=int, default=3, help="turns each side takes (default 3)")
    parser.add_argument("--patches", type=int, default=60, help="of theirs, for each site (default 60)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.patches = 1, 30
    patches = None if options.all else options.patches

    smollm2 = load_model("smollm2-135m", device=options.device)
    prompts = reference_prompts(smollm2)
    # Its own tokenizer would need a download; SmolLM2's tokens are within its vocabulary.
    random_gpt2 = bridge(gpt2_shaped_model()).to(options.device)
    models = {"smollm2-135m": smollm2, "random gpt2-small": random_gpt2}
    rate = matmul_rate(options.device) / 1e9
    print(f"{options.device}, {torch.get_num_threads()} threads, {rate:.0f} GFLOP/s in float32 matmul\n")
    print(
        f"{'model':18} {'site':20} {'ours s':>8} {'theirs s':>9} {'ratio':>6} {'goal':>5} "
        f"{'FLOP ratio':>10} {'max |diff|':>10} {'peak MB':>8} {'of matmul':>9} {'compared':>12}"
    )
    sites = QUICK if options.quick else list(TRANSFORMER_LENS_SWEEPS)
    results = []
    for (name, model), site in product(models.items(), sites):
        row = bench_site(model, prompts, *site, options.rounds, patches)
        results.append({"model": name, **row})
        print_row(results[-1])
        write_file(options.out, json.dumps(results, indent=1) + "\n")
    missed = [row for row in results if row["note"]]
    for row in missed:
        print(f"\n{row['model']}, {row['site']}: {row['note']}")
    if faults := [fault for row in results for fault in faults_of(row)]:
        raise SystemExit("\n".join(faults))


@torch.no_grad()
def bench_site(
    model: TransformerBridge,
    prompts: Task,
    site: str,
    by_position: bool,
    rounds: int,
    patches: int | None,
) -> dict[str, Any]:
    metric = LogitDiff(prompts.answer_tokens)
    base, source = prompts.corrupted_tokens, prompts.tokens

    def ours() -> Tensor:
        return patch_sweep(model, base, source, site, metric, by_position=by_position, progress=False)

    values, flops, peak = measured(model, ours)  # the first run also warms up
    if TRANSFORMER_LENS_SWEEPS[site, by_position][1] == ("position", "head"):
        values = values.transpose(1, 2)  # theirs has positions before heads
    _, flops_of_theirs, _ = measured(model, lambda: model(base))

    order = torch.randperm(values.numel(), generator=torch.Generator().manual_seed(0))
    sample = order[:patches].to(values.device)
    _, cache = model.run_with_cache(source)
    ours_s, theirs_s, rates, differences = [], [], [], []
    for turn in range(rounds):
        rates.append(matmul_rate(model.cfg.device))  # anew: other work on the machine comes and goes
        ours_s.append(seconds(model, ours)[0])
        some = sample[turn::rounds]
        where = torch.stack(torch.unravel_index(some, values.shape), dim=-1).tolist()
        run_theirs = partial(theirs, model, base, cache, metric, site, by_position, where)
        took, expected = seconds(model, run_theirs)
        theirs_s.append(took / len(some))
        differences.append((values.flatten()[some] - expected).abs().max())

    row = {
        "site": site + (" by position" if by_position and site in HEAD_SITES else ""),
        "ours_s": median(ours_s),
        "theirs_s": median(theirs_s) * values.numel(),
        "ratio": median(theirs_s) * values.numel() / median(ours_s),
        "goal": GOAL[site not in HEAD_SITES],
        "flop_ratio": flops_of_theirs * values.numel() / flops,
        "max_abs_diff": torch.stack(differences).max().item(),  # NaN if one is
        "peak_memory_mb": peak / 1e6,
        "matmul_fraction": flops / median(ours_s) / median(rates),
        "compared": len(sample),
        "sites": values.numel(),
        "ours_all_s": ours_s,
    }
    return {**row, "note": note(row)}


def theirs(
    model: TransformerBridge,
    base: Tensor,
    cache: ActivationCache,
    metric: LogitDiff,
    site: str,
    by_position: bool,
    where: list[list[int]],
) -> Float[Tensor, " patch"]:
    """TransformerLens's values of some patches, each given by its layer and further axes."""
    name, axes = TRANSFORMER_LENS_SWEEPS[site, by_position]
    sweep = getattr(tl_patching, f"get_act_patch_{name}")
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        return sweep(
            model,
            base,
            cache,
            metric,
            index_axis_names=None,
            index_df=pd.DataFrame(where, columns=["layer", *axes]),
        )


def faults_of(row: dict[str, Any]) -> list[str]:
    """What is wrong with a result, rather than slow. A NaN is wrong too."""
    what, faults = f"{row['model']}, {row['site']}", []
    if not row["max_abs_diff"] <= AGREEMENT:
        faults.append(
            f"{what}: differs from TransformerLens's by {row['max_abs_diff']:.1e} > {AGREEMENT}"
        )
    if not row["peak_memory_mb"] <= MEMORY_MB:
        faults.append(f"{what}: takes {row['peak_memory_mb']:.0f} MB > {MEMORY_MB} MB beyond the model")
    return faults


def note(row: dict[str, Any]) -> str:
    """What bounds a ratio below its goal."""
    if row["ratio"] >= row["goal"]:
        return ""
    return (
        f"{row['ratio']:.1f}x, short of {row['goal']:.0f}x. Theirs makes {row['flop_ratio']:.1f} times "
        f"our floating-point operations, which bounds the ratio at equal speed; ours run at "
        f"{row['matmul_fraction']:.0%} of the machine's matrix-multiply rate."
    )


def synchronize(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds(model: TransformerBridge, run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    synchronize(model.cfg.device)
    start = time.perf_counter()
    result = run()
    synchronize(model.cfg.device)
    return time.perf_counter() - start, result


def measured(model: TransformerBridge, run: Callable[[], Tensor]) -> tuple[Tensor, int, float]:
    """Result, floating-point operations in matrix products, and bytes taken at the peak."""
    with peak_memory(model.cfg.device) as peak, FlopCounterMode(display=False) as counter:
        result = run()
    return result, counter.get_total_flops(), peak[0]


@contextlib.contextmanager
def peak_memory(device: str) -> Iterator[list[float]]:
    """Most bytes taken beyond those held at the start: of the device, or resident on a CPU."""
    peak = [0.0]
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak[0] = torch.cuda.max_memory_allocated(device) - before
        return
    with contextlib.suppress(OSError, AttributeError):  # glibc: freed memory that it keeps is no use
        ctypes.CDLL(None).malloc_trim(0)
    process, done = psutil.Process(), threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def matmul_rate(device: str, size: int = 2048) -> float:
    """Operations a second in a float32 matrix product, the best of several."""
    a, b = torch.randn(2, size, size, device=device)
    best = float("inf")
    for _ in range(8):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def print_row(row: dict[str, Any]) -> None:
    print(
        f"{row['model']:18} {row['site']:20} {row['ours_s']:8.2f} {row['theirs_s']:9.1f} "
        f"{row['ratio']:6.1f} {row['goal']:5.0f} {row['flop_ratio']:10.1f} "
        f"{row['max_abs_diff']:10.1e} {row['peak_memory_mb']:8.0f} {row['matmul_fraction']:9.0%} "
        f"{row['compared']:5} / {row['sites']:4}",
        flush=True,
    )


if __name__ == "__main__":
    main()
