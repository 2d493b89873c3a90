"""The atlas as a table: one row a head, and beside it what was measured, how, and on what.

Columns: ``model``, ``layer``, ``head``, ``name`` (such as L3H1), then each score and, after all of
them, its standard error as ``<score>_se``. Empty cells: the score cannot be had for this model, and
the provenance says why. Values are rounded to six significant digits, so that CSV and Parquet agree.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch import Tensor

from helpers.files import write_files

INDEX = ["model", "layer", "head", "name"]
ERROR = "_se"
VERSIONS = ("torch", "transformer-lens", "transformers")  # that provenance names
METADATA_KEY = b"head_atlas"


@dataclass(frozen=True, eq=False)  # tables do not compare to a bool
class Atlas:
    """Scores of every head of a model.

    Attributes:
        table: one row a head, in order of layer and head; see the module for its columns.
        info: provenance. ``model``, ``revision``, ``weights`` and ``tokenizer`` (which tell a model,
            see :mod:`helpers.atlas.identity`), ``n_layers``, ``n_heads``, ``settings``, ``versions``,
            ``scores`` (meaning, formula, range, null, source, samples of each), ``unavailable``.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> published_atlas().score("induction").shape
        torch.Size([12, 12])
    """

    table: pd.DataFrame
    info: dict[str, Any]

    @property
    def scores(self) -> list[str]:
        """Names of the scores that could be measured."""
        return [c for c in self.info["scores"] if self.table[c].notna().all()]

    def score(self, name: str) -> Float[Tensor, "layer head"]:
        """A score as [layer, head].

        Raises:
            KeyError: with the scores there are.
        """
        return self._column(name, name)

    def error(self, name: str) -> Float[Tensor, "layer head"]:
        """The standard errors of a score as [layer, head]; a published score has none.

        Raises:
            KeyError: with the scores there are.
        """
        return self._column(name, name + ERROR)

    def null(self, name: str) -> float:
        """What a head that knows nothing would score."""
        self._check(name)
        return float(self.info["scores"][name]["null_value"])

    def _column(self, name: str, column: str) -> Tensor:
        self._check(name)
        values = torch.tensor(self.table[column].to_numpy(dtype="float32"))
        return values.reshape(self.info["n_layers"], self.info["n_heads"])

    def _check(self, name: str) -> None:
        if name not in self.info["scores"]:
            raise KeyError(f"No score {name!r}; there is {', '.join(self.info['scores'])}.")
        if name not in self.scores:
            raise KeyError(f"No {name!r} for {self.info['model']}: {self.info['unavailable'].get(name)}")

    def write(self, folder: Path | str, stem: str | None = None) -> list[Path]:
        """Write ``<stem>.csv``, ``.parquet`` and ``.json`` (the provenance): all three or none.

        Args:
            folder: made if need be.
            stem: the model's name, with ``/`` as ``--``, if not given.

        Raises:
            NotWrittenError: if the folder cannot be written to, saying why.
        """
        stem = stem or file_stem(self.info["model"])
        contents = {
            ".csv": self.table.to_csv(index=False, lineterminator="\n").encode(),
            ".parquet": _parquet(self),
            ".json": (json.dumps(self.info, indent=1, ensure_ascii=False) + "\n").encode(),
        }
        paths = [Path(folder) / f"{stem}{suffix}" for suffix in contents]
        write_files(dict(zip(paths, contents.values(), strict=True)))
        return paths


def read_atlas(path: Path | str) -> Atlas:
    """An atlas from its Parquet file, or from its CSV file with the JSON file beside it.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if the file is neither, or holds no provenance.

    Example:
        >>> from helpers.atlas.published import published_atlas
        >>> csv, parquet, info = published_atlas().write("atlas-folder")
        >>> read_atlas(parquet).scores == published_atlas().scores
        True
    """
    path = Path(path)
    if path.suffix == ".csv":
        info = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return Atlas(pd.read_csv(path), info)
    if path.suffix != ".parquet":
        raise ValueError(f"{path} is no atlas: a .parquet or .csv file is expected.")
    stored = pq.read_table(path)
    if METADATA_KEY not in (stored.schema.metadata or {}):
        raise ValueError(f"{path} holds no provenance: it was not written by helpers.atlas.")
    return Atlas(stored.to_pandas(), json.loads(stored.schema.metadata[METADATA_KEY]))


def make_table(
    model: str, columns: dict[str, Float[Tensor, "layer head"]], n_layers: int, n_heads: int
) -> pd.DataFrame:
    """One row a head, from columns of [layer, head]; NaN stands for what could not be had.

    Example:
        >>> make_table("tiny", {"induction": torch.tensor([[0.25, 0.5]])}, n_layers=1, n_heads=2)
          model  layer  head  name  induction
        0  tiny      0     0  L0H0       0.25
        1  tiny      0     1  L0H1       0.50
    """
    layers = [layer for layer in range(n_layers) for _ in range(n_heads)]
    heads = [head for _ in range(n_layers) for head in range(n_heads)]
    names = [f"L{layer}H{head}" for layer, head in zip(layers, heads, strict=True)]
    data: dict[str, Any] = {"model": model, "layer": layers, "head": heads, "name": names}
    for name, values in columns.items():
        data[name] = [float(f"{value:.6g}") for value in values.flatten().tolist()]
    return pd.DataFrame(data)


def file_stem(model: str) -> str:
    """A model's name as a file's name.

    Example:
        >>> file_stem("EleutherAI/pythia-70m")
        'EleutherAI--pythia-70m'
    """
    return model.replace("/", "--")


def _parquet(atlas: Atlas) -> bytes:
    stored = pa.Table.from_pandas(atlas.table, preserve_index=False)
    # In place of pandas' own metadata, which name its version.
    stored = stored.replace_schema_metadata({METADATA_KEY: json.dumps(atlas.info, ensure_ascii=False)})
    buffer = io.BytesIO()
    pq.write_table(stored, buffer, compression="zstd")
    return buffer.getvalue()
