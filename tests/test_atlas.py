"""Building an atlas: the table and its files, resuming, agreement of two runs, the committed tables."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.atlas import build
from helpers.atlas.build import GROUPS, Settings, build_atlas, build_files, load_or_build
from helpers.atlas.identity import model_identity
from helpers.atlas.ioi_roles import sampled_prompts
from helpers.atlas.published import STEM, published_atlas
from helpers.atlas.questions import (
    KINDS,
    heads_of_kind,
    is_known,
    most_similar,
    rank_of,
    relative_depth,
)
from helpers.atlas.table import Atlas, make_table, read_atlas
from helpers.atlas.views import head_table, score_table, sortable_table
from helpers.ioi.record import published_heatmap
from helpers.model_folder import EMBEDDED_MODEL
from tests.architectures import tiny_hf
from tests.tiny_models import bridge, tiny_gpt2, tiny_llama

ROOT = Path(__file__).parent.parent
COMMITTED = ROOT / "demos" / "atlas"
SMALL = Settings(rows=4, tokens=16)
ALL_SCORES = [score.__name__ for group in GROUPS.values() for score in group.scores]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny() -> Atlas:
    return build_atlas(tiny_llama(), SMALL)


# --- table ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
def test_one_row_a_head_and_a_column_a_score(make_model):
    atlas = build_atlas(make_model(), SMALL)
    assert len(atlas.table) == 12
    errors = [f"{score}_se" for score in ALL_SCORES]
    assert list(atlas.table.columns) == ["model", "layer", "head", "name", *ALL_SCORES, *errors]
    assert atlas.table["name"].tolist()[5] == "L1H1"
    assert atlas.score("induction")[1, 1].item() == pytest.approx(atlas.table["induction"][5])
    assert (atlas.error("induction") > 0).all()
    assert (atlas.error("ov_eigenvalue") == 0).all(), "it is exact"


def test_what_cannot_be_had_is_empty_and_says_why(tiny):
    assert "ioi_patching" not in tiny.scores
    assert tiny.table["ioi_patching"].isna().all()
    assert "first names" in tiny.info["unavailable"]["ioi_patching"]
    with pytest.raises(KeyError, match="first names"):
        tiny.score("ioi_patching")
    with pytest.raises(KeyError, match="there is previous_token"):
        tiny.score("inductoin")


def test_csv_and_parquet_hold_the_same(tiny, tmp_path):
    csv, parquet, provenance = tiny.write(tmp_path)
    assert [path.name for path in (csv, parquet, provenance)] == [
        "tiny.csv",
        "tiny.parquet",
        "tiny.json",
    ]
    for path in (csv, parquet):
        read = read_atlas(path)
        pd.testing.assert_frame_equal(read.table, tiny.table, check_dtype=False, check_exact=True)
        assert read.info == json.loads(json.dumps(tiny.info))
    assert json.loads(provenance.read_text())["settings"]["seed"] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.csv", "tiny.json", "tiny.parquet"]


def test_a_file_that_is_no_atlas_is_refused(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="no provenance"):
        read_atlas(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="no atlas"):
        read_atlas(tmp_path / "other.txt")


# --- running --------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_table(tiny):
    pd.testing.assert_frame_equal(build_atlas(tiny_llama(), SMALL).table, tiny.table)


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
def test_two_seeds_agree_within_the_errors_and_the_errors_are_no_larger_than_need_be(make_model):
    model = make_model()
    settings = Settings(rows=48, tokens=50)
    runs = [build_atlas(model, replace(settings, seed=seed)) for seed in (0, 1)]
    scores = [s for s in runs[0].scores if s != "ov_eigenvalue"]
    # With 61 tokens the circuits are sampled from the same few tokens: their runs are too close.
    scores = [s for s in scores if "copying" not in s and "top5" not in s and s != "qk_same_token"]
    assert len(scores) == 5
    difference = torch.stack([runs[0].score(s) - runs[1].score(s) for s in scores])
    error = torch.stack([(runs[0].error(s) ** 2 + runs[1].error(s) ** 2).sqrt() for s in scores])
    z = difference / error
    # 60 values: five standard deviations, and a mean square of 1 give or take three of its own.
    assert z.abs().max() < 5
    assert (z**2).mean().item() == pytest.approx(1, abs=3 * (2 / z.numel()) ** 0.5)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, monkeypatch):
    model = tiny_llama()
    done: list[str] = []

    def counted(name, group):
        def measure(*arguments):
            done.append(name)
            if name == "OV and QK circuits" and done.count(name) == 1:
                raise KeyboardInterrupt
            return group.measure(*arguments)

        return replace(group, measure=measure)

    monkeypatch.setattr(build, "GROUPS", {name: counted(name, group) for name, group in GROUPS.items()})
    with pytest.raises(KeyboardInterrupt):
        build_files(model, tmp_path, SMALL)
    assert not list(tmp_path.glob("*.csv"))
    build_files(model, tmp_path, SMALL)
    assert done.count("attention on repeated tokens") == done.count("OV eigenvalues") == 1
    assert done.count("OV and QK circuits") == 2
    resumed = read_atlas(tmp_path / "tiny.parquet")
    pd.testing.assert_frame_equal(resumed.table, build_atlas(model, SMALL).table, check_dtype=False)
    assert not list(tmp_path.glob(".*")), "no parts are left"


def test_parts_of_other_settings_are_not_used(tmp_path):
    model = tiny_llama()
    groups = ["attention on repeated tokens"]
    first = build_atlas(model, SMALL, groups=groups, parts=tmp_path)
    other = build_atlas(model, replace(SMALL, seed=1), groups=groups, parts=tmp_path)
    assert not torch.equal(first.score("induction"), other.score("induction"))


def test_a_stored_atlas_is_used_if_weights_and_settings_are_the_same(tmp_path, tiny, capsys):
    model = tiny_llama()
    build_files(model, tmp_path, SMALL)
    stored, was_there = load_or_build(model, tmp_path, SMALL)
    assert was_there
    pd.testing.assert_frame_equal(stored.table, tiny.table, check_dtype=False)
    assert capsys.readouterr().out == ""
    assert not load_or_build(model, tmp_path, replace(SMALL, seed=1))[1]
    assert "it was measured with other settings. Every score is measured now." in capsys.readouterr().out


def test_a_layer_that_does_more_than_w_o_has_no_direct_effects():
    atlas = build_atlas(bridge(tiny_hf("GraniteForCausalLM")), SMALL)
    assert "induction_logit" not in atlas.scores
    assert "does more to its heads' outputs than W_O" in atlas.info["unavailable"]["induction_logit"]
    assert "induction" in atlas.scores


@pytest.mark.slow
def test_every_score_can_be_had_for_a_model_of_gpt2_shape(narrow_gpt2):
    small = Settings(rows=2, length=20, passages=3, tokens=8, ioi_pairs=2)
    atlas = build_atlas(narrow_gpt2, small)
    assert atlas.info["unavailable"] == {}
    assert atlas.scores == ALL_SCORES
    assert set(atlas.info["ioi_logit_diff"]) == {"value", "se"}


def test_sampled_prompts_are_pairs_with_the_names_drawn(narrow_gpt2):
    prompts = sampled_prompts(narrow_gpt2, pairs=6, seed=3)
    assert prompts.prompts == sampled_prompts(narrow_gpt2, pairs=6, seed=3).prompts
    assert prompts.prompts != sampled_prompts(narrow_gpt2, pairs=6, seed=4).prompts
    for first, second in zip(prompts.answers[::2], prompts.answers[1::2], strict=True):
        assert first == second[::-1]
    for text, (io, s) in zip(prompts.prompts, prompts.answers, strict=True):
        assert (text.count(io + " "), text.count(s + " ")) == (1, 2), text


def test_bad_input_is_refused_at_once():
    with pytest.raises(ValueError, match="rows must be at least 2"):
        Settings(rows=1)
    with pytest.raises(ValueError, match="twelve passages"):
        Settings(passages=13)
    with pytest.raises(ValueError, match="No group attention on"):
        build_atlas(tiny_gpt2(), groups=["attention on mars"])
    model = tiny_gpt2()
    model.train()
    with pytest.raises(ValueError, match="training mode"):
        build_atlas(model)


def test_settings_are_fitted_to_a_small_model():
    fitted = Settings().fitted(tiny_gpt2())
    assert (fitted.length, fitted.block) == (16, 7)
    assert fitted.tokens < 61


@pytest.mark.slow
def test_command_line_says_what_is_wrong(tmp_path):
    command = [sys.executable, "-m", "helpers.atlas", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--rows", "1"], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 1
    assert "rows must be at least 2" in done.stderr
    assert not (tmp_path / "out").exists()


# --- questions ------------------------------------------------------------------------------------


def made_up(model: str, **columns: list[float]) -> Atlas:
    """An atlas of two layers with two heads, of scores with errors of 0.01."""
    values = {name: torch.tensor(column).reshape(2, 2) for name, column in columns.items()}
    errors = {f"{name}_se": torch.full((2, 2), 0.01) for name in columns}
    scores = {name: {"null_value": 0.1} for name in columns}
    info = {"model": model, "n_layers": 2, "n_heads": 2, "scores": scores, "unavailable": {}}
    return Atlas(make_table(model, {**values, **errors}, 2, 2), info)


def test_heads_of_a_kind_are_those_above_its_threshold_strongest_first():
    atlas = made_up("a", induction=[0.1, 0.5, 0.05, 0.9])
    assert [head.name for head in heads_of_kind(atlas, "induction")] == ["L1H1", "L0H1"]
    assert heads_of_kind(made_up("a", induction=[0.1, 0.2, 0.1, 0.1]), "induction") == []
    with pytest.raises(KeyError, match="previous token"):
        heads_of_kind(atlas, "inducton")


def test_a_kind_whose_score_is_missing_has_no_heads():
    assert heads_of_kind(made_up("a", induction=[0.1, 0.5, 0.05, 0.9]), "previous token") == []


def test_is_this_head_anything_known():
    atlas = made_up("a", induction=[0.1, 0.5, 0.05, 0.9], previous_token=[0.1, 0.9, 0.1, 0.1])
    assert set(is_known(atlas, 0, 1)) == {"induction", "previous token"}
    assert is_known(atlas, 0, 0) == {}
    with pytest.raises(ValueError, match="L2H0"):
        is_known(atlas, 2, 0)


def test_rank_counts_from_one():
    atlas = made_up("a", induction=[0.1, 0.5, 0.05, 0.9])
    assert [rank_of(atlas, "induction", *divmod(i, 2)) for i in range(4)] == [3, 2, 4, 1]


def test_relative_depth_is_zero_at_the_bottom_and_one_at_the_top():
    atlas = made_up("a", induction=[0.1, 0.5, 0.05, 0.9])
    assert relative_depth(atlas, 0) == 0
    assert relative_depth(atlas, 1) == 1


def test_the_most_similar_head_has_the_same_profile_in_other_units():
    ours = made_up("a", induction=[0.1, 0.5, 0.05, 0.9], ioi_attribution=[0.0, 1.0, -2.0, 0.1])
    # The same heads in another order, and attribution in half the units.
    theirs = made_up("b", induction=[0.9, 0.05, 0.1, 0.5], ioi_attribution=[0.05, -1.0, 0.0, 0.5])
    found = [most_similar(ours, theirs, layer, head)[0].name for layer in (0, 1) for head in (0, 1)]
    assert found == ["L1H0", "L1H1", "L0H1", "L0H0"]
    assert most_similar(ours, theirs, 0, 0)[0].value == pytest.approx(0, abs=1e-6)
    assert len(most_similar(ours, theirs, 0, 0, count=3)) == 3


def test_models_without_a_common_score_cannot_be_compared():
    with pytest.raises(ValueError, match="no score in common"):
        most_similar(made_up("a", induction=[0.0] * 4), made_up("b", entropy=[0.0] * 4), 0, 0)


def test_every_kind_is_of_a_score_there_is():
    assert {kind.score for kind in KINDS.values()} <= set(ALL_SCORES)


# --- views ----------------------------------------------------------------------------------------


def test_the_plain_table_is_sorted_and_needs_no_script():
    atlas = made_up("a", induction=[0.1, 0.5, 0.05, 0.9], previous_token=[0.3, 0.2, 0.1, 0.4])
    html = head_table(atlas, by="induction", count=2).data
    [header, first, second] = re.findall(r"<tr>(.*?)</tr>", html)
    assert re.findall(r"<th>(.*?)</th>", header) == ["head", "induction", "± error", "previous_token"]
    assert re.findall(r"<td>(.*?)</td>", first) == ["L1H1", "0.900", "0.010", "0.400"]
    assert ">L0H1<" in second
    assert ">L1H0<" in head_table(atlas, by="induction", count=1, smallest=True).data
    assert "<script" not in html
    with pytest.raises(KeyError, match="No score"):
        head_table(atlas, by="entropy")


def test_the_menu_of_the_live_table_holds_every_score():
    atlas = made_up("a", induction=[0.1, 0.5, 0.05, 0.9], previous_token=[0.3, 0.2, 0.1, 0.4])
    figure = sortable_table(atlas, by="previous_token", count=3)
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["previous_token", "induction"]
    assert list(figure.data[0].cells.values[0]) == ["L1H1", "L0H0", "L0H1"]
    restyled = buttons[1].args[0]
    assert list(restyled["cells.values"][0][0]) == ["L1H1", "L0H1", "L0H0"]
    assert list(restyled["header.values"][0])[:2] == ["head", "induction"]


def test_the_table_of_scores_has_a_row_for_each(tiny):
    html = score_table(tiny).data
    assert all(f"<code>{score}</code>" in html for score in ALL_SCORES)


# --- published ------------------------------------------------------------------------------------


def test_published_scores_are_the_record_and_nothing_else():
    atlas = published_atlas()
    assert torch.allclose(atlas.score("induction"), published_heatmap("score_induction"), atol=1e-5)
    assert not [column for column in atlas.table if column.endswith("_se")]
    assert atlas.table.loc[atlas.table["name"] == "L9H9", "role"].tolist() == ["name mover"]
    assert set(atlas.table["model"]) == {"gpt2 (published)"}


def test_the_committed_published_table_is_the_record():
    committed = read_atlas(COMMITTED / f"{STEM}.csv")
    expected = published_atlas()
    pd.testing.assert_frame_equal(
        committed.table.fillna({"role": ""}), expected.table, check_dtype=False
    )
    assert committed.info == json.loads(json.dumps(expected.info))


# --- SmolLM2 --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed() -> Atlas:
    return read_atlas(COMMITTED / f"{EMBEDDED_MODEL}.parquet")


CHEAP = ["attention on repeated tokens", "attention on text", "IOI attention and attribution"]


def test_the_committed_table_is_complete(committed):
    assert committed.scores == ALL_SCORES
    assert committed.info["settings"] == asdict(Settings())
    assert len(committed.table) == 30 * 9
    csv = read_atlas(COMMITTED / f"{EMBEDDED_MODEL}.csv")
    pd.testing.assert_frame_equal(csv.table, committed.table, check_dtype=False, check_exact=True)
    assert csv.info == committed.info


@pytest.mark.smollm2
def test_the_committed_table_is_what_a_run_gives(smollm2, committed):
    assert model_identity(smollm2).items() <= committed.info.items()
    fresh = build_atlas(smollm2, groups=CHEAP)
    for score in fresh.scores:
        # Float32 sums on other threads and machines; scores are of order one.
        torch.testing.assert_close(fresh.score(score), committed.score(score), atol=2e-3, rtol=0)
        torch.testing.assert_close(fresh.error(score), committed.error(score), atol=2e-3, rtol=0)


@pytest.mark.smollm2
def test_another_seed_agrees_with_the_committed_table_within_the_errors(smollm2, committed):
    groups = [CHEAP[0], CHEAP[2]]
    other = build_atlas(smollm2, Settings(seed=1), groups=groups)
    for score in other.scores:
        difference = (other.score(score) - committed.score(score)).abs()
        error = (other.error(score) ** 2 + committed.error(score) ** 2).sqrt()
        # Eight or twelve samples give a t distribution with heavy tails, and 270 heads are tried.
        z = difference / error.clamp(min=1e-4)
        assert np.quantile(z.numpy(), 0.95) < 3, score
        assert z.max() < 8, score
