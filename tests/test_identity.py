"""A model is told by its weights: what changes its identity, what does not, and what goes by it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformer_lens.model_bridge import TransformerBridge

from helpers import embedded
from helpers.atlas.__main__ import main
from helpers.atlas.build import Settings, build_atlas, build_files, load_or_build
from helpers.atlas.identity import OtherModelError, model_identity
from helpers.atlas.table import read_atlas
from helpers.identity import (
    PROCESSING,
    files_identity,
    folder_revision,
    loaded_models,
    untold,
    weights_identity,
    weights_revision,
)
from helpers.models import load_model
from helpers.notebooks.pairing import check_same_weights, check_weights
from helpers.notebooks.weights import other_weights
from tests.tiny_models import (
    ODD_ONES,
    tiny_gpt2,
    tiny_gpt2_hf,
    tiny_llama,
    tiny_llama_hf,
    tiny_odd,
    tiny_tokenizer,
)

ROOT = Path(__file__).parents[1]
TOKENS = torch.tensor([[0, 5, 9, 12, 5, 30]])
SMALL = Settings(rows=4, tokens=16)

pytestmark = pytest.mark.usefixtures("one_thread")


def checkpoint(folder: Path, make=tiny_llama_hf, **options) -> Path:
    make(**options).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(params=[tiny_gpt2_hf, tiny_llama_hf], ids=["gpt2-shaped", "llama-shaped"])
def folder(request, tmp_path) -> Path:
    return checkpoint(tmp_path / "a" / "my-model", request.param)


def rewrite(folder: Path, change) -> None:
    """Replace a checkpoint's tensors, in place."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def reconfigure(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# --- the same -------------------------------------------------------------------------------------


def test_the_same_files_in_another_folder_are_the_same_model(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "b" / "another-name")
    model, copy = load_model(folder, device="cpu"), load_model(other, device="cpu")
    assert weights_identity(model) == weights_identity(copy) == files_identity(folder)
    assert weights_identity(model).startswith("sha256 ")


def test_it_does_not_matter_how_the_tensors_are_spread_over_files(tmp_path):
    whole = checkpoint(tmp_path / "whole")
    tiny_llama_hf().save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert files_identity(tmp_path / "sharded") == files_identity(whole)
    assert folder_revision(tmp_path / "sharded") != folder_revision(whole)


def test_a_model_in_shards_is_told_alike_when_loaded(tmp_path):
    whole = checkpoint(tmp_path / "whole")
    sharded = tmp_path / "sharded"
    tiny_llama_hf().save_pretrained(sharded, max_shard_size="20KB")
    tiny_tokenizer().save_pretrained(sharded)
    models = [load_model(folder, device="cpu") for folder in (whole, sharded)]
    assert len({weights_identity(model) for model in models}) == 1
    one = min(sharded.glob("*.safetensors"))
    tensors = load_file(one)
    one_value(tensors)
    save_file(tensors, one, metadata={"format": "pt"})
    assert weights_identity(load_model(sharded, device="cpu")) != weights_identity(models[0])


def test_the_order_of_tensors_in_a_file_does_not_matter(folder):
    before = files_identity(folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    stored = path.read_bytes()
    save_file(dict(reversed(tensors.items())), path, metadata={"format": "pt", "made by": "hand"})
    assert path.read_bytes() != stored
    assert files_identity(folder) == before


def test_a_checkpoint_in_half_precision_is_what_it_is_loaded_as(tmp_path):
    half = checkpoint(tmp_path / "half")
    rewrite(half, lambda tensors: tensors.update({n: t.bfloat16() for n, t in tensors.items()}))
    wide = shutil.copytree(half, tmp_path / "wide")
    rewrite(wide, lambda tensors: tensors.update({n: t.float() for n, t in tensors.items()}))
    assert files_identity(half) == files_identity(wide)
    assert files_identity(half, torch.bfloat16) == files_identity(wide, torch.bfloat16)


def test_where_a_configuration_came_from_does_not_matter(folder):
    before = files_identity(folder)
    reconfigure(folder, _name_or_path="elsewhere", transformers_version="5.0.0", use_cache=False)
    assert files_identity(folder) == before


MAKERS = [tiny_gpt2, tiny_llama, *(lambda kind=kind: tiny_odd(kind) for kind in ODD_ONES)]


@pytest.mark.parametrize("make_model", MAKERS, ids=["gpt2", "llama", *ODD_ONES])
def test_using_a_model_does_not_change_it(make_model):
    model = make_model()
    before = weights_identity(model)
    assert before == weights_identity(make_model()), "told by content: two models made alike"
    model.run_with_cache(TOKENS)
    model.run_with_hooks(TOKENS, fwd_hooks=[("blocks.0.hook_resid_post", lambda x, hook: x * 2)])
    model(TOKENS).sum().backward()
    if make_model in (tiny_gpt2, tiny_llama):
        model.set_use_attn_result(True)  # others have none
    assert weights_identity(model) == before
    assert untold(model) is None


# --- another --------------------------------------------------------------------------------------


def one_value(tensors):
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[-1] += 1e-3


def two_swapped(tensors):
    """As a sum, or an order of values that is not looked at, would not notice."""
    tensor = next(tensor for tensor in tensors.values() if tensor.dim() == 2)
    tensor[[0, 1]] = tensor[[1, 0]]


def noise(tensors):
    for tensor in tensors.values():
        tensor.normal_()


def rounded(tensors):
    tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()})


@pytest.mark.parametrize("change", [one_value, two_swapped, noise, rounded])
def test_other_values_in_the_files_are_another_model(folder, change):
    before, revision = files_identity(folder), folder_revision(folder)
    rewrite(folder, change)
    assert files_identity(folder) != before
    assert folder_revision(folder) != revision


def test_what_is_computed_with_the_weights_is_part_of_the_model(tmp_path):
    folder = checkpoint(tmp_path / "model")
    before = files_identity(folder)
    reconfigure(folder, rms_norm_eps=1e-2)
    changed = files_identity(folder)
    assert changed != before
    assert weights_identity(load_model(folder, device="cpu")) == changed


def test_precision_is_part_of_the_model(folder):
    wide = load_model(folder, device="cpu")
    half = load_model(folder, device="cpu", dtype=torch.bfloat16)
    assert weights_identity(half) == files_identity(folder, torch.bfloat16)
    assert weights_identity(half) != weights_identity(wide)
    assert weights_identity(wide.to(torch.float64)).startswith("in memory, ")


def test_other_processing_is_another_model(folder):
    ours = load_model(folder, device="cpu")
    by_hand = TransformerBridge.boot_transformers(str(folder), device="cpu")
    by_hand.enable_compatibility_mode(disable_warnings=True, **PROCESSING | {"fold_ln": False})
    plain = TransformerBridge.boot_transformers(str(folder), device="cpu")
    assert len({weights_identity(model) for model in (ours, by_hand, plain)}) == 3


def test_a_tied_head_is_told_by_the_embedding_and_by_itself(tmp_path):
    """A head of its own is used, whatever the configuration says of ties; an equal one may count."""
    tied = checkpoint(tmp_path / "tied", tied=True)
    other = shutil.copytree(tied, tmp_path / "other")

    def add_head(tensors):
        assert "lm_head.weight" not in tensors
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].flip(0)

    rewrite(other, add_head)
    trained = shutil.copytree(tied, tmp_path / "trained")
    rewrite(trained, lambda tensors: tensors["model.embed_tokens.weight"].mul_(1.01))
    models = [load_model(folder, device="cpu") for folder in (tied, other, trained)]
    assert len({weights_identity(model) for model in models}) == 3
    again = checkpoint(tmp_path / "again", tied=True)
    assert weights_identity(load_model(again, device="cpu")) == weights_identity(models[0])
    untied = checkpoint(tmp_path / "untied", tied=False)
    assert files_identity(untied) != files_identity(tied)


def test_a_tied_model_that_is_changed_in_memory_is_noticed(tmp_path):
    model = load_model(checkpoint(tmp_path / "tied", tied=True), device="cpu")
    before = weights_identity(model)
    with torch.no_grad():
        model.W_E[3] += 0.01
    assert weights_identity(model) != before


def step(model: TransformerBridge) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    model(TOKENS, return_type="loss").backward()
    optimizer.step()


def past_autograd(model: TransformerBridge) -> None:
    """A change that raises no version counter, and moves no memory."""
    next(model.parameters()).data.view(-1)[3:4].mul_(1.001)


def through_the_original(model: TransformerBridge) -> None:
    with torch.no_grad():
        list(model.original_model.parameters())[2].normal_()


def replaced(model: TransformerBridge) -> None:
    module = next(m for m in model.modules() if isinstance(m, torch.nn.Linear))
    module.weight = torch.nn.Parameter(torch.randn_like(module.weight))


def other_eps(model: TransformerBridge) -> None:
    model.cfg.eps = 0.1


@pytest.mark.parametrize(
    "change", [step, past_autograd, through_the_original, replaced, other_eps], ids=lambda f: f.__name__
)
def test_a_change_after_loading_is_noticed(folder, change):
    model = load_model(folder, device="cpu")
    before = weights_identity(model)
    change(model)
    after = weights_identity(model)
    assert after != before
    assert after.startswith("in memory, ")
    assert after == weights_identity(model)
    assert weights_revision(model, after) is None


def test_a_change_that_is_taken_back_is_none(folder):
    model = load_model(folder, device="cpu")
    before = weights_identity(model)
    parameter = next(model.parameters()).data
    value = parameter[0].clone()
    parameter[0] = 0
    assert weights_identity(model) != before
    parameter[0] = value
    assert weights_identity(model) == before


def test_files_that_changed_since_are_not_what_was_loaded(folder):
    """A fine-tune that writes over the folder it was loaded from."""
    model = load_model(folder, device="cpu")
    of_files = weights_identity(model)
    rewrite(folder, one_value)
    of_memory = weights_identity(model)
    assert of_memory.startswith("in memory, ")
    assert weights_identity(load_model(folder, device="cpu")) not in (of_files, of_memory)


def test_a_model_with_hooks_cannot_be_told(folder):
    model = load_model(folder, device="cpu")
    before = weights_identity(model)
    with model.hooks(fwd_hooks=[("blocks.0.hook_resid_post", lambda x, hook: x * 2)]):
        assert weights_identity(model) is None
        assert "it has hooks, at " in untold(model)
    assert weights_identity(model) == before
    handle = next(iter(model.modules())).register_forward_hook(lambda module, given, out: out)
    assert weights_identity(model) is None
    handle.remove()
    assert weights_identity(model) == before


def permanent(model: TransformerBridge) -> None:
    model.add_hook("blocks.1.hook_mlp_out", lambda x, hook: x * 0, is_permanent=True)


def before_a_module(model: TransformerBridge) -> None:
    layer = next(m for m in model.modules() if isinstance(m, torch.nn.Linear))
    layer.register_forward_pre_hook(lambda module, given: (given[0] * 2,))


def in_place_of_forward(model: TransformerBridge) -> None:
    layer = next(m for m in model.modules() if isinstance(m, torch.nn.Linear))
    layer.forward = lambda x: x * 0


@pytest.mark.parametrize(
    "hook", [permanent, before_a_module, in_place_of_forward], ids=lambda f: f.__name__
)
def test_whatever_is_put_in_between_cannot_be_told(folder, hook):
    model = load_model(folder, device="cpu")
    hook(model)
    assert weights_identity(model) is None
    assert "it has hooks, at " in untold(model)


def test_a_model_that_is_not_all_there_cannot_be_told():
    model = tiny_llama()
    module = next(m for m in model.modules() if isinstance(m, torch.nn.Linear))
    module.weight = torch.nn.Parameter(module.weight.to("meta"))
    assert weights_identity(model) is None
    assert "parts of it are not in memory" in untold(model)


def test_a_stale_list_of_hashes_beside_the_weights_is_not_believed(tmp_path):
    """As in a copy of the unpacked embedded model, whose weights were then replaced."""
    folder = checkpoint(tmp_path / "copy")
    (folder / embedded.MANIFEST).write_text(json.dumps(embedded._hashes(folder)))
    before, revision = files_identity(folder), folder_revision(folder)
    rewrite(folder, noise)
    assert files_identity(folder) != before
    assert folder_revision(folder) != revision


def test_the_revision_is_the_hubs_commit_where_there_is_one(tmp_path):
    commit = "0123456789" * 4
    folder = checkpoint(tmp_path / "models--owner--name" / "snapshots" / commit)
    model = load_model(folder, device="cpu")
    assert weights_revision(model, weights_identity(model)) == f"commit {commit}"


def test_loaded_models_are_listed_once_each(folder):
    load_model(folder, device="cpu")
    load_model(folder, device="cpu")
    entry = {"model": "my-model", "dtype": "float32", "weights": files_identity(folder)}
    assert loaded_models().count(entry) == 1
    rewrite(folder, one_value)
    assert {**entry, "weights": None} in loaded_models(), "nobody knows any more"


# --- atlas ----------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path) -> Path:
    """A model called smollm2-135m, and the folder in which its atlas is."""
    model = load_model(checkpoint(tmp_path / "one" / "smollm2-135m"), device="cpu")
    build_files(model, tmp_path / "atlas", SMALL)
    return tmp_path


def test_a_changed_model_of_the_same_name_is_measured(stored, capsys):
    """The case given: queries replaced by noise, in a folder called like the model of the atlas."""
    other = shutil.copytree(stored / "one" / "smollm2-135m", stored / "two" / "smollm2-135m")

    def noisy_queries(tensors):
        for name, tensor in tensors.items():
            if "q_proj" in name:
                tensor.normal_(std=5.0)

    rewrite(other, noisy_queries)
    model = load_model(other, device="cpu")
    atlas, was_stored = load_or_build(model, stored / "atlas", SMALL)
    assert not was_stored
    said = capsys.readouterr().out
    assert "smollm2-135m.parquet is not used: it was measured with other weights (sha256 " in said
    assert "Every score is measured now" in said
    assert torch.equal(atlas.score("induction"), build_atlas(model, SMALL).score("induction"))
    theirs = read_atlas(stored / "atlas" / "smollm2-135m.parquet")
    assert not torch.allclose(atlas.score("induction"), theirs.score("induction"), atol=1e-3)


def test_the_same_model_in_another_folder_gets_the_stored_table(stored, capsys):
    other = shutil.copytree(stored / "one" / "smollm2-135m", stored / "two" / "smollm2-135m")
    assert load_or_build(load_model(other, device="cpu"), stored / "atlas", SMALL)[1]
    assert capsys.readouterr().out == ""


def trained_in_memory(folder: Path) -> TransformerBridge:
    model = load_model(folder, device="cpu")
    step(model)
    return model


def in_half(folder: Path) -> TransformerBridge:
    return load_model(folder, device="cpu", dtype=torch.bfloat16)


def fine_tuned_copy(folder: Path) -> TransformerBridge:
    rewrite(folder, lambda tensors: [tensor.mul_(1.001) for tensor in tensors.values()])
    return load_model(folder, device="cpu")


def copy_in_half(folder: Path) -> TransformerBridge:
    """As many fine-tunes are saved, and loaded in float32 all the same."""
    rewrite(folder, rounded)
    return load_model(folder, device="cpu")


def without_folding(folder: Path) -> TransformerBridge:
    model = TransformerBridge.boot_transformers(str(folder), device="cpu")
    model.enable_compatibility_mode(disable_warnings=True, fold_ln=False)
    model.cfg.model_name = folder.name
    return model.eval()


def lower_case(folder: Path) -> TransformerBridge:
    """The same weights and vocabulary, and another tokenizer."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": {"type": "Lowercase"}}))
    return load_model(folder, device="cpu")


def other_words(folder: Path) -> TransformerBridge:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"w7"', '"eight"'))
    return load_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (trained_in_memory, r"other weights \(sha256 .*\(in memory, sha256 "),
        (in_half, r"other weights \(sha256 "),
        (fine_tuned_copy, r"other weights \(sha256 "),
        (copy_in_half, r"other weights \(sha256 "),
        (without_folding, r"other weights \(sha256 .*\(in memory, sha256 "),
        (other_words, r"other tokenizer \(sha256 "),
    ],
)
def test_no_stored_table_for_what_only_has_the_name(stored, capsys, make, said):
    model = make(stored / "one" / "smollm2-135m")
    assert not load_or_build(model, stored / "atlas", SMALL)[1]
    note = capsys.readouterr().out
    assert re.search(said, note), note


def test_a_tokenizer_that_reads_all_texts_alike_is_the_same(stored):
    """It would give the very same table; the texts are unknown words to the tiny vocabulary."""
    model = lower_case(stored / "one" / "smollm2-135m")
    assert load_or_build(model, stored / "atlas", SMALL)[1]


def test_an_old_table_that_names_no_weights_is_not_trusted(stored, capsys):
    path = stored / "atlas" / "smollm2-135m.parquet"
    atlas = read_atlas(path)
    old = {key: value for key, value in atlas.info.items() if key not in ("weights", "tokenizer")}
    replace(atlas, info=old).write(stored / "atlas")
    model = load_model(stored / "one" / "smollm2-135m", device="cpu")
    assert not load_or_build(model, stored / "atlas", SMALL)[1]
    assert "it does not say which weights and tokenizer it was measured with" in capsys.readouterr().out
    with pytest.raises(OtherModelError, match="does not say which weights"):
        build_files(model, stored / "atlas", SMALL)


def test_a_model_with_hooks_gets_no_stored_table(stored, capsys):
    model = load_model(stored / "one" / "smollm2-135m", device="cpu")
    with model.hooks(fwd_hooks=[("blocks.0.hook_resid_post", lambda x, hook: x * 2)]):
        atlas, was_stored = load_or_build(model, stored / "atlas", SMALL)
    assert not was_stored
    assert "which weights this model has cannot be told (it has hooks, at" in capsys.readouterr().out
    assert atlas.info["weights"] is None


def test_files_of_another_model_of_one_name_are_not_written_over(stored, monkeypatch):
    before = {path: path.read_bytes() for path in (stored / "atlas").iterdir()}
    model = load_model(checkpoint(stored / "two" / "smollm2-135m", seed=1), device="cpu")
    monkeypatch.setattr("helpers.atlas.build.build_atlas", None)  # refused before anything is measured
    with pytest.raises(OtherModelError, match=r"smollm2-135m\.json is not replaced.*--replace"):
        build_files(model, stored / "atlas", SMALL)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in (stored / "atlas").iterdir()} == before
    build_files(model, stored / "atlas", SMALL, replace=True)
    written = read_atlas(stored / "atlas" / "smollm2-135m.parquet")
    assert written.info["weights"] == weights_identity(model)


def test_files_of_the_same_model_are_written_again(stored):
    model = load_model(stored / "one" / "smollm2-135m", device="cpu")
    build_files(model, stored / "atlas", replace_seed := replace(SMALL, seed=1))
    again = read_atlas(stored / "atlas" / "smollm2-135m.parquet")
    assert again.info["settings"]["seed"] == replace_seed.seed


def test_the_command_refuses_another_models_place_and_names_the_way_out(tmp_path, monkeypatch, capsys):
    one, two = (checkpoint(tmp_path / str(seed) / "twin", seed=seed) for seed in (0, 1))
    out = tmp_path / "out"

    def run(model: Path, *options: str) -> int:
        sizes = ["--rows", "2", "--tokens", "8", "--passages", "2", "--length", "8", "--device", "cpu"]
        arguments = [*sizes, "--model", str(model), "--out", str(out), *options]
        monkeypatch.setattr("sys.argv", ["atlas", *arguments])
        return main()

    assert run(one) == 0
    assert json.loads((out / "twin.attention.json").read_text())["weights"] == files_identity(one)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for options in ([], ["--examples-only"]):
        capsys.readouterr()
        assert run(two, *options) == 1
        assert "twin.json is not replaced: it was measured with other weights" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run(two, "--replace") == 0
    for name in ("twin.json", "twin.attention.json"):
        assert json.loads((out / name).read_text())["weights"] == files_identity(two)


# --- notebooks ------------------------------------------------------------------------------------


def stamped(*weights: dict, **stamp) -> nbformat.NotebookNode:
    provenance = {"model": "my-model", "weights": list(weights), **stamp}
    return nbformat.from_dict({**nbformat.v4.new_notebook(), "metadata": {"provenance": provenance}})


def entry(folder: Path, dtype: str = "float32", model: str = "my-model") -> dict:
    weights = files_identity(folder, getattr(torch, dtype))
    return {"model": model, "dtype": dtype, "weights": weights}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_outputs_of_another_model_of_one_name_are_told(folder, tmp_path, dtype):
    other = shutil.copytree(folder, tmp_path / "b" / "my-model")
    notebook = stamped(entry(folder, dtype))
    assert other_weights(notebook, str(other)) is None
    rewrite(other, noise)
    assert "they are of sha256 " in other_weights(notebook, str(other))
    assert other_weights(notebook, str(folder)) is None


def test_a_stamp_that_names_no_weights_vouches_for_no_folder(folder):
    notebook = stamped()
    del notebook.metadata.provenance["weights"]
    assert "does not say" in other_weights(notebook, str(folder))
    notebook.metadata.provenance.model = "owner/no-folder"
    assert other_weights(notebook, "owner/no-folder") is None
    assert other_weights(notebook, "other/no-folder") == "they are of owner/no-folder"


def test_outputs_that_no_model_made_are_anybodys(folder):
    assert other_weights(stamped(), str(folder)) is None


def test_the_checks_want_weights_in_the_stamp(folder):
    assert check_weights("a", stamped(entry(folder))) == []
    assert check_weights("a", stamped()) == [], "a notebook without a model"
    for notebook in (nbformat.v4.new_notebook(), stamped(entry(folder) | {"weights": None})):
        (problem,) = check_weights("a", notebook)
        assert "weights" in problem.what or "changed" in problem.what


def test_notebooks_side_by_side_are_of_one_model(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "b" / "my-model")
    rewrite(other, one_value)
    same = {"a": stamped(entry(folder)), "b": stamped(entry(folder), entry(folder, "bfloat16"))}
    assert check_same_weights(same) == []
    (problem,) = check_same_weights({**same, "c": stamped(entry(other))})
    assert problem.file == "c"
    assert "that of a is sha256" in problem.what


def test_the_committed_notebooks_name_the_weights_of_the_committed_atlas():
    atlas = json.loads((ROOT / "demos" / "atlas" / "smollm2-135m.json").read_text())
    notebooks = sorted((ROOT / "demos").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        (weights,) = nbformat.read(path, 4).metadata.provenance.weights
        assert weights == {
            "model": "smollm2-135m",
            "dtype": "float32",
            "weights": atlas["weights"],
        }


@pytest.mark.smollm2
def test_the_committed_notebooks_name_the_embedded_model():
    folder = embedded.embedded_model_folder()
    for path in sorted((ROOT / "demos").glob("*.ipynb")):
        [weights] = nbformat.read(path, 4).metadata.provenance.weights
        assert weights.weights == files_identity(folder)


# --- the unpacked embedded model ------------------------------------------------------------------


def test_another_weights_file_is_unpacked_beside_the_first(tmp_path, monkeypatch):
    """Of one version of the package: by its version the two would be one folder."""
    monkeypatch.setattr(embedded, "_installed_gguf_folder", lambda: tmp_path)
    monkeypatch.setattr(
        embedded,
        "_build",
        lambda folder, *_: checkpoint(folder) and (folder / "seen").write_text("") and None,
    )
    gguf = tmp_path / embedded.GGUF_FILE
    folders = []
    for content in (b"one", b"other", b"one"):
        gguf.write_bytes(content)
        folders.append(embedded.embedded_model_folder(tmp_path / "cache"))
    assert folders[0] == folders[2] != folders[1]
    assert folders[0].is_dir()


def test_identity_covers_the_tokenizer_apart(folder):
    model = load_model(folder, device="cpu")
    other = other_words(folder)
    assert weights_identity(model) == weights_identity(other)
    ours, theirs = model_identity(model), model_identity(other)
    assert ours["weights"] == theirs["weights"]
    assert ours["tokenizer"] != theirs["tokenizer"]
