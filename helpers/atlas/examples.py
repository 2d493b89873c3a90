"""Attention of every head on three example prompts: the pictures on a head's card.

``<stem>.attention.parquet`` has one row a head and a list for each prompt: the attention from each
position to itself and those before, row after row, in thousandths. Its metadata, and ``.json`` beside
it, say of which weights, and what the tokens are.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int, UInt16
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.atlas.identity import model_identity
from helpers.atlas.inputs import passage_texts, sampled_tokens, start_token, token_range
from helpers.atlas.table import VERSIONS, file_stem
from helpers.files import write_files
from helpers.ioi.prompts import REFERENCE_NAMES, REFERENCE_TEMPLATES
from helpers.progress import progress_bar
from helpers.replay import hook_names_of

UNIT = 1000
SUFFIX = ".attention"
METADATA_KEY = b"head_atlas_attention"
MOST_TOKENS = 25
WORDS = 12  # that are repeated
WORD = re.compile(r"[ ▁][a-z]{3,9}")
PASSAGE = 2  # a dialogue: quotation marks, a verb that comes again, pronouns

SHOWS = {
    "task": "A prompt of the IOI task. What do its last word and the second John look back at?",
    "repeated": "Random words, twice. Previous-token heads draw a line just below the diagonal, "
    "duplicate-token and induction heads one that begins in the middle.",
    "text": "The beginning of a text. Where does the head look on ordinary sentences?",
}


@dataclass(frozen=True, eq=False)  # arrays do not compare to a bool
class Examples:
    """Attention patterns of every head of a model on a few prompts.

    Attributes:
        info: provenance. ``model``, ``revision``, ``weights``, ``tokenizer``, ``dtype``, ``n_layers``,
            ``n_heads``, ``seed``, ``versions``, ``unit``, and for each of ``prompts`` what it shows and
            its tokens.
        entries: of each prompt, by name, each head's attention in thousandths: rows of the triangle up
            to the diagonal, one after another.
    """

    info: dict[str, Any]
    entries: Mapping[str, UInt16[np.ndarray, "head entry"]]

    def tokens(self, prompt: str) -> list[str]:
        """The prompt's tokens as text."""
        return self.info["prompts"][prompt]["tokens"]

    def patterns(self, prompt: str) -> Float[np.ndarray, "layer head dest src"]:
        """Attention on a prompt, 0 to 1, to the nearest thousandth."""
        length = len(self.tokens(prompt))
        full = np.zeros((len(self.entries[prompt]), length, length), dtype=np.float32)
        dest, src = np.tril_indices(length)
        full[:, dest, src] = self.entries[prompt] / UNIT
        return full.reshape(self.info["n_layers"], self.info["n_heads"], length, length)

    def write(self, folder: Path | str) -> list[Path]:
        """Write the Parquet file and the JSON file with its provenance: both or none.

        Raises:
            NotWrittenError: if the folder cannot be written to, saying why.
        """
        provenance = json.dumps(self.info, ensure_ascii=False)
        columns = {name: list(values) for name, values in self.entries.items()}
        table = pa.table(self._heads() | columns).replace_schema_metadata({METADATA_KEY: provenance})
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", compression_level=15)
        stem = file_stem(self.info["model"]) + SUFFIX
        contents = {
            ".parquet": buffer.getvalue(),
            ".json": (json.dumps(self.info, indent=1, ensure_ascii=False) + "\n").encode(),
        }
        paths = [Path(folder) / f"{stem}{suffix}" for suffix in contents]
        write_files(dict(zip(paths, contents.values(), strict=True)))
        return paths

    def _heads(self) -> dict[str, list[int]]:
        layer, head = np.indices((self.info["n_layers"], self.info["n_heads"])).reshape(2, -1)
        return {"layer": layer.tolist(), "head": head.tolist()}


def read_examples(path: Path | str) -> Examples:
    """Patterns from their Parquet file.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it was not written by this module, or does not hold what its provenance says.
    """
    stored = pq.read_table(path)
    if METADATA_KEY not in (stored.schema.metadata or {}):
        raise ValueError(f"{path} holds no attention patterns: it was not written by helpers.atlas.")
    info = json.loads(stored.schema.metadata[METADATA_KEY])
    heads = info["n_layers"] * info["n_heads"]
    entries = {}
    for name, prompt in info["prompts"].items():
        length = len(prompt["tokens"])
        values = stored[name].to_pylist() if name in stored.column_names else []
        if len(values) != heads or {len(row) for row in values} != {length * (length + 1) // 2}:
            raise ValueError(
                f"{path} must hold {heads} patterns over {length} tokens in column {name!r}; "
                "make it again with python -m helpers.atlas."
            )
        entries[name] = np.array(values, dtype=np.uint16)
    return Examples(info, entries)


def example_tokens(model: TransformerBridge, seed: int) -> dict[str, Int[Tensor, " position"]]:
    """The three prompts: the task's first, words repeated, and text, each after a start token."""
    texts = {
        "task": REFERENCE_TEMPLATES[0].format(REFERENCE_NAMES[0][1]),
        "text": passage_texts()[PASSAGE],
    }
    most = min(MOST_TOKENS, model.cfg.n_ctx)
    tokens = {name: model.to_tokens(text, prepend_bos=True)[0, :most] for name, text in texts.items()}
    words = random_words(model, seed)
    repeated = torch.cat([torch.tensor([start_token(model)]), words, words])
    return {name: repeated if name == "repeated" else tokens[name] for name in SHOWS}


def random_words(model: TransformerBridge, seed: int) -> Int[Tensor, " word"]:
    """Different random tokens that begin a word, or any tokens if few of the vocabulary do."""
    low, high = token_range(model)
    shuffled = sampled_tokens(high - low, seed, low, high)
    texts = model.to_str_tokens(shuffled[: 100 * WORDS])
    words = [i for i, text in enumerate(texts) if WORD.fullmatch(text)]
    return shuffled[words[:WORDS]] if len(words) >= WORDS else shuffled[:WORDS]


@torch.no_grad()
def build_examples(
    model: TransformerBridge,
    *,
    seed: int = 0,
    progress: bool | None = None,
) -> Examples:
    """Run the three prompts and keep every head's attention.

    Args:
        model: any causal decoder, in eval mode.
        seed: of the random words.
        progress: show a bar. ``None``: in a terminal or a notebook.

    Raises:
        ValueError: if a head attends to what comes later, or a pattern is NaN.
    """
    prompts = example_tokens(model, seed)
    entries = {}
    with progress_bar("example prompts", len(prompts), progress) as bar:
        for name, tokens in prompts.items():
            entries[name] = _thousandths(_patterns(model, tokens), model.cfg.model_name)
            bar.update()
    described = {
        name: {"shows": SHOWS[name], "tokens": [str(t) for t in model.to_str_tokens(tokens)]}
        for name, tokens in prompts.items()
    }
    info = {
        "model": model.cfg.model_name,
        **model_identity(model),
        "dtype": str(model.cfg.dtype).removeprefix("torch."),
        "n_layers": model.cfg.n_layers,
        "n_heads": model.cfg.n_heads,
        "seed": seed,
        "versions": {package: version(package) for package in VERSIONS},
        "unit": f"1/{UNIT} of the attention, rounded; rows of the triangle up to the diagonal",
        "prompts": described,
    }
    return Examples(info, entries)


def _patterns(
    model: TransformerBridge, tokens: Int[Tensor, " position"]
) -> Float[Tensor, "layer head dest src"]:
    found: dict[int, Tensor] = {}

    def keep(pattern: Tensor, hook) -> None:
        found[hook.layer()] = pattern[0].float().cpu()

    layers = range(model.cfg.n_layers)
    names = hook_names_of(model, "pattern", layers)
    model.run_with_hooks(
        tokens[None].to(model.cfg.device),
        return_type=None,
        fwd_hooks=[(names.__contains__, keep)],
    )
    return torch.stack([found[layer] for layer in layers])


def _thousandths(
    patterns: Float[Tensor, "layer head dest src"], model: str
) -> UInt16[np.ndarray, "head entry"]:
    values = patterns.flatten(0, 1).numpy()
    if not np.isfinite(values).all():
        raise ValueError(f"Attention of {model} came out as NaN or infinity.")
    if np.triu(values, 1).any():
        raise ValueError(f"Heads of {model} attend to later tokens; the atlas is for causal decoders.")
    dest, src = np.tril_indices(values.shape[-1])
    return (values[:, dest, src] * UNIT).round().astype(np.uint16)
