"""Whose atlas a file is: of which weights and which tokenizer, whatever the model is called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_lens.model_bridge import TransformerBridge

from helpers.atlas.inputs import passage_texts
from helpers.identity import tokenizer_identity, weights_identity, weights_revision
from helpers.wording import short_identity


class OtherModelError(ValueError):
    """Files that were to be written are there already, and another model's; the message names both."""


def model_identity(model: TransformerBridge) -> dict[str, str | None]:
    """What of the provenance tells a model: ``weights``, ``tokenizer``, and ``revision`` to look it up.

    The tokenizer counts because most scores are measured on text.
    """
    weights = weights_identity(model)
    return {
        "revision": weights_revision(model, weights),
        "weights": weights,
        "tokenizer": tokenizer_identity(model, passage_texts()),
    }


def other_model(
    info: Mapping[str, Any], identity: Mapping[str, str | None], untold: str | None = None
) -> str | None:
    """Why stored scores are not known to be this model's; None if they are.

    Args:
        info: provenance of what is stored.
        identity: from :func:`model_identity`.
        untold: why the model's weights cannot be told, if so.
    """
    if identity["weights"] is None:
        return (
            f"which weights this model has cannot be told ({untold or 'it has hooks or parts on disk'})"
        )
    if not info.get("weights") or not info.get("tokenizer"):
        return "it does not say which weights and tokenizer it was measured with"
    for what in ("weights", "tokenizer"):
        if info[what] != identity[what]:
            return (
                f"it was measured with other {what} ({short_identity(info[what])}) than this model's "
                f"({short_identity(identity[what])})"
            )
    return None


def check_place(folder: Path, stem: str, identity: Mapping[str, str | None]) -> None:
    """Whether files of this name may be written: there are none yet, or they are this model's.

    Args:
        folder: it need not exist.
        stem: of the files' names.
        identity: from :func:`model_identity`, of the model whose files they will be.

    Raises:
        OtherModelError: with the ways out.
    """
    there = [
        path for suffix in (".json", ".csv", ".parquet") if (path := folder / (stem + suffix)).exists()
    ]
    if not there:
        return
    fault = other_model(_provenance(there[0]), identity)
    if fault:
        raise OtherModelError(
            f"{there[0]} is not replaced: {fault}. Move it and the files beside it away, give the "
            "model's folder another name, write elsewhere, or allow it (--replace, replace=True)."
        )


def _provenance(path: Path) -> dict[str, Any]:
    """That of a JSON file; without one nothing is known."""
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return info if isinstance(info, dict) else {}
