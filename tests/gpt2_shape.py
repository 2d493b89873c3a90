"""A checkpoint of GPT-2 small's shape with random weights, in the places where the real one would be.

It shows that the code runs on GPT-2's architecture and files. What it computes means nothing, and
nothing that it computes is ever shown to a reader as GPT-2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from helpers.embedded import sha256
from helpers.ioi.dataset import ENGLISH
from helpers.ioi.prompts import REFERENCE_NAMES, REFERENCE_TEMPLATES
from helpers.tasks import capitals, docstrings, greater_than

VOCAB = 50257
END_OF_TEXT = "<|endoftext|>"  # beginning and end of a text at once, and the last id
COMMIT = "0123456789abcdef0123456789abcdef01234567"

# Words that the demos may write, besides those of the prompts.
OTHER_TEXT = "After John and Mary went to the store, John gave a bottle of milk to Mary. Priya"


@dataclass(frozen=True)
class Checkpoint:
    """The same weights in the two places that ``load_model`` looks in.

    Attributes:
        hub_cache: for ``HF_HUB_CACHE``; holds the model as ``gpt2``.
        folder: a plain folder in Hugging Face format.
    """

    hub_cache: Path
    folder: Path


def build_checkpoint(root: Path, width: int = 768, layers: int = 12) -> Checkpoint:
    """Write the checkpoint, at full width about 1 GB in all, into an empty folder."""
    model, tokenizer = gpt2_shaped_model(width, layers), gpt2_like_tokenizer()
    folder = root / "gpt2-shaped"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # The published file names its tensors without the "transformer." in front: h.0.attn.c_attn.weight.
    download = root / "download"
    model.transformer.save_pretrained(download)
    model.config.architectures = ["GPT2LMHeadModel"]  # saving the inner model has changed it
    model.config.save_pretrained(download)
    tokenizer.save_pretrained(download)
    hub_cache = root / "hub"
    move_into_cache(download, hub_cache / "models--gpt2")
    return Checkpoint(hub_cache, folder)


def gpt2_shaped_model(width: int = 768, layers: int = 12, seed: int = 0) -> GPT2LMHeadModel:
    """GPT-2 small's sizes; every parameter random, so that no bias or scale is trivial.

    A smaller width (a multiple of 12) or fewer layers leave heads, positions and vocabulary as they are.
    """
    torch.manual_seed(seed)
    # The library's own 0.02 gives logit differences near zero, in which rounding would show; so do
    # most seeds.
    model = GPT2LMHeadModel(GPT2Config(n_embd=width, n_layer=layers, initializer_range=2.2 / width**0.5))
    for name, parameter in model.named_parameters():
        if "bias" in name or "ln_" in name:
            scale = "ln_" in name and "weight" in name
            torch.nn.init.normal_(parameter, mean=float(scale), std=0.1)
    return model.eval()


def gpt2_like_tokenizer() -> GPT2TokenizerFast:
    """Byte-level BPE like GPT-2's, in which every word of the demos' prompts is a single token.

    The merges spell those words letter by letter, with and without a space in front, and years in pairs
    of digits; any other text falls apart into bytes. Entries that no text reaches fill the vocabulary up
    to GPT-2's size.
    """
    words = _words(" ".join([*REFERENCE_TEMPLATES, *(" ".join(pair) for pair in REFERENCE_NAMES)]))
    for text in (OTHER_TEXT, *_sampled_text()):
        words += [word for word in _words(text) if word not in words]
    # Words after a space come first: the beginnings of others may be anywhere inside of them.
    words.sort(key=lambda word: not word.startswith("Ġ"))
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: list[tuple[str, str]] = []
    for word in [*words, *(f"{pair:02}" for pair in range(100))]:
        for end in range(2, len(word) + 1):
            if word[:end] not in pieces:
                pieces.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    pieces += [f"Ġunused{i}" for i in range(len(pieces), VOCAB - 1)]
    vocab = {piece: i for i, piece in enumerate([*pieces, END_OF_TEXT])}
    return GPT2TokenizerFast(vocab=vocab, merges=merges, model_max_length=1024)


def _sampled_text() -> Iterator[str]:
    """Every word that a sampled prompt may hold, each where a space is in front of it."""
    for words in (ENGLISH, greater_than.ENGLISH, docstrings.ENGLISH, capitals.ENGLISH):
        for texts in vars(words).values():
            parts = [*texts.keys(), *texts.values()] if isinstance(texts, Mapping) else texts
            if any("{" in part for part in parts):
                yield from (re.sub(r" {\w+}", "", frame) for frame in parts)
            else:
                yield " ".join(["", *parts])


def _words(text: str) -> list[str]:
    """The text's pre-tokens, a space in front written as Ġ, longest first."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    words = {word for word, _ in split if "{" not in word}
    # Ties by the alphabet: a set's order, and with it every token's number, changes from run to run.
    return sorted(words, key=lambda word: (-len(word), word))


def move_into_cache(download: Path, repository: Path) -> Path:
    """Lay files out as the hub client does: blobs by hash, links by name. Returns the snapshot."""
    snapshot = repository / "snapshots" / COMMIT
    for folder in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for file in download.iterdir():
        name = sha256(file)
        file.rename(repository / "blobs" / name)
        (snapshot / file.name).symlink_to(Path("../../blobs") / name)
    return snapshot
