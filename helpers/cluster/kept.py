"""Results of tasks, kept so that an interrupted sweep goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from helpers.cluster.worker import packed, versions
from helpers.files import check_writable, write_file
from helpers.work import Work


class Kept:
    """In a folder, each result in a file of its own; without a folder in memory, until the work is done.

    A file is written whole or not at all, and holds the key of its work: which weights, prompts,
    options, metric, versions and code. Under another key nothing is found.

    Args:
        folder: made if need be.

    Raises:
        NotWrittenError: if the folder cannot be written to.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._results: dict[str, dict[int, Tensor]] = {}
        if folder is not None:
            check_writable(folder)

    def found(self, key: str, count: int) -> dict[int, Tensor]:
        """The results that there are, by number, of so many tasks."""
        if self._folder is None:
            return dict(self._results.get(key, {}))
        read = {index: _read(self._file(key, index), key) for index in range(count)}
        return {index: result for index, result in read.items() if result is not None}

    def add(self, key: str, index: int, result: Tensor) -> None:
        if self._folder is None:
            self._results.setdefault(key, {})[index] = result
        else:
            content = save({"result": result.contiguous()}, metadata={"key": key})
            write_file(self._file(key, index), content)

    def complete(self, key: str) -> None:
        """Of work that is done, memory need not keep anything."""
        self._results.pop(key, None)

    def _file(self, key: str, index: int) -> Path:
        assert self._folder is not None
        return self._folder / key[:20] / f"{index}.safetensors"


def _read(path: Path, key: str) -> Tensor | None:
    """A result; None if there is none, or it is not readable, or another work's."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor("result") if file.metadata()["key"] == key else None
    except SafetensorError:
        return None  # damaged by something else than this module: it is measured anew


def work_key(identity: str, work: Work) -> str:
    """What results must agree in to be used."""
    digest = hashlib.sha256()
    _feed(digest, [identity, versions(), work.title, work.recipe, list(work.tasks)])
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """Content in a form that is the same in every process."""
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous()
        digest.update(f"tensor {flat.dtype} {list(flat.shape)} ".encode())
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        _feed(digest, [f"dict of {len(value)}", *(part for item in value.items() for part in item)])
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        digest.update(f"{len(value)} of them: ".encode())
        for part in value:
            _feed(digest, part)
    elif is_dataclass(value) and type(value).__module__.startswith("helpers."):
        digest.update(f"{type(value).__qualname__} ".encode())
        for field in fields(value):
            digest.update(f"{field.name}=".encode())
            # A metric of one's own is known by its code and by what it encloses.
            inner = getattr(value, field.name)
            _feed(digest, inner if _is_plain(inner) else packed(value))
    else:
        digest.update(repr(value).encode() if not isinstance(value, bytes) else value)
    digest.update(b";")


def _is_plain(value: Any) -> bool:
    """Whether it is told by its content, and not by code."""
    plain = (Tensor, dict, list, tuple, str, bytes, int, float, bool, type(None), slice, range)
    return isinstance(value, plain) or type(value).__module__.startswith("helpers.")
