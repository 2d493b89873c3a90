"""Are a notebook's outputs those of a model's weights, whatever the two are called?"""

from __future__ import annotations

from pathlib import Path

import torch
from nbformat import NotebookNode

from helpers.embedded import ModelUnavailableError
from helpers.identity import files_identity
from helpers.model_folder import find_model
from helpers.notebooks.provenance import model_name
from helpers.wording import short_identity


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
        theirs, ours = entry["weights"], files_identity(folder, getattr(torch, entry["dtype"]))
        if ours != theirs:
            return f"they are of {short_identity(theirs)}, and this {name} is {short_identity(ours)}"
    return None
