"""Ray workers against threads: efficiency, and what starting and shipping cost.

``python -m tests.bench_cluster`` prints a table and writes ``build/bench-cluster.json``; ten minutes on
two idle cores. The sweep is that of every head's output in the eight reference prompts. N workers of
one thread each are compared with one worker of one thread, and with this process on N threads. From
what was measured follows, by the formula that is printed, what a sweep of a larger model would take.

Exits with an error if workers give another result than this process.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from helpers.cluster import Workers, missing_ray
from helpers.cluster.worker import packed
from helpers.files import write_file
from helpers.ioi.prompts import reference_prompts
from helpers.models import load_model
from helpers.patching import patch_sweep
from tests.bench_patching import matmul_rate

COUNTS = (1, 2, 4, 8)
GOAL = 1.6  # times the speed of one worker, with two on two cores


@dataclass(frozen=True)
class Large:
    """A sweep on paper: of every head's output, at all positions.

    Attributes:
        parameters: of the model, in matrix products.
        heads: of the model.
        prompts: that are swept.
        tokens: of a prompt that are run, from the first difference on.
        task: operations of a task; a CPU's are cut to this size.
    """

    parameters: float = 1.5e9
    heads: int = 28 * 12
    prompts: int = 1000
    tokens: int = 12
    task: float = 2.0**38

    @property
    def operations(self) -> float:
        """A patch in layer l runs the layers above it: half of them, on average."""
        return 2 * self.parameters * self.tokens * self.prompts * self.heads / 2

    @property
    def base(self) -> float:
        """The two runs that each worker makes for itself."""
        return 2 * 2 * self.parameters * self.tokens * self.prompts


FORMULA = (
    "T(W) = start + load + base / rate + ceil(tasks / W) * (operations / tasks / rate + ship), with "
    "operations = 2 * parameters * tokens * prompts * heads / 2, tasks = max(heads, operations / task)"
)


def on_paper(
    large: Large, workers: int, *, rate: float, start: float, load: float, ship: float
) -> float:
    """Seconds by FORMULA. A task holds at least one patch of all prompts, so there are ``heads`` at most
    where patches are as large as that."""
    tasks = max(1, min(large.heads, round(large.operations / large.task)))
    rounds = -(-tasks // workers)
    return start + load + large.base / rate + rounds * (large.operations / tasks / rate + ship)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default=os.environ.get("DEMO_MODEL", "smollm2-135m"))
    parser.add_argument("--layers", type=int, help="sweep the last so many layers only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/bench-cluster.json"))
    options = parser.parse_args()
    if sentence := missing_ray():
        raise SystemExit(sentence)
    cores = os.cpu_count() or 1
    counts = [count for count in COUNTS if count <= cores] or [1]
    model = load_model(options.model, device="cpu")
    prompts = reference_prompts(model)
    layers = range(model.cfg.n_layers)[-(options.layers or model.cfg.n_layers) :]

    def sweep(on: Workers | None = None) -> Tensor:
        base, source, metric = prompts.corrupted_tokens, prompts.tokens, prompts.metric()
        return patch_sweep(model, base, source, "z", metric, layers=layers, progress=False, on=on)

    rows = []
    for count in counts:
        torch.set_num_threads(count)
        here = timed(sweep, options.rounds)
        torch.set_num_threads(1)
        rows.append(bench(options.model, count, sweep, here, options.rounds))
        print_row(rows[-1], rows[0])
        write_file(options.out, json.dumps(report(rows), indent=1) + "\n")
    print_paper(rows)
    if any(row["max_abs_diff"] for row in rows):
        raise SystemExit("Workers gave another result than this process.")


def timed(run: Callable[[], Tensor], rounds: int) -> tuple[float, Tensor]:
    """Median time of a run, and its result; the first one warms up."""
    result = run()
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return median(times), result


def bench(
    name: str,
    count: int,
    sweep: Callable[[Workers | None], Tensor],
    here: tuple[float, Tensor],
    rounds: int,
) -> dict[str, Any]:
    """What so many workers take, beside this process on as many threads."""
    with Workers(name, count=count, address="local") as workers:
        tasks_before = workers.times.tasks
        seconds, values = timed(lambda: sweep(workers), rounds)
        times = asdict(workers.times)
    tasks = (times["tasks"] - tasks_before) // (rounds + 1)
    return {
        "workers": count,
        "seconds": seconds,
        "threads_seconds": here[0],
        "starting": times["starting"],
        "loading": times["loading"],
        "tasks": tasks,
        "task_seconds": times["working"] / times["tasks"],
        "ship_ms": 1e3 * times["shipping"] / times["tasks"],
        "result_bytes": len(packed(values)),
        "max_abs_diff": (values - here[1]).abs().max().item(),
    }


def report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is written: the rows, and the sweep of a larger model on paper."""
    rate, one = matmul_rate("cpu"), rows[0]
    known = {"start": one["starting"], "load": one["loading"], "ship": one["ship_ms"] / 1e3}
    large = Large()
    kinds = {"this CPU, a thread each": rate, "a GPU of 2e13 operations a second each": 2e13}
    paper = [
        {"rate": kind, "workers": count, "hours": on_paper(large, count, rate=of, **known) / 3600}
        for kind, of in kinds.items()
        for count in (1, 8, 64)
    ]
    return {"rows": rows, "formula": FORMULA, "large": asdict(large), "paper": paper}


def print_row(row: dict[str, Any], one: dict[str, Any]) -> None:
    if row is one:
        print(
            f"{'workers':>7} {'seconds':>8} {'speed':>6} {'threads s':>9} {'against':>8} {'start s':>8} "
            f"{'load s':>7} {'tasks':>6} {'task s':>7} {'ship ms':>8} {'max |diff|':>10}"
        )
    print(
        f"{row['workers']:7} {row['seconds']:8.2f} {one['seconds'] / row['seconds']:6.2f} "
        f"{row['threads_seconds']:9.2f} {row['threads_seconds'] / row['seconds']:8.2f} "
        f"{row['starting']:8.1f} {row['loading']:7.1f} {row['tasks']:6} {row['task_seconds']:7.2f} "
        f"{row['ship_ms']:8.1f} {row['max_abs_diff']:10.1e}",
        flush=True,
    )


def print_paper(rows: list[dict[str, Any]]) -> None:
    found = report(rows)
    print(f"\nOn paper, for {found['large']}:\n{FORMULA}")
    for line in found["paper"]:
        print(f"{line['workers']:4} workers, {line['rate']}: {line['hours']:.2f} hours")
    two = next((row for row in rows if row["workers"] == 2), None)
    if two and rows[0]["seconds"] / two["seconds"] < GOAL:
        print(f"\nTwo workers are less than {GOAL} times as fast as one: is the machine idle?")


if __name__ == "__main__":
    main()
