"""Results of tasks, kept so that an interrupted sweep goes on where it was."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import CodeType, FunctionType
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
    elif isinstance(value, FunctionType):
        _feed_function(digest, value)
    elif _is_plain(value):
        digest.update(value if isinstance(value, bytes) else repr(value).encode())
    elif is_dataclass(value) and not isinstance(value, type):
        digest.update(f"{type(value).__qualname__} ".encode())
        _feed(digest, _source(type(value)))
        _feed(digest, {field.name: getattr(value, field.name) for field in fields(value)})
    else:
        digest.update(packed(value))  # at worst other bytes another time, and nothing is found
    digest.update(b";")


def _feed_function(digest: Any, function: FunctionType) -> None:
    """Its code, what it encloses, and the file it is from, with what it calls there."""
    code = function.__code__
    enclosed = [cell.cell_contents for cell in function.__closure__ or ()]
    _feed(digest, [code.co_code, code.co_names, function.__defaults__, enclosed, _source(function)])
    for constant in code.co_consts:
        _feed(digest, constant.co_code if isinstance(constant, CodeType) else constant)
    if function.__module__ == "__main__":  # a notebook's: what it calls is in no file
        called = [name for name in code.co_names if name in function.__globals__]
        _feed(digest, [packed(function) if called else b""])


def _source(defined: Any) -> bytes:
    """The file of a function or class of one's own; that of a helper is known by its version."""
    file = getattr(sys.modules.get(defined.__module__), "__file__", None)
    if file is None or defined.__module__.startswith("helpers."):
        return defined.__module__.encode()
    return Path(file).read_bytes()


def _is_plain(value: Any) -> bool:
    """Whether its text says all there is to it."""
    plain = (bytes, int, float, bool, complex, type(None), type(...), slice, range, str, Path)
    return isinstance(value, plain)
