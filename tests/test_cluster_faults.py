"""A driver that is interrupted and killed, and nodes that lack the model or go away."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from helpers.cluster import ClusterError, Workers, start
from helpers.cluster.kept import Kept, work_key
from helpers.cluster.pool import _check_versions
from helpers.cluster.worker import Described, told, versions
from helpers.models import load_model
from helpers.work import Work
from tests.cluster_driver import slow_sweep
from tests.cluster_metrics import save_tiny
from tests.gpt2_shape import move_into_cache

pytest.importorskip("ray", reason="Ray is not installed: the extra `cluster` brings it")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


class OnlyKept:
    """A pool without workers: what was kept, and the rest done here. Counts what it had to do."""

    def __init__(self, keep: Path):
        self.keep, self.done_here = Kept(keep), 0

    def finished(self, model: Any, work: Work) -> Iterator[tuple[int, Any]]:
        found = self.keep.found(work_key(told(model), work), len(work.tasks))
        run = work.recipe.prepare(model)
        for index, task in enumerate(work.tasks):
            self.done_here += index not in found
            yield index, found[index] if index in found else run(task, lambda steps=1: None)


def until(condition: Callable[[], Any], seconds: float = 120) -> None:
    """Waits for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_a_driver_that_is_interrupted_and_then_killed(tmp_path):
    """Ctrl-C stops a sweep and leaves the workers; a kill leaves no process, and what was finished."""
    folder, keep = save_tiny(tmp_path / "tiny"), tmp_path / "keep"

    def kept() -> int:
        return len(list(keep.rglob("*.safetensors")))

    command = [sys.executable, "-m", "tests.cluster_driver", str(folder), str(keep)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=Path(__file__).parents[1]
    ) as driver:
        try:
            assert driver.stdout.readline() == "started\n"
            processes = psutil.Process(driver.pid).children(recursive=True)
            assert processes
            until(lambda: kept() >= 2)
            os.killpg(driver.pid, signal.SIGINT)  # as Jupyter does: the whole group
            assert driver.stdout.readline() == "interrupted\n"
            at_interrupt = kept()
            until(lambda: kept() > at_interrupt)
        finally:
            driver.kill()
    until(lambda: not alive(processes), 90)
    finished = kept()
    assert at_interrupt < finished < 12
    assert not list(keep.rglob("*.part"))

    model, again = load_model(folder, device="cpu"), OnlyKept(keep)
    assert torch.equal(slow_sweep(model, again), slow_sweep(model, None, seconds=0))
    assert again.done_here == 12 - finished
    other = load_model(save_tiny(tmp_path / "other", seed=1), device="cpu")
    none = OnlyKept(keep)
    slow_sweep(other, none)
    assert none.done_here == 12


@pytest.fixture
def cluster(monkeypatch, tmp_path) -> Iterator[Any]:
    """A head without processors; nodes are added by the test."""
    from ray.cluster_utils import Cluster

    for name, value in start._PATIENCE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    start._read_settings()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "node_ip_address": "127.0.0.1"},
    )
    yield cluster
    cluster.shutdown()


def test_a_node_without_the_model_and_one_that_goes_away(cluster, tmp_path, monkeypatch, capsys):
    """Two of three nodes have the model; one of these is removed in the middle."""
    download = save_tiny(tmp_path / "download")
    move_into_cache(download, tmp_path / "full" / "hub" / "models--some--tiny")

    def add(cache: str) -> Any:
        variables = {"HF_HOME": str(tmp_path / cache), "HF_HUB_OFFLINE": "1"}
        return cluster.add_node(num_cpus=1, env_vars=variables, node_ip_address="127.0.0.1")

    leaves, _, _ = add("full"), add("full"), add("empty")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "full" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = load_model("some/tiny", device="cpu")
    keep = tmp_path / "keep"
    with Workers("some/tiny", count=3, address=cluster.address, keep=keep) as workers:
        assert (
            "NOTE: 1 of 3 workers could not load some/tiny (ModelUnavailable" in capsys.readouterr().out
        )

        def remove() -> None:
            until(lambda: list(keep.rglob("*.safetensors")))
            cluster.remove_node(leaves, allow_graceful=False)

        remover = threading.Thread(target=remove)
        remover.start()
        values = slow_sweep(model, workers, seconds=1.0)
        remover.join()
    assert torch.equal(values, slow_sweep(model, None, seconds=0))
    assert len(workers.lost) == 1
    assert len(list(keep.rglob("*.safetensors"))) == 12


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:{free}", r"No Ray cluster answers at 127\.0\.0\.1:\d+ within 2 seconds"),
        ("here", "host:port"),
    ],
)
def test_no_cluster_at_that_address(address, message, monkeypatch, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", address.format(free=port))
    begun = time.monotonic()
    with pytest.raises(ClusterError, match=message), Workers(save_tiny(tmp_path), count=1, timeout=2):
        pass
    assert time.monotonic() - begun < 60


def test_without_ray(monkeypatch, tmp_path):
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match="pip install"), Workers(save_tiny(tmp_path), count=1):
        pass


def test_other_versions_are_refused():
    there = Described("node 7", 1, None, {**versions(), "torch": "0.1"}, 0.0)
    with pytest.raises(ClusterError, match=r"node 7 has other versions .*: torch 0\.1 \(here"):
        _check_versions(there)
    _check_versions(Described("node 7", 1, None, versions(), 0.0))


def test_what_is_kept_in_memory_goes_when_the_work_is_done(tmp_path):
    kept = Kept(None)
    kept.add("key", 3, torch.tensor(1.0))
    assert kept.found("key", 5) == {3: torch.tensor(1.0)}
    assert kept.found("other key", 5) == {}
    kept.complete("key")
    assert kept.found("key", 5) == {}


def test_a_folder_for_another_key_holds_nothing(tmp_path):
    kept = Kept(tmp_path)
    kept.add("one key", 0, torch.tensor(1.0))
    shutil.copytree(tmp_path / "one key", tmp_path / "another key")
    assert kept.found("one key", 1) == {0: torch.tensor(1.0)}
    assert kept.found("another key", 1) == {}
