"""Where a notebook's outputs come from: the stamp in its metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from nbformat import NotebookNode

from helpers.embedded import ModelUnavailableError
from helpers.identity import files_identity, short
from helpers.model_folder import find_model

Loaded = Mapping[str, str | None]  # model, dtype, weights

STAMPED_PACKAGES = ("torch", "transformer-lens", "transformers", "plotly", "circuitsvis")


def text_sha256(text: str) -> str:
    """Hash of a percent script's text, the same whatever line endings a checkout gives it."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def source_sha256(source: Path) -> str:
    """Hash of a percent script's text in a file."""
    return text_sha256(source.read_text(encoding="utf-8"))


def folder_of_model(model: str) -> str:
    """The name of the folder for a model's outputs: of a hub name or a path, the last part."""
    return Path(model).expanduser().resolve().name


def model_name(model: str) -> str:
    """How the stamp names a model: as asked for, but a folder of this machine by its last part."""
    return folder_of_model(model) if Path(model).expanduser().is_dir() else model


def stamp(notebook: NotebookNode, source: Path, model: str, weights: Sequence[Loaded]) -> None:
    """Record source, model, weights and versions of a run in the notebook's metadata.

    Args:
        notebook: executed.
        source: its script.
        model: as in ``DEMO_MODEL``.
        weights: every model that the kernel loaded, from :func:`helpers.identity.loaded_models`.
    """
    notebook.metadata["provenance"] = {
        "source": source.name,
        "source_sha256": source_sha256(source),
        "model": model_name(model),
        "weights": list(weights),
        "versions": {package: version(package) for package in STAMPED_PACKAGES},
    }


def other_weights(notebook: NotebookNode, model: str) -> str | None:
    """Why a notebook's outputs are not known to be of a model's weights; None if they are.

    Of a name on the hub that is the stamped one nothing more is asked where the stamp names no weights,
    or the model cannot be had; folders of one name may hold any two models.

    Args:
        notebook: with its stamp.
        model: as in ``DEMO_MODEL``; its files are read, and fetched if need be.
    """
    stamped = notebook.metadata.get("provenance", {})
    name = model_name(model)
    if stamped.get("model") != name:
        return f"they are of {stamped.get('model')}"
    if "weights" not in stamped:
        is_folder = Path(model).expanduser().is_dir()
        return "the stamp does not say of which weights they are" if is_folder else None
    entries = [entry for entry in stamped["weights"] if entry["model"] == name]
    if not entries:
        return None
    try:
        _, folder = find_model(model, timeout=5.0)
    except ModelUnavailableError:
        return None
    for entry in entries:
        ours = files_identity(folder, getattr(torch, entry["dtype"]))
        if ours != entry["weights"]:
            return f"they are of {short(entry['weights'])}, and this {name} is {short(ours)}"
    return None
