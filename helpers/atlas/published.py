"""GPT-2 small's published scores as an atlas of their own: reference data, never measured here."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from helpers.atlas.attention import duplicate_token, induction, previous_token
from helpers.atlas.ioi_roles import ioi_attribution, ioi_patching
from helpers.atlas.scores import describe
from helpers.atlas.table import Atlas, make_table
from helpers.ioi.record import published, published_circuit, published_heatmap

STEM = "gpt2-small.published"

HEATMAPS: dict[Callable[..., Tensor], str] = {
    previous_token: "score_previous_token",
    duplicate_token: "score_duplicate_token",
    induction: "score_induction",
    ioi_attribution: "head_attribution",
    ioi_patching: "patch_head_z",
}


def published_atlas() -> Atlas:
    """The published scores of GPT-2 small, and in ``role`` the class that Wang et al. give a head.

    Its columns are called as those of a measured atlas, and mean the same on other samples: two rows
    of random tokens, and the eight reference prompts. There are no errors.

    Example:
        >>> atlas = published_atlas()
        >>> atlas.table.loc[atlas.table["name"] == "L9H9", "role"].item()
        'name mover'
    """
    columns = {f.__name__: published_heatmap(heatmap) for f, heatmap in HEATMAPS.items()}
    n_layers, n_heads = next(iter(columns.values())).shape
    table = make_table("gpt2 (published)", columns, n_layers, n_heads)
    roles = {head: role for role, heads in published_circuit().items() for head in heads}
    table["role"] = [
        roles.get((layer, head), "") for layer, head in zip(table["layer"], table["head"], strict=True)
    ]
    source = published()["source"]
    info = {
        "model": "gpt2 (published)",
        "revision": None,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "source": source,
        "roles": "Wang et al. 2022, Interpretability in the Wild (arXiv 2211.00593), figure 2",
        "scores": {f.__name__: describe(f) | {"published_as": name} for f, name in HEATMAPS.items()},
        "unavailable": {},
    }
    return Atlas(table, info)
