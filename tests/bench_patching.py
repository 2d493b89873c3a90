"""``patch_sweep`` against ``transformer_lens.patching``: time, memory and agreement on eight prompts.

Edges into a head's query likewise; and what gradients estimate, against the exact sweep.

``python -m tests.bench_patching`` prints a table and writes ``build/bench.json``; under half an hour
on two idle cores, minutes with ``--quick``. Both sides run by turns in one process. Ours is the median
of whole sweeps. Theirs is one forward pass a patch, all of one cost, so it makes a random sample of
them, the same each time, and its time is the number of patches times the median over rounds of the
time of one. Every value theirs returns is compared; with ``--all`` it makes every patch, for hours.
Of edges ours too makes a sample where all of a model are meant: those into some readers, drawn by lot.

Exits with an error if a sweep differs by more than 1e-4 or takes more than 2 GB beyond the model, or if
an estimate does not go with the exact effects at all.
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
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import psutil
import torch
import transformer_lens.patching as tl_patching
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge

from helpers.attribution import attribution_sweep
from helpers.edges.estimated import edge_attribution
from helpers.edges.exact import edge_sweep
from helpers.edges.graph import Reader, Writer, heard_by, possible_edges, readers, writers
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
ESTIMATED = ["z", "q", "resid_pre"]
STEPS = (1, 4)
PARTS = ("sweeps", "edges", "estimates")
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
    parser.add_argument("--part", choices=PARTS, help="one part alone (default: all three)")
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
    results = []
    for part in [options.part] if options.part else PARTS:
        print(HEADERS[part])
        for row in rows_of(part, models, prompts, options, patches):
            results.append(row)
            PRINTED[part](row)
            write_file(options.out, json.dumps(results, indent=1) + "\n")
        print()
    for row in results:
        if row.get("note"):
            print(f"{row['model']}, {row['site']}: {row['note']}")
    if faults := [fault for row in results for fault in faults_of(row)]:
        raise SystemExit("\n".join(faults))


def rows_of(
    part: str,
    models: dict[str, TransformerBridge],
    prompts: Task,
    options: argparse.Namespace,
    patches: int | None,
) -> Iterator[dict[str, Any]]:
    """The results of one part, as they come."""
    for name, model in models.items():
        if part == "sweeps":
            sites = QUICK if options.quick else list(TRANSFORMER_LENS_SWEEPS)
            found = (bench_site(model, prompts, *site, options.rounds, patches) for site in sites)
        elif part == "edges":
            found = iter([bench_edges(model, prompts, options.rounds)])
        else:
            found = bench_estimates(model, prompts)
        yield from ({"model": name, **row} for row in found)


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


@torch.no_grad()
def bench_edges(model: TransformerBridge, prompts: Task, rounds: int) -> dict[str, Any]:
    """Every part into the query of one head of the last layer.

    Theirs goes from one head to all heads after it, a forward pass each. Its senders are of the last
    layer but one, drawn by lot, so that none of these passes is for another layer than the receiver's.
    """
    layer, head = model.cfg.n_layers - 1, model.cfg.n_heads // 2
    reader = Reader(layer, head, "q")
    metric = LogitDiff(prompts.answer_tokens)
    base, source = prompts.corrupted_tokens, prompts.tokens

    def ours() -> Tensor:
        return edge_sweep(model, base, source, [reader], metric, progress=False)[0]

    values, _, peak = measured(model, ours)
    caches = [model.run_with_cache(tokens)[1] for tokens in (source, base)]
    senders = torch.randperm(model.cfg.n_heads, generator=torch.Generator().manual_seed(0)).tolist()
    ours_s, theirs_s, differences = [], [], []
    for sender in senders[:rounds]:
        ours_s.append(seconds(model, ours)[0])
        took, expected = seconds(model, partial(their_paths, model, base, caches, metric, sender))
        theirs_s.append(took / model.cfg.n_heads)
        column = writers(model).index(Writer(layer - 1, sender))
        differences.append((values[column] - expected[layer, head]).abs())
    from_heads = layer * model.cfg.n_heads
    return {
        "site": f"edges into L{layer}H{head} q",
        "ours_s": median(ours_s),
        "theirs_s": median(theirs_s) * from_heads,
        "ratio": median(theirs_s) * from_heads / median(ours_s),
        "max_abs_diff": torch.stack(differences).max().item(),
        "peak_memory_mb": peak / 1e6,
        "compared": len(differences),
        "sites": from_heads,
    }


def their_paths(
    model: TransformerBridge, base: Tensor, caches: list[ActivationCache], metric: LogitDiff, sender: int
) -> Float[Tensor, "layer head"]:
    """TransformerLens's values from a head of the last layer but one to queries of the last."""
    return tl_patching.get_act_patch_direct_path(
        model,
        base,
        *caches,
        lambda logits: metric(logits[:, -1]),
        model.cfg.n_layers - 2,
        sender,
        "q",
        verbose=False,
    )


def bench_estimates(model: TransformerBridge, prompts: Task) -> Iterator[dict[str, Any]]:
    """What gradients say, against the exact sweep: once each, since it is agreement that is asked."""
    metric = LogitDiff(prompts.answer_tokens)
    runs = prompts.corrupted_tokens, prompts.tokens
    unpatched = metric(model(runs[0])[:, -1]).item()
    for site in ESTIMATED:
        took, exact = seconds(model, lambda site=site: patch_sweep(model, *runs, site, metric))
        for steps in STEPS:
            estimate = partial(attribution_sweep, model, *runs, site, metric, steps=steps)
            row = compared(model, estimate, exact - unpatched, took, unpatched)
            yield {"site": f"{site}, {steps} step{'s' * (steps > 1)}", **row}
    into = some_readers(model)
    took, exact = seconds(model, lambda: edge_sweep(model, *runs, into, metric, progress=False))
    measured_edges = sum(heard_by(model, reader) for reader in into)
    took *= int(possible_edges(model).sum()) / measured_edges
    rows = [readers(model).index(reader) for reader in into]
    for steps in STEPS:
        estimate = partial(edge_attribution, model, *runs, metric, steps=steps, progress=False)
        row = compared(model, estimate, exact - unpatched, took, unpatched, rows)
        yield {"site": f"edges, {steps} step{'s' * (steps > 1)}", **row}


def some_readers(model: TransformerBridge) -> list[Reader]:
    """Three heads' inputs and an MLP, drawn by lot, and the logits."""
    layers = torch.randint(1, model.cfg.n_layers, (4,), generator=torch.Generator().manual_seed(0))
    *of_heads, of_mlp = layers.tolist()
    inputs = [Reader(layer, 1, through) for layer, through in zip(of_heads, "qkv", strict=True)]
    return [*inputs, Reader(of_mlp, None, "mlp"), Reader(model.cfg.n_layers, None, "logits")]


def compared(
    model: TransformerBridge,
    estimate: Callable[[], Tensor],
    exact: Tensor,
    exact_s: float,
    unpatched: float,
    rows: list[int] | None = None,
) -> dict[str, Any]:
    """An estimate's time, and how its effects (in some rows) go with the exact ones."""
    took, found = seconds(model, estimate)
    effects = (found if rows is None else found[rows]) - unpatched
    return {
        "ours_s": took,
        "exact_s": exact_s,
        "ratio": exact_s / took,
        "rank": float(spearmanr(effects.flatten().cpu(), exact.flatten().cpu()).statistic),
        "top_ten": in_common(effects, exact),
    }


def in_common(ours: Tensor, exact: Tensor, count: int = 10) -> int:
    """How many of the largest effects, by size, are among both."""
    largest = [set(x.flatten().abs().topk(count).indices.tolist()) for x in (ours, exact)]
    return len(largest[0] & largest[1])


def faults_of(row: dict[str, Any]) -> list[str]:
    """What is wrong with a result, rather than slow. A NaN is wrong too."""
    what, faults = f"{row['model']}, {row['site']}", []
    if "rank" in row:
        no_relation = f"{what}: rank correlation with the exact effects is {row['rank']:.2f}"
        return [] if row["rank"] > 0 else [no_relation]
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


def print_edges(row: dict[str, Any]) -> None:
    print(
        f"{row['model']:18} {row['site']:20} {row['ours_s']:8.2f} {row['theirs_s']:9.1f} "
        f"{row['ratio']:6.1f} {row['max_abs_diff']:10.1e} {row['peak_memory_mb']:8.0f} "
        f"{row['compared']:5} / {row['sites']:4}",
        flush=True,
    )


def print_estimate(row: dict[str, Any]) -> None:
    print(
        f"{row['model']:18} {row['site']:20} {row['ours_s']:8.2f} {row['exact_s']:9.1f} "
        f"{row['ratio']:6.1f} {row['rank']:6.2f} {row['top_ten']:7}",
        flush=True,
    )


NAMES = f"{'model':18} {'site':20}"
HEADERS = {
    "sweeps": f"{NAMES} {'ours s':>8} {'theirs s':>9} {'ratio':>6} {'goal':>5} {'FLOP ratio':>10} "
    f"{'max |diff|':>10} {'peak MB':>8} {'of matmul':>9} {'compared':>12}",
    "edges": f"{NAMES} {'ours s':>8} {'theirs s':>9} {'ratio':>6} {'max |diff|':>10} {'peak MB':>8} "
    f"{'compared':>12}",
    "estimates": f"{NAMES} {'ours s':>8} {'exact s':>9} {'ratio':>6} {'rank':>6} {'top ten':>7}",
}
PRINTED = {"sweeps": print_row, "edges": print_edges, "estimates": print_estimate}


if __name__ == "__main__":
    main()
