"""GPT-2 small, run here, against its published figures: `make test-published`.

With the weights at hand the whole record is measured and compared. What can be tested without them
is tested always: that the measuring runs on a model of this shape, and that the comparison can fail.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from helpers.embedded import ModelUnavailableError
from helpers.ioi import published_run
from helpers.ioi.published_run import (
    GPT2_SMALL_SIZES,
    NOT_MEASURED,
    TOLERANCE,
    Record,
    compare,
    measure,
    published_comparison,
)
from helpers.ioi.record import published
from helpers.model_folder import SAFE_FILES
from helpers.models import load_model


def differing(measured: Record, reference: Record | None = None) -> list[str]:
    return [deviation.name for deviation in compare(measured, reference) if deviation.too_large]


# --- the real thing -------------------------------------------------------------------------------


def real_gpt2_small():
    """GPT-2 small as the environment variable GPT2_SMALL names it, else from the hub cache."""
    name = os.environ.get("GPT2_SMALL")
    if not name:
        try:
            # The files that load_model takes: a cache that holds just these is complete.
            huggingface_hub.snapshot_download(
                "gpt2", allow_patterns=SAFE_FILES, ignore_patterns=["*/*"], local_files_only=True
            )
        except LocalEntryNotFoundError:
            pytest.skip(
                "GPT-2 small's weights are not here. `make test-published` downloads them, or takes "
                "a folder: make test-published GPT2_SMALL=path/to/folder"
            )
    return load_model(name or "gpt2")


@pytest.mark.usefixtures("exact_float32")
def test_gpt2_small_gives_the_published_figures():
    deviations = compare(measure(real_gpt2_small()))
    print("", *deviations, sep="\n")
    assert not [str(deviation) for deviation in deviations if deviation.too_large]


def test_without_weights_it_skips_and_says_how_to_run_it(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("GPT2_SMALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make test-published"):
        real_gpt2_small()
    monkeypatch.setenv("GPT2_SMALL", "./no/such/folder")
    with pytest.raises(ModelUnavailableError, match="no/such/folder"):
        real_gpt2_small()  # asked for by name: a failure


# --- the measuring --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(narrow_gpt2) -> Record:
    return measure(narrow_gpt2)


def shape_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape_of(part) for key, part in value.items()}
    return [shape_of(part) for part in value] if isinstance(value, list) else type(value)


def test_every_published_figure_is_measured_in_its_shape(measured):
    expected = copy.deepcopy({part: published()[part] for part in ("printed", "figures")})
    for name in NOT_MEASURED:
        del expected["printed"][name]
    assert shape_of(measured) == shape_of(expected)


def test_random_weights_do_not_give_the_published_figures(measured):
    given = {"test_prompt.prompt", "test_prompt.answer"}
    assert {deviation.name for deviation in compare(measured)} - set(differing(measured)) == given


def test_what_is_measured_belongs_together(measured):
    """Relations between figures that hold whatever the weights are."""
    printed, figures = measured["printed"], measured["figures"]
    # Sums of tens of float32 values of order one.
    close = {"abs": 1e-4, "rel": 1e-4}
    clean = printed["logit_diff_average"]
    assert abs(clean) > 0.1, "so that a relation cannot hold for being near zero"
    assert sum(printed["logit_diff_per_prompt"]) / 8 == pytest.approx(clean, **close)
    assert printed["logit_diff_corrupted"] == pytest.approx(-clean, **close)
    assert figures["logit_lens"]["final_post"] == pytest.approx(clean, **close)
    assert sum(figures["layer_attribution"].values()) == pytest.approx(clean, **close)
    # The prompts differ at one token: patching its embedding restores everything, any other nothing.
    resid_pre = torch.tensor(figures["patch_resid_pre"])
    rounding = 1e-5 / abs(clean)  # of logits, in units of the difference that is restored
    assert resid_pre[0, 10] == pytest.approx(1, abs=rounding)
    nothing = resid_pre[0, torch.arange(15) != 10]
    torch.testing.assert_close(nothing, torch.zeros(14), atol=rounding, rtol=0)
    # An ablated head adds nothing (its biases have moved to the layer's).
    layer, head = (int(part) for part in printed["top_name_mover"][1:].split("H"))
    before = torch.tensor(figures["head_attribution"])
    after = torch.tensor(figures["head_attribution_after_ablation"])
    assert abs(after[layer, head]) < 1e-4 < before[layer, head]
    assert printed["ablation_logit_diff"] != pytest.approx(clean, **close)


# --- the comparison -------------------------------------------------------------------------------


def test_the_record_agrees_with_itself_and_within_rounding():
    assert differing(published()) == []
    nearly = shifted(published(), TOLERANCE / 2)
    assert differing(nearly) == []


def shifted(record: Any, by: float) -> Any:
    """The same record with every decimal number moved."""
    if isinstance(record, dict):
        return {key: shifted(value, by) for key, value in record.items()}
    if isinstance(record, list):
        return [shifted(value, by) for value in record]
    return record + by if isinstance(record, float) else record


HEATMAPS = [name for name, value in published()["figures"].items() if isinstance(value, list)]
Heatmap = list[list[float]]


def with_figure(name: str, change: Callable[[Any], Any]) -> Record:
    record = copy.deepcopy(published())
    record["figures"][name] = change(record["figures"][name])
    return record


def one_entry(values: Heatmap) -> Heatmap:
    values[3][5] += 4 * TOLERANCE
    return values


def swap_two_heads(values: Heatmap) -> Heatmap:
    """The two columns that are least alike."""
    table = torch.tensor(values)
    apart = torch.cdist(table.T, table.T)
    one, other = divmod(int(apart.argmax()), len(apart))
    table[:, [one, other]] = table[:, [other, one]]
    return table.tolist()


@pytest.mark.parametrize("name", HEATMAPS)
@pytest.mark.parametrize(
    "damage",
    [
        one_entry,
        swap_two_heads,
        lambda values: [[-v for v in row] for row in values],
        lambda values: values[::-1],
        lambda values: [list(column) for column in zip(*values, strict=True)],
        lambda values: [[0.0 for _ in row] for row in values],
        lambda values: values[:-1],
        lambda values: [*values[:-1], [float("nan") for _ in values[-1]]],
    ],
    ids=["entry", "heads swapped", "negated", "upside down", "transposed", "blank", "cut", "NaN"],
)
def test_a_damaged_heatmap_differs_and_no_other(name, damage):
    assert differing(with_figure(name, damage)) == [name]


@pytest.mark.parametrize("name", ["logit_lens", "layer_attribution"])
def test_a_damaged_line_differs(name):
    first, *others = published()["figures"][name]
    renamed = with_figure(name, lambda v: {"renamed": v[first], **{key: v[key] for key in others}})
    assert differing(renamed) == [name]
    moved = with_figure(name, lambda v: {**v, others[4]: v[others[4]] + 4 * TOLERANCE})
    assert differing(moved) == [name]


@pytest.mark.parametrize("name", [name for name in published()["printed"] if name not in NOT_MEASURED])
def test_a_changed_or_missing_value_differs(name):
    record = copy.deepcopy(published())
    value = record["printed"].pop(name)
    assert_only(differing(record), name)
    record["printed"][name] = value[:-1] + "0" if isinstance(value, str) else shifted(value, 0.05)
    assert_only(differing(record), name)


def assert_only(found: list[str], name: str) -> None:
    """Some parts of this value differ, and nothing else."""
    assert found
    assert all(part.startswith(name) for part in found)


@pytest.mark.parametrize(
    ("part", "value"), [("answer", " John"), ("rank", 1), ("probability", 0.70), ("top_10", [])]
)
def test_a_changed_part_of_the_single_prompt_differs(part, value):
    record = copy.deepcopy(published())
    record["printed"]["test_prompt"][part] = value
    assert_only(differing(record), "test_prompt.")


def test_it_says_what_differs_by_how_much_and_where():
    damaged = with_figure("patch_head_z", lambda v: [*v[:9], [x + 0.25 for x in v[9]], *v[10:]])
    [deviation] = [d for d in compare(damaged) if d.too_large]
    assert str(deviation).startswith("DIFFERS  patch_head_z ")
    assert "2.5e-01 (allowed 5e-04) at [9][" in str(deviation)


# --- the table in a notebook ----------------------------------------------------------------------


def of_sizes(name: str, **sizes: object) -> Any:
    """What tells GPT-2 small from other models."""
    return SimpleNamespace(cfg=SimpleNamespace(model_name=name, **{**GPT2_SMALL_SIZES, **sizes}))


@pytest.mark.parametrize("name", ["gpt2", "gpt2-small", "openai-community/gpt2"])
@pytest.mark.parametrize("damaged", [False, True])
def test_gpt2_small_gets_a_table(monkeypatch, name, damaged):
    record = with_figure("patch_head_z", one_entry) if damaged else published()
    monkeypatch.setattr(published_run, "measure", lambda model: record)
    header, *rows, last = published_comparison(of_sizes(name)).splitlines()
    assert header.split() == ["figure", "largest", "deviation", "allowed"]
    names = [deviation.name for deviation in compare(published())]
    assert len(rows) == len(names)
    for row, figure in zip(rows, names, strict=True):
        assert row.startswith(figure)
        differs = damaged and figure == "patch_head_z"
        assert row.endswith("DIFFERS at [3][5]" if differs else "agrees")
    assert last.startswith(f"{len(names) - damaged} of {len(names)} ")


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (of_sizes("smollm2-135m", n_layers=30), r"\(smollm2-135m\)"),
        (of_sizes("gpt2-shaped"), r"\(gpt2-shaped\)"),
        (of_sizes("distilgpt2", n_layers=6), r"\(distilgpt2\)"),
        (of_sizes("gpt2", n_layers=13), r"gpt2 by name, but with n_layers 13, not 12"),
        (of_sizes("gpt2", d_model=96, d_mlp=384), "d_model 96, not 768, d_mlp 384, not 3072"),
    ],
)
def test_another_model_gets_a_sentence_and_is_not_run(monkeypatch, model, why):
    monkeypatch.setattr(published_run, "measure", pytest.fail)
    sentence = published_comparison(model)
    assert re.search(rf"are not compared .* another model .*{why}", sentence)
    assert "\n" not in sentence


def test_a_real_configuration_is_looked_at(narrow_gpt2, monkeypatch):
    """GPT-2 small's but for the width."""
    monkeypatch.setattr(published_run, "measure", pytest.fail)
    assert "(gpt2 by name, but with d_model 96, not 768, d_mlp 384, not 3072)" in published_comparison(
        narrow_gpt2
    )
