"""Which weights a model has, told by their content: two models may share a name, and one may change.

:func:`weights_identity` is equal for two models only if a measurement of one holds for the other:

- A model as :func:`helpers.models.load_model` loaded it is known by its files: names, shapes and values
  of the tensors in the precision in which they were loaded, the configuration, and how the weights were
  rewritten. That is the same on every machine, in every folder, and however the tensors are spread over
  files.
- One that was changed since, or made in memory, is known by what is in memory now. Rewriting weights is
  arithmetic that rounds, so such an identity is good on one machine, and may not be known again on
  another: a change is always noticed, and at worst something is measured a second time.
- One with hooks, with a ``forward`` in place of a module's own, or with parts on disk, cannot be told:
  None, and :func:`untold` says why. What is replaced in a class is not seen.

Stored tensors count even where they do not matter, such as an output head that is tied to the embedding.

The tokenizer is not part of it; :func:`tokenizer_identity` is for what depends on text.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from helpers.embedded import sha256
from helpers.model_folder import weight_files

if TYPE_CHECKING:  # it takes seconds to import, and files can be told without it
    from transformer_lens.hook_points import HookPoint
    from transformer_lens.model_bridge import TransformerBridge

# How load_model rewrites weights. It follows from the model whether W_Q W_K are refactored as well.
PROCESSING = {
    "fold_ln": True,
    "center_writing_weights": True,  # TransformerLens applies it to LayerNorm models only
    "center_unembed": True,
    "fold_value_biases": True,
}

# In a configuration, these say where it came from or what is returned, not what is computed.
_NOT_COMPUTED = {
    "architecture",
    "default_padding_side",
    "default_prepend_bos",
    "device",
    "dtype",
    "model_name",
    "n_devices",
    "name_or_path",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "seed",
    "tokenizer_appends_eos",
    "tokenizer_name",
    "tokenizer_prepends_bos",
    "torch_dtype",
    "transformers_version",
    "use_attn_in",
    "use_attn_result",
    "use_cache",
    "use_hook_mlp_in",
    "use_hook_tokens",
    "use_split_qkv_input",
}

_LIBRARIES = ("accelerate.", "transformer_lens.", "transformers.")

FileState = tuple[str, int, int, int, int]


@dataclass(frozen=True)
class Loaded:
    """What load_model read a model from, and what it was right afterwards.

    Attributes:
        name: the model's short name.
        folder: its files.
        dtype: the precision that was asked for.
        files: as they were before they were read; another state means other contents.
        memory: hash of the model in memory; None if it could not be told.
    """

    name: str
    folder: Path
    dtype: torch.dtype
    files: tuple[FileState, ...]
    memory: str | None

    @property
    def identity(self) -> str | None:
        """That of the files, if they are still what was loaded; else None."""
        if file_states(self.folder) != self.files:
            return None
        return _files_identity(self.folder, self.dtype, self.files)


# Every model that this process loaded, for the stamp of the notebook that runs in it.
_loaded: list[Loaded] = []


def remember(
    model: TransformerBridge,
    name: str,
    folder: Path,
    dtype: torch.dtype,
    files: tuple[FileState, ...],
) -> None:
    """Note what a model was loaded from, so that a later change to it can be told.

    Args:
        model: as it is handed to the user.
        name: its short name.
        folder: where it was read.
        dtype: in which it was asked for.
        files: :func:`file_states` from before it was read.
    """
    memory = None if untold(model) else memory_hash(model)
    loaded = Loaded(name, folder.resolve(), dtype, files, memory)
    model.loaded_from = loaded
    _loaded.append(loaded)


def loaded_models() -> list[dict[str, str | None]]:
    """Name, precision and identity of each model that this process loaded, once each."""
    entries = [
        {"model": one.name, "dtype": _dtype_name(one.dtype), "weights": one.identity} for one in _loaded
    ]
    return [entry for i, entry in enumerate(entries) if entry not in entries[:i]]


def weights_identity(model: TransformerBridge) -> str | None:
    """What the model's weights are told by; None if they cannot be told, see :func:`untold`.

    It takes about a second for each gigabyte of weights.
    """
    if untold(model):
        return None
    memory = memory_hash(model)
    loaded: Loaded | None = getattr(model, "loaded_from", None)
    of_files = loaded.identity if loaded and loaded.memory == memory else None
    return of_files or f"in memory, sha256 {memory}"


def weights_revision(model: TransformerBridge, identity: str | None) -> str | None:
    """Where to look up the weights of this identity: the hub's commit, or a hash of the files.

    For people; None if they are not what the model was loaded from.
    """
    loaded: Loaded | None = getattr(model, "loaded_from", None)
    if loaded is None or identity is None or loaded.identity != identity:
        return None
    return _folder_revision(loaded.folder, loaded.files)


def untold(model: TransformerBridge) -> str | None:
    """Why nobody can tell what a model computes by its weights; None if it can be told."""
    hooked = [name for name, module in model.named_modules() if _has_hooks(module)]
    if hooked:
        return f"it has hooks, at {hooked[0]} for one"
    absent = [name for name, tensor in _tensors(model) if tensor.device.type == "meta"]
    return f"parts of it are not in memory, {absent[0]} for one" if absent else None


def _has_hooks(module: nn.Module) -> bool:
    """Whether somebody put a hook here; libraries put their own, which change nothing."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    hooks += [vars(module)["forward"]] if "forward" in vars(module) else []
    if _is_hook_point(module):  # what it is given it wraps
        hooks = [handle.user_hook for handle in cast("HookPoint", module).fwd_hooks]
    return any(not _origin(hook).startswith(_LIBRARIES) for hook in hooks)


def _is_hook_point(module: nn.Module) -> bool:
    return type(module).__name__ == "HookPoint"


def _origin(hook: Any) -> str:
    while isinstance(hook, partial):
        hook = hook.func
    return str(getattr(hook, "__module__", ""))


def memory_hash(model: TransformerBridge) -> str:
    """Hash of all tensors, of the modules' kinds, and of the settings by which the model computes."""
    kinds = [
        (name, type(module).__qualname__)
        for name, module in model.named_modules()
        if not _is_hook_point(module)
    ]
    return _hash(
        {
            "tensors": _digests(_tensors(model)),
            "modules": kinds,
            "config": _computed(model.original_model.config.to_dict()),
            "settings": _computed(vars(model.cfg)),
        }
    )


def _tensors(model: TransformerBridge) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, each once."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def files_identity(folder: Path, dtype: torch.dtype = torch.float32) -> str:
    """What a model in a folder is told by once load_model has loaded it, without loading it.

    Args:
        folder: in Hugging Face format, complete.
        dtype: in which it is to be loaded.

    Raises:
        OSError, ValueError, safetensors.SafetensorError: if its files cannot be read.
    """
    folder = Path(folder).resolve()
    return _files_identity(folder, dtype, file_states(folder))


@lru_cache
def _files_identity(folder: Path, dtype: torch.dtype, files: tuple[FileState, ...]) -> str:
    """`files` is there for the cache alone: for files that changed it computes anew."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    content = {
        "tensors": _digests(_stored_tensors(folder, dtype)),
        "config": _computed(config),
        "processing": PROCESSING,
    }
    return f"sha256 {_hash(content)}"


def _stored_tensors(folder: Path, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """As they are loaded: precision is part of it."""
    for file_name in sorted(weight_files(folder)):
        with safe_open(folder / file_name, "pt") as file:
            for name in file.keys():  # noqa: SIM118  (it is no dict)
                tensor = file.get_tensor(name)
                yield name, tensor.to(dtype) if tensor.is_floating_point() else tensor


def file_states(folder: Path) -> tuple[FileState, ...]:
    """By which it is seen that a model's files were replaced or written to, without reading them."""
    states = []
    for name in sorted({"config.json", *weight_files(folder)}):
        try:
            state = os.stat(folder / name)
        except FileNotFoundError:
            continue
        states.append((name, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino))
    return tuple(states)


def folder_revision(folder: Path) -> str:
    """What a folder of the hub's cache is a copy of, or else a hash of the files with the weights."""
    folder = Path(folder).resolve()
    return _folder_revision(folder, file_states(folder))


@lru_cache
def _folder_revision(folder: Path, files: tuple[FileState, ...]) -> str:
    """`files` as for :func:`_files_identity`."""
    commit = re.search(r"/snapshots/([0-9a-f]{40})$", folder.as_posix())
    if commit:
        return f"commit {commit[1]}"
    digests = [f"{path.name} {sha256(path)}" for path in sorted(folder.glob("*.safetensors"))]
    return "sha256 " + hashlib.sha256("\n".join(digests).encode()).hexdigest()


def tokenizer_identity(model: TransformerBridge, texts: Sequence[str]) -> str | None:
    """Hash of the vocabulary, the special tokens, and what the tokenizer makes of some texts.

    None if the model has no tokenizer.

    Files are not compared: versions of the tokenizers library write them differently.

    Args:
        model: with its tokenizer.
        texts: those that matter, as :meth:`to_tokens` gets them.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        return None
    content = {
        "vocabulary": tokenizer.get_vocab(),
        "special": [tokenizer.bos_token_id, tokenizer.eos_token_id, sorted(tokenizer.all_special_ids)],
        "texts": [model.to_tokens(text)[0].tolist() for text in texts],
    }
    return f"sha256 {_hash(content)}"


def _digests(tensors: Iterable[tuple[str, Tensor]]) -> list[tuple[str, str]]:
    # Hashing releases Python's lock.
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = pool.map(lambda named: (named[0], _digest(named[1])), tensors)
        return sorted(digests)


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest = hashlib.sha256(f"{list(tensor.shape)} {tensor.dtype}".encode())
    if flat.numel():
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _computed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k not in _NOT_COMPUTED and not k.startswith("_")}


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
