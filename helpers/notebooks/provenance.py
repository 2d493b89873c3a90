"""Where a notebook's outputs come from: the stamp in its metadata."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from nbformat import NotebookNode

Loaded = Mapping[str, str | None]  # model, dtype, weights

STAMPED_PACKAGES = ("torch", "transformer-lens", "transformers", "plotly", "circuitsvis")


# Jupytext's own lines at the top. An editor that saves a pair writes its kernel's name into them.
_HEADER = re.compile(r"\A(?:# ---\n# jupyter:\n(?:#   .*\n)*# ---\n+)?")
_OUR_HEADER = """\
# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

"""


def text_sha256(text: str) -> str:
    """Hash of a percent script's text, the same whatever line endings a checkout gives it.

    Its Jupytext header, or that it has none, does not count: every script counts as having ours.
    """
    body = _HEADER.sub("", text.replace("\r\n", "\n"), count=1)
    return hashlib.sha256((_OUR_HEADER + body).encode()).hexdigest()


def source_sha256(source: Path) -> str:
    """Hash of a percent script's text in a file."""
    return text_sha256(source.read_text(encoding="utf-8"))


def model_name(model: str) -> str:
    """How the stamp names a model: as asked for, but a folder of this machine by its last part."""
    folder = Path(model).expanduser()
    is_folder = folder.is_absolute() or (folder / "config.json").is_file()
    return folder.resolve().name if is_folder else model


def folder_of_name(name: str) -> str:
    """The name of the folder for outputs stamped with a model's name: the owner is part of it.

    So two models of the hub whose names end alike have a folder each.
    """
    return name.replace("/", "--")


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
