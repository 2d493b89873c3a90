"""Attention on the example prompts: what is run, kept and read again, and the committed patterns."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from transformer_lens.model_bridge import TransformerBridge

from helpers.atlas import __main__ as command
from helpers.atlas.examples import (
    METADATA_KEY,
    SHOWS,
    Examples,
    build_examples,
    example_tokens,
    random_words,
    read_examples,
)
from helpers.atlas.inputs import start_token
from helpers.atlas.table import read_atlas
from helpers.identity import weights_identity
from helpers.model_folder import EMBEDDED_MODEL
from tests.tiny_models import tiny_gpt2, tiny_llama

COMMITTED = Path(__file__).parent.parent / "demos" / "atlas"
HALF = 0.5005e-3  # of a thousandth, and float32's rounding

pytestmark = pytest.mark.usefixtures("one_thread")


def largest_difference(model: TransformerBridge, examples: Examples, seed: int = 0) -> float:
    """Between what is kept and what the model does."""
    differences = []
    for name, tokens in example_tokens(model, seed).items():
        _, cache = model.run_with_cache(tokens[None])
        for layer, kept in enumerate(examples.patterns(name)):
            differences.append(np.abs(kept - cache["pattern", layer][0].numpy()).max())
    return float(max(differences))


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
def test_patterns_are_the_models_to_the_nearest_thousandth(make_model):
    model = make_model()
    examples = build_examples(model)
    assert list(examples.entries) == ["task", "repeated", "text"]
    assert examples.patterns("repeated").shape == (3, 4, 25, 25)
    assert largest_difference(model, examples) <= HALF


def test_a_model_of_gpt2_shape_has_its_own_tokens(narrow_gpt2):
    examples = build_examples(narrow_gpt2)
    assert largest_difference(narrow_gpt2, examples) <= HALF
    starts = {examples.tokens(name)[0] for name in examples.entries}
    assert starts == {narrow_gpt2.tokenizer.decode([start_token(narrow_gpt2)])}
    text = "When John and Mary went to the shops, John gave the bag to"
    assert "".join(examples.tokens("task")[1:]) == text


def test_what_is_written_is_read_again(tmp_path):
    examples = build_examples(tiny_llama())
    parquet, provenance = examples.write(tmp_path)
    assert parquet.name == "tiny.attention.parquet"
    assert sorted(tmp_path.iterdir()) == sorted([parquet, provenance])
    read = read_examples(parquet)
    assert read.info == examples.info == json.loads(provenance.read_text())
    assert read.info["weights"] == weights_identity(tiny_llama())
    for name in examples.entries:
        np.testing.assert_array_equal(read.entries[name], examples.entries[name])
        np.testing.assert_array_equal(read.patterns(name), examples.patterns(name))
    frame = pd.read_parquet(parquet)
    assert frame[["layer", "head"]].values.tolist() == [[la, h] for la in range(3) for h in range(4)]


def test_words_are_repeated_after_the_start_and_follow_the_seed():
    model = tiny_llama()
    tokens = example_tokens(model, 0)["repeated"].tolist()
    assert tokens[0] == start_token(model)
    assert tokens[1:13] == tokens[13:]
    assert len(set(tokens[1:13])) == 12
    assert tokens == example_tokens(model, 0)["repeated"].tolist()
    assert tokens != example_tokens(model, 1)["repeated"].tolist()


def test_a_file_of_something_else_is_refused(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="holds no attention patterns"):
        read_examples(tmp_path / "other.parquet")


@pytest.mark.parametrize("damage", ["a head less", "a prompt less", "a token more"])
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path, damage):
    examples = build_examples(tiny_llama())
    path, _ = examples.write(tmp_path)
    table = pq.read_table(path)
    if damage == "a head less":
        table = table.slice(1)
    elif damage == "a prompt less":
        table = table.drop_columns(["task"])
    else:
        info = json.loads(json.dumps(examples.info))
        info["prompts"]["task"]["tokens"].append("w1")
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(info)})
    pq.write_table(table, path)
    with pytest.raises(ValueError, match="in column 'task'"):
        read_examples(path)


@pytest.mark.parametrize(
    ("value", "message"), [(float("nan"), "NaN or infinity"), (0.1, "attend to later tokens")]
)
def test_patterns_that_cannot_be_kept_are_refused(value, message):
    model = tiny_gpt2()

    def spoil(pattern, hook):
        pattern = pattern.clone()
        pattern[..., 0, 1:] = value  # of the repeated words: the texts are one token of this model
        return pattern

    with (
        model.hooks(fwd_hooks=[(lambda name: name == "blocks.1.attn.hook_pattern", spoil)]),
        pytest.raises(ValueError, match=message),
    ):
        build_examples(model)


def test_the_command_line_can_leave_the_table_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "load_model", lambda name, **_: tiny_llama())
    arguments = ["helpers.atlas", "--out", str(tmp_path), "--rows", "2", "--tokens", "4"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--examples-only", "--seed", "3"])
    assert command.main() == 0
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".parquet"]
    assert read_examples(tmp_path / "tiny.attention.parquet").info["seed"] == 3
    monkeypatch.setattr(sys, "argv", arguments)
    assert command.main() == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"tiny{end}" for end in (".csv", ".json", ".parquet")} | {
        f"tiny.attention{end}" for end in (".json", ".parquet")
    }
    assert capsys.readouterr().out.count("wrote ") == 2 + 5


# --- SmolLM2 --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed() -> Examples:
    return read_examples(COMMITTED / f"{EMBEDDED_MODEL}.attention.parquet")


def test_the_committed_patterns_belong_to_the_committed_table(committed):
    table = read_atlas(COMMITTED / f"{EMBEDDED_MODEL}.parquet").info
    for key in ("model", "revision", "dtype", "n_layers", "n_heads"):
        assert committed.info[key] == table[key]
    beside = COMMITTED / f"{EMBEDDED_MODEL}.attention.json"
    assert json.loads(beside.read_text(encoding="utf-8")) == committed.info
    for name in committed.entries:
        # Rounded weights: half a thousandth each, at random.
        np.testing.assert_allclose(committed.patterns(name).sum(-1), 1, atol=6e-3)
    assert sum(f.stat().st_size for f in COMMITTED.glob("*.attention.*")) < 500_000


@pytest.mark.smollm2
def test_the_committed_patterns_are_what_a_run_gives(smollm2, committed):
    assert {
        n: [str(t) for t in smollm2.to_str_tokens(tokens)]
        for n, tokens in example_tokens(smollm2, 0).items()
    } == {name: committed.tokens(name) for name in committed.entries}
    assert {name: committed.info["prompts"][name]["shows"] for name in committed.entries} == SHOWS
    # Float32 sums on other threads and machines may end on the other side of a half.
    assert largest_difference(smollm2, committed) <= 2e-3


@pytest.mark.smollm2
def test_random_words_read_as_words(smollm2):
    texts = smollm2.to_str_tokens(random_words(smollm2, 5))
    assert len(set(texts)) == 12
    assert all(text.startswith(" ") and text.strip().isalpha() and text.islower() for text in texts)
