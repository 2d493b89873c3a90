"""What the benchmark takes for a fault."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest
import torch

from tests.bench_patching import (
    AGREEMENT,
    HEADERS,
    MEMORY_MB,
    PRINTED,
    bench_edges,
    bench_estimates,
    faults_of,
    in_common,
    peak_memory,
)
from tests.tiny_models import tiny_gpt2

GOOD = {
    "model": "tiny",
    "site": "z",
    "max_abs_diff": AGREEMENT / 2,
    "peak_memory_mb": MEMORY_MB - 1,
    "ratio": 1.0,
}


def test_slow_is_no_fault():
    assert faults_of(GOOD) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_abs_diff": 2 * AGREEMENT}, "tiny, z: differs"),
        ({"max_abs_diff": float("nan")}, "tiny, z: differs"),
        ({"peak_memory_mb": MEMORY_MB + 1}, "tiny, z: takes 2001 MB"),
    ],
)
def test_faults(change, message):
    [fault] = faults_of({**GOOD, **change})
    assert fault.startswith(message)


@pytest.mark.parametrize(("rank", "number"), [(0.3, 0), (0.0, 1), (float("nan"), 1)])
def test_an_estimate_that_says_nothing_is_a_fault(rank, number):
    assert len(faults_of({"model": "tiny", "site": "z, 1 step", "rank": rank})) == number


def test_largest_effects_in_common_are_counted_by_size():
    exact = torch.arange(20.0)
    ours = exact.clone()
    ours[0], ours[19] = -30, 0
    assert in_common(ours, exact) == 9
    assert in_common(-exact, exact) == 10


@pytest.mark.usefixtures("one_thread")
def test_edges_and_estimates_run_on_a_tiny_model(capsys):
    prompts = SimpleNamespace(
        tokens=torch.tensor([[0, 5, 10, 12, 5, 31], [0, 7, 8, 3, 41, 3]]),
        corrupted_tokens=torch.tensor([[0, 5, 9, 12, 5, 30], [0, 7, 7, 3, 41, 2]]),
        answer_tokens=torch.tensor([[4, 8], [8, 4]]),
    )
    model = tiny_gpt2()
    rows = {"edges": [bench_edges(model, prompts, 2)], "estimates": [*bench_estimates(model, prompts)]}
    assert len(rows["estimates"]) == 8
    for part, found in rows.items():
        print(HEADERS[part])
        for row in found:
            PRINTED[part]({"model": "tiny", **row})
            assert faults_of({"model": "tiny", **row}) == []
    lines = capsys.readouterr().out.splitlines()
    assert len({len(line) for line in lines[:2]}) == 1
    assert len({len(line) for line in lines[2:]}) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere freed memory may count as still taken")
def test_memory_that_was_used_before_is_counted_again():
    """In pieces that the allocator keeps for whoever asks next, since the last one stays."""
    kept = []
    for _ in range(2):
        with peak_memory("cpu") as peak:
            pieces = [torch.ones(2**14) for _ in range(2000)]  # 64 kB each
            time.sleep(0.05)  # the watcher looks every 5 ms
        kept.append(pieces.pop())
        del pieces
        assert peak[0] > 0.9 * 2000 * 2**16
