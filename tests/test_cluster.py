"""Sweeps on Ray workers: the same to the last bit, whatever becomes of the workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from helpers import circuit
from helpers.atlas.build import GROUPS, Settings, build_atlas
from helpers.cluster import ClusterError, Workers, WorkersLostError, pool
from helpers.cluster.start import ray_running
from helpers.cluster.worker import Described, versions
from helpers.embedded import ModelUnavailableError
from helpers.identity import weights_identity
from helpers.models import load_model
from helpers.patching import patch_head_outputs, patch_sweep
from helpers.path_patching import path_patch_sweep
from tests.cluster_metrics import (
    Killed,
    OutOfMemory,
    OwnError,
    Raising,
    RaisingUnsendable,
    prompts,
    save_tiny,
)

pytest.importorskip("ray", reason="Ray is not installed: the extra `cluster` brings it")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> TransformerBridge:
    return load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One Ray for all tests here, with room for more than one pool."""
    with ray_running("local", cpus=8, gpus=0, timeout=10):
        yield


@pytest.fixture(scope="module")
def workers(folder: Path, local_ray: None) -> Iterator[Workers]:
    with Workers(folder, count=2) as workers:
        yield workers


def sweep(model: TransformerBridge, metric, on=None, site: str = "resid_pre", chunk: int = 6):
    """In several tasks: of two patches each, for three prompts."""
    base, source, _ = prompts()
    return patch_sweep(model, base, source, site, metric, chunk=chunk, on=on)


def of_own(logits):
    """A metric that no helper knows, for each prompt."""
    return logits[:, 5] - logits[:, 7]


@pytest.mark.parametrize("site", ["resid_pre", "mlp_out", "z", "k", "pattern"])
def test_a_sweep_is_the_same_to_the_last_bit(model, workers, site):
    metric = prompts()[2]
    assert torch.equal(sweep(model, metric, workers, site), sweep(model, metric, None, site))


def test_so_are_the_other_sweeps_and_a_metric_of_ones_own(model, workers):
    base, source, metric = prompts()
    assert torch.equal(sweep(model, of_own, workers), sweep(model, of_own))
    paths = (model, base, source, (2, 1), "k", metric)
    assert torch.equal(path_patch_sweep(*paths, chunk=6, on=workers), path_patch_sweep(*paths, chunk=6))
    heads = [(0, 1), (2, 3), (1, 2), (0, 0), (1, 1)]
    generator = torch.Generator().manual_seed(0)
    outputs = list(torch.randn(5, *base.shape, model.cfg.d_head, generator=generator))
    given = (model, base, heads, outputs, metric)
    assert torch.equal(
        patch_head_outputs(*given, chunk=6, on=workers), patch_head_outputs(*given, chunk=6)
    )


def test_so_are_runs_with_gates(model, workers, monkeypatch):
    base, source, metric = prompts()
    monkeypatch.setattr(circuit, "ROWS_AT_ONCE_UNGRADED", 4)  # two prompts with two settings
    means = circuit.mean_outputs(model, source, torch.zeros(len(source), dtype=torch.long))[:, [0, 0, 0]]
    generator = torch.Generator().manual_seed(0)
    settings = list(torch.rand(2, *means.shape[:-1], generator=generator))
    runs = (model, base, metric, settings, means)
    ours, theirs = (circuit.gated_logit_diffs(*runs, on=on) for on in (None, workers))
    assert torch.equal(ours, theirs)
    assert ours.shape == (2, 3)


def test_an_atlas_is_the_same_too(model, workers):
    settings = Settings(rows=2, length=8, block=4, passages=2, tokens=16, ioi_pairs=2)
    ours, theirs = (build_atlas(model, settings, on=on) for on in (None, workers))
    assert ours.table.equals(theirs.table)
    assert ours.info == theirs.info
    assert set(ours.info["unavailable"]) < {s.__name__ for g in GROUPS.values() for s in g.scores}


def test_killed_in_the_middle(model, workers, tmp_path):
    metric = Killed(tmp_path / "killed", os.getpid())
    lost = len(workers.lost)
    assert torch.equal(sweep(model, metric, workers), sweep(model, metric))
    assert metric.mark.exists()
    assert len(workers.lost) == lost + 1


def test_out_of_memory_in_the_middle(model, workers, tmp_path):
    metric = OutOfMemory(tmp_path / "full", os.getpid())
    assert torch.equal(sweep(model, metric, workers), sweep(model, metric))
    assert "allocate memory" in workers.lost[-1]


def test_the_number_of_workers_does_not_matter(model, folder, workers):
    """Nor that one is told where its model goes."""
    metric = prompts()[2]
    with Workers(folder, count=1, device_map={"": "cpu"}) as alone:
        assert torch.equal(sweep(model, metric, alone, "z"), sweep(model, metric, workers, "z"))


def test_an_error_in_a_metric_comes_back_as_itself(model, workers, tmp_path):
    with pytest.raises(OwnError, match="this metric has a fault") as raised:
        sweep(model, Raising(tmp_path / "raised", os.getpid()), workers)
    patched, where = raised.value.__notes__
    assert "prompts 0 to 2 with resid_pre at L" in patched
    assert "position" in patched
    assert "In a worker" in where
    metric = prompts()[2]  # and the workers go on
    assert torch.equal(sweep(model, metric, workers), sweep(model, metric))


def test_an_error_that_cannot_be_sent_is_told(model, workers, tmp_path):
    with pytest.raises(RuntimeError, match="Unsendable: nobody can pickle this"):
        sweep(model, RaisingUnsendable(tmp_path / "raised", os.getpid()), workers)


def test_another_model_is_refused(workers, tmp_path):
    other = load_model(save_tiny(tmp_path / "tiny", seed=1), device="cpu")
    with pytest.raises(ClusterError, match="has other weights"):
        sweep(other, prompts()[2], workers)


def test_a_worker_that_joins_with_other_weights_is_refused(folder, workers, monkeypatch):
    """As on a node with other files under that name, where one is hired in place of a dead one."""
    late = Described("another-node", 1, "other weights", versions(), 0.0)
    monkeypatch.setattr(workers, "_outcome", lambda ref: late)
    monkeypatch.setitem(workers._starting, "late", pool._Member(None))
    with pytest.raises(ClusterError, match="worker on another-node has other weights"):
        workers._welcome("late")


def test_more_gpus_than_there_are(folder, local_ray):
    with (
        pytest.raises(ClusterError, match="2 workers of 1000 GPUs each"),
        Workers(folder, count=2, gpus_each=1000),
    ):
        pass


def test_a_local_ray_hears_this_machine_alone(workers):
    """Neither Ray nor its processes listen anywhere but on the loopback address."""
    ours = psutil.Process()
    processes = [p for p in (ours, *ours.children(recursive=True)) if p.status() != psutil.STATUS_ZOMBIE]
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    assert os.environ["RAY_AUTH_MODE"] == "token"
    dashboards = [p for p in processes if "dashboard.py" in " ".join(p.cmdline())]
    assert all("--minimal" in " ".join(p.cmdline()) for p in dashboards)


def test_what_was_finished_is_not_done_again(model, folder, local_ray, tmp_path):
    _, _, metric = prompts()
    with Workers(folder, count=1, keep=tmp_path) as workers:
        first = sweep(model, metric, workers)
        files = sorted(tmp_path.rglob("*.safetensors"))
        working = workers.times.working
        assert torch.equal(sweep(model, metric, workers), first)
        assert workers.times.working == working
        files[0].write_bytes(b"damaged")  # one of them is done again
        assert torch.equal(sweep(model, metric, workers), first)
        assert workers.times.working > working
        assert not list(tmp_path.rglob("*.part"))
        base, source, _ = prompts(seed=1)  # other prompts find nothing
        assert torch.equal(
            patch_sweep(model, base, source, "resid_pre", metric, chunk=6, on=workers),
            patch_sweep(model, base, source, "resid_pre", metric, chunk=6),
        )
        assert len(list(tmp_path.rglob("*.safetensors"))) > len(files)


def test_a_task_that_workers_die_of_is_given_up(model, workers, tmp_path, monkeypatch):
    """Last here: it leaves no worker behind, for a while."""
    monkeypatch.setattr(pool, "ATTEMPTS", 2)
    metric = Killed(tmp_path / "killed", os.getpid(), always=True)
    with pytest.raises(
        WorkersLostError, match=r"2 workers died one after another in patching z, task 0"
    ):
        sweep(model, metric, workers, "z", chunk=1000)


def test_a_model_that_nobody_has(tmp_path):
    with pytest.raises(ModelUnavailableError, match="no-model"):
        Workers(tmp_path / "no-model", count=1)


def test_workers_are_used_inside_their_with_statement(model, folder):
    with pytest.raises(ClusterError, match="use them inside"):
        sweep(model, prompts()[2], Workers(folder, count=1))


def test_one_worker_at_least(folder):
    with pytest.raises(ValueError, match="count=0"):
        Workers(folder, count=0)


def test_weights_are_known_by_their_files(model, folder):
    assert weights_identity(model) == weights_identity(load_model(folder, device="cpu"))
