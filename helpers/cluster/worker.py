"""What runs in a worker: one model, and whatever tasks come."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

import helpers
from helpers.identity import untold, weights_identity
from helpers.models import load_model
from helpers.work import Run, note

PACKAGES = ("torch", "transformers", "transformer-lens")


@dataclass(frozen=True)
class Spec:
    """The model that a worker is to hold, and how.

    Attributes:
        name: as for :func:`helpers.models.load_model`.
        device: "cpu" or "cuda"; None if there is a ``device_map``.
        device_map: as for :func:`helpers.models.load_model`.
        dtype: of the weights.
        threads: of a worker on a CPU.
    """

    name: str
    device: str | None
    device_map: Any
    dtype: torch.dtype
    threads: int


@dataclass(frozen=True)
class Described:
    """A worker that has its model: where it runs, which weights and versions it has, and the seconds
    that loading took."""

    node: str
    process: int
    identity: str | None
    versions: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class Done:
    """A task's result, on the CPU, and the seconds that it took."""

    result: Any
    seconds: float


@dataclass(frozen=True)
class Failure:
    """An error that came up in a worker, pickled, and in words; and whether memory had run out."""

    error: bytes
    text: str
    memory: bool


def versions() -> dict[str, str]:
    """What driver and workers must have in common, the code of this package included."""
    return {
        "Python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "helpers": _code_hash(),
    }


@cache
def _code_hash() -> str:
    folder = Path(helpers.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return f"code {digest.hexdigest()[:12]}"


def told(model: TransformerBridge) -> str | None:
    """What a model's weights are told by; one with parts on disk by the files that it came from."""
    identity = weights_identity(model)
    loaded = getattr(model, "loaded_from", None)
    if identity is None and loaded is not None and (untold(model) or "").startswith("parts"):
        return loaded.identity
    return identity


class ModelWorker:
    """Loads a model once and does tasks; made a Ray actor by :mod:`helpers.cluster.pool`.

    Nothing is raised here: what goes wrong is returned, so that it is told from a worker that died.
    """

    def __init__(self) -> None:
        self._model: TransformerBridge | None = None
        self._job: str | None = None
        self._run: Run | None = None

    def load(self, spec: Spec) -> Described | Failure:
        start = time.monotonic()
        try:
            torch.set_num_threads(spec.threads)
            placed = {"device_map": spec.device_map} if spec.device_map else {"device": spec.device}
            self._model = load_model(spec.name, dtype=spec.dtype, **placed)
            identity = told(self._model)
        except Exception as error:
            return failure(error)
        seconds = time.monotonic() - start
        return Described(socket.gethostname(), os.getpid(), identity, versions(), seconds)

    def do(self, job: str, recipe: bytes, task: bytes) -> Done | Failure:
        """One task of a job; what its tasks share is made ready by the first one."""
        from ray import cloudpickle

        start = time.monotonic()
        try:
            with torch.no_grad():
                if self._run is None or self._job != job:
                    self._run = None  # its activations first: memory may not hold two
                    self._run = cloudpickle.loads(recipe).prepare(self._model)
                    self._job = job
                result = on_cpu(self._run(cloudpickle.loads(task), _unseen))
        except Exception as error:
            return failure(error)
        return Done(result, time.monotonic() - start)


def _unseen(steps: int = 1) -> None:
    """A worker has no bar to move: the one that is seen moves when a task is done."""


def failure(error: Exception) -> Failure:
    """An error as it can be sent: itself if it can be pickled, else one that says the same."""
    from ray import cloudpickle

    frame = traceback.extract_tb(error.__traceback__)[-1]
    note(error, f"In a worker on {socket.gethostname()}, {frame.name}, line {frame.lineno}.")
    error.__traceback__ = None
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
    text = f"{type(error).__name__}: {error}"
    try:
        pickled = cloudpickle.dumps(error)
        cloudpickle.loads(pickled)
    except Exception:  # whatever an exception of somebody's own raises when it is copied
        stands_in = RuntimeError(text)
        stands_in.__notes__ = error.__notes__  # type: ignore[attr-defined]
        pickled = cloudpickle.dumps(stands_in)
    return Failure(pickled, text, memory)


def packed(value: Any) -> bytes:
    """A recipe or a task as bytes, with code that only this process has, and tensors on the CPU."""
    from ray import cloudpickle

    own = _module_of_metric(value)
    if own is None:
        return cloudpickle.dumps(on_cpu(value))
    cloudpickle.register_pickle_by_value(own)
    try:
        return cloudpickle.dumps(on_cpu(value))
    finally:
        cloudpickle.unregister_pickle_by_value(own)


def _module_of_metric(value: Any) -> ModuleType | None:
    """The module of a metric of one's own, which workers may not have, or have in another version."""
    name = getattr(getattr(value, "metric", None), "__module__", None) or "__main__"
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if name == "__main__" or name.partition(".")[0] == "helpers" or module is None or file is None:
        return None
    installed = {sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")}
    return None if any(Path(file).is_relative_to(folder) for folder in installed) else module


def on_cpu(value: Any) -> Any:
    """The same, with tensors on the CPU, in containers and dataclasses too."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: on_cpu(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(on_cpu, value))
    if is_dataclass(value) and not isinstance(value, type):
        changed: dict[str, Callable[..., Any] | Any] = {
            field.name: on_cpu(getattr(value, field.name)) for field in fields(value) if field.init
        }
        return replace(value, **changed)
    return value
