"""The atlas page of the site: committed tables and attention patterns as data for static/atlas.js.

No model is run. Whatever ``python -m helpers.atlas`` has written into a folder is on the page, measured
atlases first.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.atlas import examples
from helpers.atlas.examples import Examples, read_examples
from helpers.atlas.questions import KINDS, distances, heads_of_kind, ranks
from helpers.atlas.table import ERROR, Atlas, read_atlas
from helpers.atlas.views import ALWAYS
from helpers.head_scores import top_heads

NEAREST = 3
PROMPT_TITLES = {"task": "The task", "repeated": "Repetition", "text": "Text"}


@dataclass(frozen=True)
class Entry:
    """A model on the page.

    Attributes:
        stem: of its files; links to its heads begin with it.
        atlas: its table.
        examples: its attention patterns; ``None`` if there are none.
    """

    stem: str
    atlas: Atlas
    examples: Examples | None

    @property
    def measured(self) -> bool:
        """Published scores come without settings."""
        return "settings" in self.atlas.info


@dataclass(frozen=True)
class AtlasPage:
    """The page, and what an index says of it."""

    entries: list[Entry]
    name: str = "atlas"
    title: str = "Look up a head"
    short_title: str = title

    @property
    def promise(self) -> str:
        # A folder's name may hold anything.
        names = (re.sub(r"([\\`*_$<&\[])", r"\\\1", e.atlas.info["model"]) for e in self.entries)
        models = " and ".join(names)
        return (
            f"Every attention head of {models}: search by name, sort and filter by any score, and open "
            "a head's card, with all its scores, its ranks and what it attends to."
        )

    @property
    def picture(self) -> bytes | None:
        """Patterns of the first model, a PNG file, if it has some."""
        return contact_sheet(self.entries[0])

    def markdown(self, repository: str) -> str:
        """The page in MyST, with its data; the rest is drawn by static/atlas.js."""
        # A script element ends at "</": no "<" may stand in it.
        data = json.dumps(page_data(self.entries), ensure_ascii=False, allow_nan=False)
        data = data.replace("<", "\\u003c")
        tables = f"https://github.com/{repository}/blob/main/demos/atlas"
        return (
            f"# {self.title}\n\n"
            "One row a head. Search for a name (`L23H3` or `23.3`; `L23` for a whole layer), or ask for "
            "a score and a range. A head's name opens its card, whose address can be linked to. The "
            "tables themselves, and what their columns mean, are "
            f"[in the repository]({tables}/README.md).\n\n"
            "```{raw} html\n"
            '<div id="atlas"><noscript>This page is drawn by a script; without one, read the '
            f'<a href="{tables}/README.md">tables</a>.</noscript></div>\n'
            f'<script type="application/json" id="atlas-data">{data}</script>\n'
            "```\n"
        )


def read_atlas_page(folder: Path) -> AtlasPage | None:
    """The atlases of a folder as a page, measured ones first; ``None`` if there are none.

    Raises:
        ValueError: if attention patterns and table are not of the same weights.
    """
    paths = [p for p in sorted(folder.glob("*.parquet")) if not p.stem.endswith(examples.SUFFIX)]
    entries = [Entry(path.stem, read_atlas(path), _examples_beside(path)) for path in paths]
    for entry in entries:
        _check_same_weights(entry)
    entries.sort(key=lambda entry: not entry.measured)
    return AtlasPage(entries) if entries else None


def _examples_beside(table: Path) -> Examples | None:
    path = table.with_name(f"{table.stem}{examples.SUFFIX}.parquet")
    return read_examples(path) if path.is_file() else None


def _check_same_weights(entry: Entry) -> None:
    if entry.examples is None:
        return
    keys = ("model", "revision", "weights", "tokenizer", "n_layers", "n_heads")
    table, patterns = (
        [info.get(key) for key in keys] for info in (entry.atlas.info, entry.examples.info)
    )
    if table != patterns:
        raise ValueError(
            f"The table {entry.stem} is of {table}, its attention patterns are of {patterns} "
            f"({', '.join(keys)}); make them again with python -m helpers.atlas --examples-only."
        )


def page_data(entries: Sequence[Entry]) -> dict[str, Any]:
    """Everything that the page shows, ready for JSON."""
    return {
        "main": list(ALWAYS),
        "kinds": {kind: {"score": k.score, "threshold": k.threshold} for kind, k in KINDS.items()},
        "models": [_model_data(entry, entries) for entry in entries],
    }


def _model_data(entry: Entry, entries: Sequence[Entry]) -> dict[str, Any]:
    atlas, info = entry.atlas, entry.atlas.info
    scores = {
        name: info["scores"][name]
        | {
            "values": atlas.table[name].tolist(),
            "ranks": ranks(atlas, name).flatten().tolist(),
            "errors": atlas.table[name + ERROR].tolist() if name + ERROR in atlas.table else None,
        }
        for name in atlas.scores
    }
    kinds: list[list[str]] = [[] for _ in atlas.table["name"]]
    for kind in KINDS:
        for head in heads_of_kind(atlas, kind):
            kinds[head.layer * info["n_heads"] + head.head].append(kind)
    return {
        "stem": entry.stem,
        "model": info["model"],
        "measured": entry.measured,
        "heads": atlas.table["name"].tolist(),
        "scores": scores,
        "kinds": kinds,
        "roles": atlas.table["role"].fillna("").tolist() if "role" in atlas.table else None,
        "unavailable": info["unavailable"],
        "similar": {other.stem: _nearest(atlas, other.atlas) for other in entries},
        "prompts": _prompt_data(entry.examples) if entry.examples else [],
    }


def _nearest(atlas: Atlas, other: Atlas) -> list[list[list[Any]]]:
    """For each head the nearest ones of an atlas as [name, distance]; none without a common score."""
    if not set(atlas.scores) & set(other.scores):
        return [[] for _ in atlas.table["name"]]
    nearest = [
        top_heads(apart, min(NEAREST, apart.numel()), smallest=True)
        for apart in distances(atlas, other).flatten(0, 1)
    ]
    # A head is infinitely far from itself.
    return [[[h.name, round(h.value, 3)] for h in heads if isfinite(h.value)] for heads in nearest]


def _prompt_data(patterns: Examples) -> list[dict[str, Any]]:
    """Patterns as little-endian 16-bit numbers, one head after another, in base64."""
    return [
        {
            "title": PROMPT_TITLES.get(name, name),
            "shows": prompt["shows"],
            "tokens": prompt["tokens"],
            "unit": examples.UNIT,
            "patterns": base64.b64encode(patterns.entries[name].astype("<u2").tobytes()).decode(),
        }
        for name, prompt in patterns.info["prompts"].items()
    ]


def contact_sheet(entry: Entry, *, rows: int = 3, columns: int = 6, cell: int = 5) -> bytes | None:
    """A picture for the index: a few heads' patterns on the repeated words.

    Args:
        entry: a model; one without patterns has no picture.
        rows: of patterns.
        columns: of patterns.
        cell: pixels that one attention weight takes.

    Returns:
        A PNG file: the heads highest in each main score in turn, every head once.
    """
    if entry.examples is None:
        return None
    patterns = entry.examples.patterns("repeated")
    count = min(rows * columns, len(entry.atlas.table))
    orders = [top_heads(entry.atlas.score(s), count) for s in ALWAYS if s in entry.atlas.scores]
    chosen = list(dict.fromkeys(h[:2] for turn in zip(*orders, strict=True) for h in turn))
    size, gap = patterns.shape[-1] * cell, 3 * cell
    sheet = np.zeros((gap + rows * (size + gap), gap + columns * (size + gap)))
    for place, head in enumerate(chosen[: rows * columns]):
        top, left = (gap + index * (size + gap) for index in divmod(place, columns))
        sheet[top : top + size, left : left + size] = patterns[head].repeat(cell, 0).repeat(cell, 1)
    white, blue = np.array([255, 255, 255]), np.array([0, 70, 140])
    image = white + np.sqrt(sheet)[..., None] * (blue - white)
    file = io.BytesIO()
    Image.fromarray(image.round().astype(np.uint8)).save(file, "PNG", optimize=True)
    return file.getvalue()
