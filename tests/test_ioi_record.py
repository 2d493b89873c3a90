"""The published figures are there, whole, and stand where they should."""

from __future__ import annotations

import pytest

from helpers.head_scores import top_heads
from helpers.ioi.record import (
    beside_published,
    published,
    published_circuit,
    published_heatmap,
    published_line,
    published_value,
)


def test_it_says_where_it_comes_from():
    assert "Exploratory_Analysis_Demo" in published()["source"]["notebook"]


def test_values_agree_with_each_other():
    """The record is consistent: the parts sum to the whole that is recorded beside them."""
    average = published_value("logit_diff_average")
    assert sum(published_value("logit_diff_per_prompt")) / 8 == pytest.approx(average, abs=1e-3)
    assert published_line("logit_lens")["final_post"] == pytest.approx(average, abs=1e-3)
    # Twenty-six values rounded to four decimals.
    assert sum(published_line("layer_attribution").values()) == pytest.approx(average, abs=2e-3)
    assert top_heads(published_heatmap("head_attribution"), 1)[0].name == published_value(
        "top_name_mover"
    )


def test_shapes():
    assert published_heatmap("score_induction").shape == (12, 12)
    assert published_heatmap("patch_resid_pre").shape == (12, 15)


@pytest.mark.parametrize("look_up", [published_value, published_heatmap, published_line])
def test_unknown_names_list_the_known_ones(look_up):
    with pytest.raises(KeyError, match="Nothing published as 'nonsense'; there is"):
        look_up("nonsense")


def test_the_papers_classes_fit_the_record():
    """Twenty-six heads, none twice, and those that write the answer do so with their class's sign."""
    circuit = published_circuit()
    heads = [head for members in circuit.values() for head in members]
    assert len(heads) == len(set(heads)) == 26
    attribution = published_heatmap("head_attribution")
    assert all(attribution[head] > 0.5 for head in circuit["name mover"])
    assert all(attribution[head] < -0.5 for head in circuit["negative name mover"])


def test_table():
    table = beside_published({"a": (1.234, -5.0), "heads": ("L1H2", 3)}, "tiny")
    assert table.columns.tolist() == ["this run (tiny)", "GPT-2 small (published)"]
    assert table.loc["a"].tolist() == [1.234, -5.0]
    assert table.loc["heads"].tolist() == ["L1H2", 3]


def test_a_table_of_numbers_can_be_computed_with():
    table = beside_published({"a": (1.5, 1.0), "b": (2.0, 4.0)}, "tiny")
    assert (table["this run (tiny)"] - table["GPT-2 small (published)"]).tolist() == [0.5, -2.0]


def test_counts_beside_measurements_stay_whole():
    table = beside_published({"heads": (8, 6), "of all": (0.03, 0.042)}, "tiny")
    assert [type(value) for value in table.iloc[0]] == [int, int]
    assert "8.0" not in table.to_string()
