"""The folder that a model's name stands for: on the Hugging Face hub, in its cache, or on this disk.

Nothing here loads a model, so it is quick to import; :mod:`helpers.models` does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from helpers.embedded import ModelUnavailableError, embedded_model_folder
from helpers.files import why_not_written

DEFAULT_MODEL = "gpt2"
EMBEDDED_MODEL = "smollm2-135m"

# Safetensors and text only: no pickles, nothing executable.
SAFE_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


class HubBusyError(ModelUnavailableError):
    """The hub could not serve the model now, and perhaps later: rate limit, its own error, no answer."""


def find_model(name: str, timeout: float) -> tuple[str, Path]:
    """Short name and folder of a model, downloaded if it has to be.

    Args:
        name: as in :func:`load_model`.
        timeout: seconds to wait for the hub to say whether it has the model.

    Raises:
        ModelUnavailableError: if it cannot be had; :class:`HubBusyError` if that may pass.
    """
    folder = Path(name).expanduser()
    here = _fault(folder)
    if _is_path(name):
        if here:
            raise ModelUnavailableError(
                f"The folder {name!r} holds no complete model in Hugging Face format: {here}. "
                "config.json, a tokenizer and model.safetensors, or model.safetensors.index.json and "
                "every file that it names, are needed (pickled weights are refused). "
                "model.save_pretrained(folder) and tokenizer.save_pretrained(folder) write them.",
                reason=f"the folder {name!r} holds no complete model: {here}",
            )
        return folder.resolve().name, folder
    if here is None and len(folder.parts) > 1:
        return folder.resolve().name, folder
    try:
        found = embedded_model_folder() if name == EMBEDDED_MODEL else _hub_snapshot(name, timeout)
    except ModelUnavailableError as error:
        if here is not None or name == EMBEDDED_MODEL:
            raise
        print(f"NOTE: {name} is the model in the folder ./{name}, since {error.reason}.")
        return name, folder
    if here is None:
        source = "embedded model" if name == EMBEDDED_MODEL else "model of the hub"
        print(f"NOTE: {name} is the {source}; for the one in the folder of that name, say ./{name}.")
    return name, found


def from_anywhere(name: str, timeout: float = 5.0) -> str:
    """What names the same model in every working folder: of a folder, its absolute path.

    A kernel works in the folder of its notebook; a path was meant from where its user stands.

    Args:
        name: as in :func:`load_model`.
        timeout: as in :func:`find_model`, which is asked where a bare name is a folder's too.

    Raises:
        ModelUnavailableError: if the name is a path, and no model is there.
    """
    folder = Path(name).expanduser()
    if _is_path(name) or _fault(folder) is None:
        _, found = find_model(name, timeout)
        return str(folder.resolve()) if found == folder else name
    return name


def _is_path(name: str) -> bool:
    """Whether a name can only mean a folder: absolute, from home or from here, or of many parts."""
    parts = Path(name).parts
    from_here = name.startswith(("./", "../", f".{os.sep}", f"..{os.sep}")) or name in (".", "..")
    ends = name.endswith(("/", os.sep))
    # A name on the hub is owner/name at most.
    return from_here or ends or name.startswith("~") or Path(name).is_absolute() or len(parts) > 2


def _fault(folder: Path) -> str | None:
    """What keeps a folder from being a complete model in Hugging Face format; None if it is one."""
    if not folder.is_dir():
        return "there is no such folder"
    # A file of the hub cache is a link, which may lead nowhere after a clean-up.
    if not (folder / "config.json").is_file():
        return "config.json is missing"
    if not any(file.is_file() for file in (*folder.glob("tokenizer*"), folder / "vocab.json")):
        return "a tokenizer is missing"
    try:
        names = weight_files(folder)
    except ValueError as error:
        return str(error)
    missing = sorted(name for name in names if not (folder / name).is_file())
    return f"{missing[0]} is missing" if missing else None


def weight_files(folder: Path) -> set[str]:
    """The files that the weights are in, going by the index if there is one.

    Raises:
        ValueError: if the index names none, saying what to do.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file() or (folder / "model.safetensors").is_file():  # transformers' order
        return {"model.safetensors"}
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{index.name} is no index of weight files ({type(error).__name__}: {error}), perhaps cut "
            "off while it was written; delete it, and fetch or save the model again"
        ) from error


def _hub_snapshot(name: str, timeout: float) -> Path:
    """The model's folder in the local hub cache, downloaded first if it is not there."""
    tried = ["no such local folder"]
    if Path(name).is_dir():
        tried = [f"the local folder is no complete model ({_fault(Path(name))})"]
    incomplete = "the hub cache has no complete copy"
    try:
        folder = _download(name, timeout, local_files_only=True)
        fault = _fault(folder)
        if fault is None:
            return folder
        tried.append(f"{incomplete} ({fault})")
    except HFValidationError as error:
        raise _unavailable(name, [*tried, "not a valid hub name"]) from error
    except OSError:
        tried.append(incomplete)
    try:
        with _time_limit(timeout):
            # Asked first: what the download makes of a refusal takes more requests, and says less.
            huggingface_hub.HfApi().model_info(name, timeout=timeout)
            folder = _download(name, timeout)
    # ValueError: an answer that is no JSON. RuntimeError: whatever happens to the Xet storage's client.
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        reason, may_pass = _explain(error)
        kind = HubBusyError if may_pass else ModelUnavailableError
        raise _unavailable(name, [*tried, reason], kind) from error
    fault = _fault(folder)
    if fault:
        raise _unavailable(
            name, [*tried, f"the hub has no complete copy with safetensors weights ({fault})"]
        )
    return folder


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Limits the waiting for an answer where the hub's client would wait for ever.

    That is in what a download begins with: the revision, the list of files, a key for the storage. For
    the files themselves it has limits (HF_HUB_DOWNLOAD_TIMEOUT), and tries five times more; the Xet
    storage's client, which reads its limit when it starts, would wait five minutes each time.
    """
    os.environ.setdefault("HF_XET_CLIENT_READ_TIMEOUT", "30s")

    def limit(request: Any) -> None:
        limits = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            kind: seconds if value is None else value for kind, value in limits.items()
        }

    session = huggingface_hub.get_session()
    hooks = session.event_hooks
    session.event_hooks = {**hooks, "request": [*hooks["request"], limit]}
    try:
        yield
    finally:
        session.event_hooks = hooks


def _download(name: str, timeout: float, local_files_only: bool = False) -> Path:
    return Path(
        huggingface_hub.snapshot_download(
            name,
            allow_patterns=SAFE_FILES,
            ignore_patterns=["*/*"],
            etag_timeout=timeout,
            local_files_only=local_files_only,
        )
    )


def _explain(error: BaseException) -> tuple[str, bool]:
    """Why the hub did not serve a model, and whether it might if asked again later."""
    # The client wraps most of what goes wrong in a LocalEntryNotFoundError.
    inner = (isinstance(error, LocalEntryNotFoundError) and error.__cause__) or error
    if isinstance(inner, GatedRepoError):
        return "the model is gated; accept its licence and log in (hf auth login)", False
    if isinstance(inner, RepositoryNotFoundError):
        return "the hub has no such model (or it is private)", False
    if isinstance(inner, OfflineModeIsEnabled):
        return "the hub was not asked, because HF_HUB_OFFLINE is set", False
    response = getattr(inner, "response", None)
    if response is not None:
        status = response.status_code
        limited = " (rate limit: wait and try again)" if status == 429 else ""
        return f"the hub answered {status}{limited}", status == 429 or status >= 500
    if isinstance(inner, (HTTPError, ConnectionError, TimeoutError)):
        return f"the hub could not be reached ({type(inner).__name__})", True
    if isinstance(inner, RuntimeError) and "error sending request" in str(inner):
        return "the hub's Xet storage could not be reached", True
    unwritten = why_not_written(inner)
    if unwritten:
        cache = huggingface_hub.constants.HF_HUB_CACHE
        return f"the hub cache {cache} cannot be written to: {unwritten} (HF_HOME moves it)", False
    return f"the download failed ({type(inner).__name__}: {inner})", False


def _unavailable(
    name: str, tried: list[str], kind: type[ModelUnavailableError] = ModelUnavailableError
) -> ModelUnavailableError:
    message = (
        f"The model {name!r} cannot be had here. Tried: {'; '.join(tried)}. Three ways out: "
        f"(1) with access to the hub, fetch it once (hf download {name}); from then on the cache "
        "serves it. (2) Name a local folder in Hugging Face format. "
        f"(3) Name {EMBEDDED_MODEL!r}, the embedded model, which needs no hub."
    )
    return kind(message, reason=tried[-1])
