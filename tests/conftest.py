"""Fixtures and conditions that several test modules share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import kaleido
import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from helpers.display import _browser_problem
from helpers.model_folder import EMBEDDED_MODEL
from helpers.models import load_model
from tests.gpt2_shape import Checkpoint, build_checkpoint


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="torch finds no CUDA device here"))


@pytest.fixture(scope="session")
def static_pictures() -> Iterator[None]:
    """Skips where no browser draws the pictures; closes it at the end."""
    problem = _browser_problem()
    if problem:
        pytest.skip(f"no browser for static pictures: {problem}")
    yield
    kaleido.stop_sync_server(silence_warnings=True)


@contextmanager
def checkpoint(width: int, layers: int = 12) -> Iterator[Checkpoint]:
    """Up to a gigabyte, so it is not left behind as pytest's own temporary folders are."""
    with tempfile.TemporaryDirectory(prefix="gpt2-shape-") as root:
        yield build_checkpoint(Path(root), width, layers)


def load_by_name(checkpoint: Checkpoint) -> TransformerBridge:
    """As GPT-2 small would be loaded: from the hub cache, and here without a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(checkpoint.hub_cache))
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        return load_model("gpt2", device="cpu")


@pytest.fixture(scope="session")
def smollm2() -> TransformerBridge:
    """The embedded model, for tests that change nothing in it."""
    return load_model(EMBEDDED_MODEL, device="cpu")


@pytest.fixture(scope="session")
def gpt2_shaped_checkpoint() -> Iterator[Checkpoint]:
    """Of GPT-2 small's full size; half a minute to build."""
    with checkpoint(width=768) as built:
        yield built


@pytest.fixture(scope="session")
def gpt2_shaped(gpt2_shaped_checkpoint: Checkpoint) -> TransformerBridge:
    return load_by_name(gpt2_shaped_checkpoint)


@pytest.fixture(scope="session")
def narrow_gpt2() -> Iterator[TransformerBridge]:
    """GPT-2 small's layers, heads, positions and vocabulary, with an eighth of its width: seconds."""
    with checkpoint(width=96) as built:
        yield load_by_name(built)


@pytest.fixture
def hub_at(monkeypatch, tmp_path) -> Iterator[Callable[[int], None]]:
    """Makes an address on this machine the hub, with an empty cache."""

    def use(port: int) -> None:
        # The client is shared and remembers the proxy that it was made with.
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        huggingface_hub.close_session()
        address = f"http://127.0.0.1:{port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        files = "{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(
            huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{files}"
        )
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))

    yield use
    huggingface_hub.close_session()


@pytest.fixture
def exact_float32() -> Iterator[None]:
    """No TF32, which keeps ten bits of a float32's twenty-three: devices can then be compared."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Models this small only lose by sharing the work out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
