"""GPT-2 small's published IOI figures, to stand beside a run's own.

The numbers come from the stored outputs of TransformerLens's Exploratory Analysis demo; source,
commit and settings are in ``gpt2_small_ioi.json`` under ``source``. They are never measured here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor


@cache
def published() -> dict[str, Any]:
    """The whole record: ``source``, ``prompts``, ``printed``, ``figures`` and ``axes``.

    Example:
        >>> sorted(published())
        ['axes', 'figures', 'printed', 'prompts', 'source']
    """
    return json.loads(resources.files("helpers.ioi").joinpath("gpt2_small_ioi.json").read_text())


def published_value(name: str) -> Any:
    """One printed value, such as ``logit_diff_average``.

    Raises:
        KeyError: with the names there are.

    Example:
        >>> round(published_value("logit_diff_average"), 2)
        3.55
    """
    return _lookup(published()["printed"], name)


def published_heatmap(name: str) -> Float[Tensor, "layer head_or_position"]:
    """One published heatmap, such as ``head_attribution``; ``axes`` in the record says which axes.

    Raises:
        KeyError: with the names there are.

    Example:
        >>> published_heatmap("head_attribution").shape
        torch.Size([12, 12])
    """
    heatmaps = {k: v for k, v in published()["figures"].items() if isinstance(v, list)}
    return torch.tensor(_lookup(heatmaps, name))


def published_line(name: str) -> dict[str, float]:
    """One published line figure (``logit_lens`` or ``layer_attribution``), component to value.

    Raises:
        KeyError: with the names there are.

    Example:
        >>> list(published_line("logit_lens"))[:2]
        ['0_pre', '0_mid']
    """
    lines = {k: v for k, v in published()["figures"].items() if isinstance(v, dict)}
    return _lookup(lines, name)


def published_circuit() -> dict[str, list[tuple[int, int]]]:
    """Wang et al.'s classes of heads (the paper's figure 2), each with its (layer, head) members.

    Example:
        >>> published_circuit()["name mover"]
        [(9, 6), (9, 9), (10, 0)]
    """
    circuit = json.loads(resources.files("helpers.ioi").joinpath("gpt2_small_circuit.json").read_text())
    return {role: [(layer, head) for layer, head in heads] for role, heads in circuit["classes"].items()}


def _lookup(record: Mapping[str, Any], name: str) -> Any:
    if name not in record:
        raise KeyError(f"Nothing published as {name!r}; there is {', '.join(record)}.")
    return record[name]


def beside_published(rows: Mapping[str, tuple[object, object]], model_name: str) -> pd.DataFrame:
    """A table with this run's values beside GPT-2 small's published ones.

    Args:
        rows: what was measured, to (this run's value, the published value): numbers or text.
        model_name: heads the column of this run.

    Example:
        >>> beside_published({"logit difference": (4.72, 3.55)}, "my-model")
                          this run (my-model)  GPT-2 small (published)
        logit difference                 4.72                     3.55
    """
    columns = [f"this run ({model_name})", "GPT-2 small (published)"]
    table = pd.DataFrame(list(rows.values()), index=list(rows), columns=columns, dtype=object)
    # Counts beside measurements stay whole numbers.
    is_float = all(isinstance(value, float) for value in table.to_numpy().flat)
    return table.astype(float) if is_float else table
