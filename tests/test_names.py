"""Digits that are names: a change of one is a change, however small the number's change is."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import product

import pytest

from helpers.notebooks.compare import Tolerance, text_differences, tree_differences
from helpers.notebooks.figures import figure_differences
from helpers.notebooks.names import spans


def differ(reference: str, fresh: str) -> bool:
    return bool(list(text_differences(reference, fresh, Tolerance())))


@pytest.mark.parametrize(
    ("reference", "fresh"),
    [
        # versions
        ("v4.3.0", "v4.3.1"),
        ("TransformerLens v4.3", "TransformerLens v4.4"),
        ("torch 2.9.0+cu128", "torch 2.9.0+cu130"),
        ("pandas 3.1.1rc1", "pandas 3.1.1rc2"),
        ("plotly==7.10", "plotly==7.11"),
        ("torch>=2.6", "torch>=2.7"),
        ("Python 3.11", "Python 3.10"),
        ("version: 12.8", "version: 12.9"),
        ("CUDA 12.8", "CUDA 12.7"),
        ("Apache-2.0", "Apache-2.1"),
        ("CC BY 4.0", "CC BY 4.1"),
        # names of models and of their parts
        ("Llama-3.2-1B", "Llama-3.1-1B"),
        ("Qwen2.5-0.5B", "Qwen2.5-0.6B"),
        ("pythia-2.8b", "pythia-2.9b"),
        ("Llama 3.2", "Llama 3.1"),
        ("blocks.9.5", "blocks.9.6"),
        ("results_9.95.json", "results_9.96.json"),
        ("9.95.json", "9.96.json"),
        # heads
        ("head 9.9", "head 9.8"),
        ("head 10.10", "head 10.1"),
        ("Heads 9.9, 9.6 and 10.0", "Heads 9.9, 9.7 and 10.0"),
        ("heads: 9.9, 10.10", "heads: 9.9, 10.11"),
        ("name movers (heads [9.9, 9.6])", "name movers (heads [9.9, 9.5])"),
        ("['9.9', '9.6']", "['9.8', '9.6']"),
        ("head   value\n9.9    2.24\n9.6    1.31", "head   value\n9.8    2.24\n9.6    1.31"),
        ("| head | value |\n|---|---|\n| 9.9 | 2.24 |", "| head | value |\n|---|---|\n| 9.8 | 2.24 |"),
        # dates and times
        ("2026-03-01", "2026-03-02"),
        ("2026-03-01T12:30:05.123", "2026-03-01T12:30:05.124"),
        ("01.03.2026", "02.03.2026"),
        ("03.2026", "04.2026"),
        ("since 2026.03", "since 2026.04"),
        ("at 12.30 pm", "at 12.31 pm"),
        ("12:30:05.20", "12:30:05.21"),
        # where things stand
        ("arXiv:2211.00593", "arXiv:2211.00594"),
        ("arXiv 0706.1234", "arXiv 0706.1235"),
        ("2211.00593v1", "2211.00593v2"),
        ("(2211.00593)", "(2211.00594)"),
        ("doi 10.1038/s41586-021-03819", "doi 10.1038/s41586-021-03818"),
        ("https://a.org/v/9.95", "https://a.org/v/9.96"),
        ("Figure 2.3", "Figure 2.4"),
        ("(see Section 10.2)", "(see Section 10.3)"),
        ("commit 12e4567", "commit 12e4568"),
        # formats
        ("%{z:0.2f}", "%{z:0.3f}"),
        ("{value:6.2f}", "{value:6.3f}"),
        ("'%9.2f' % x", "'%9.3f' % x"),
        ("$%{y:,.2f}", "$%{y:,.3f}"),
    ],
)
def test_a_name_that_differs_in_a_digit(reference: str, fresh: str) -> None:
    assert differ(reference, fresh)
    assert differ(fresh, reference)
    assert not differ(reference, reference)


@pytest.mark.parametrize(
    ("reference", "fresh"),
    [
        ("2.24", "2.25"),
        ("logit difference 9.9", "logit difference 9.8"),
        ("0.31 per head", "0.32 per head"),
        ("per head 0.31", "per head 0.32"),
        ("other heads 0.31, 0.22", "other heads 0.32, 0.22"),
        ("L9H9 2.24, L9H6 1.31", "L9H9 2.25, L9H6 1.31"),
        ("head 97.3%", "head 97.4%"),
        ("x-0.50", "x-0.51"),
        ("took 1.52s", "took 1.51s"),
        ("took 1.5 s", "took 1.6 s"),
        ("{'a': 0.512}", "{'a': 0.511}"),
        ('{"a":0.512}', '{"a":0.511}'),
        ("p>=0.951", "p>=0.952"),
        ("1,234.56", "1,234.57"),
        ("1,999.96", "2,000.01"),
        ("5.1e-05", "5.2e-05"),
        ("2.241000e+00", "2.241"),
        ("1.234567e-05", "1.234e-05"),
        ("kind   value\nL9H9   2.24", "kind   value\nL9H9   2.25"),
        ("head   value\nL9H9   9.9", "head   value\nL9H9   9.8"),
        ("4.72 to 5.31", "4.73 to 5.31"),
        ("R2=0.912", "R2=0.913"),
        ("GPT-2 small 3.552", "GPT-2 small 3.551"),
    ],
)
def test_a_quantity_beside_names_keeps_its_tolerance(reference: str, fresh: str) -> None:
    assert not differ(reference, fresh)
    assert not differ(fresh, reference)


def test_no_quantity_of_three_digits_is_a_name() -> None:
    """In the sentences and tables that notebooks print."""
    sentences = ["{}", "head L9H9 {}", "loss = {}", "{} logits", "[{}, {}]", "L0H1   {}", "({} ± {})"]
    for sentence, digits, places in product(sentences, range(100, 1000, 7), (1, 2, 3)):
        number = f"{Decimal(digits).scaleb(-places):.{places}f}"
        text = sentence.format(number, number)
        assert [text[a:b] for a, b in spans(text)] == [], text


def test_a_name_is_said_to_compare_exactly() -> None:
    (found,) = text_differences("torch 2.9 and\nv4.3.0", "torch 2.9 and\nv4.3.1", Tolerance())
    assert (found.where, found.note) == ("line 2", "text compares exactly")


def test_a_long_text_takes_no_time() -> None:
    """No pattern tries all ways to cut a text: a minified script is megabytes."""
    for piece in ("a.", "a-", "a-a.", "1.", "heads 9.9, ", "{a:", "0a1b2c3d-", "%{"):
        text = piece * 20_000
        assert not differ(text, text + " ")


@pytest.mark.parametrize(
    "place",
    [
        {"data": [{"type": "bar", "x": ["{}", "x"], "y": [1.5, 2.5]}]},
        {"data": [{"type": "heatmap", "y": ["{}"], "z": [[1.5]]}]},
        {"data": [{"type": "treemap", "labels": ["{}"], "parents": [""]}]},
        {"data": [{"type": "sankey", "node": {"label": ["{}"]}, "link": {"value": [1.5]}}]},
        {"data": [{"type": "scatter", "y": [1.5], "name": "{}"}]},
        {"data": [{"type": "parcoords", "dimensions": [{"label": "{}", "values": [1.5]}]}]},
        {"data": [{"type": "table", "header": {"values": ["{}"]}, "cells": {"values": [[1.5]]}}]},
        {"data": [{"type": "scatter", "y": [1.5], "text": ["{}"]}]},
        {"data": [{"type": "scatter", "y": [1.5], "customdata": [["{}"]]}]},
        {"data": [], "layout": {"xaxis": {"ticktext": ["{}", "x"], "tickvals": [0, 1]}}},
        {"data": [], "layout": {"xaxis": {"categoryarray": ["{}", "x"]}}},
        {"data": [], "layout": {"annotations": [{"text": "{}", "x": 0.5}]}},
        {"data": [], "layout": {"annotations": [{"text": "head {}", "x": 0.5}]}},
        {"data": [], "layout": {"shapes": [{"x0": "{}", "x1": "10.0"}]}},
    ],
)
def test_a_heads_label_in_a_figure_is_exact(place: dict) -> None:
    old, new = (json.loads(json.dumps(place).replace("{}", label)) for label in ("9.9", "9.8"))
    assert list(figure_differences(old, new, Tolerance()))
    assert not list(figure_differences(old, old, Tolerance()))


def test_a_format_of_an_axis_is_exact() -> None:
    for key in ("tickformat", "hoverformat", "ticklabel.format"):
        layouts = [{"layout": {"yaxis": {key: form}}} for form in ("0.2", "0.3")]
        assert list(figure_differences(*layouts, Tolerance()))


def test_a_value_that_is_written_at_a_point_keeps_its_tolerance() -> None:
    texts = [{"data": [{"y": [1.5], "text": [text]}]} for text in ("2.24", "2.25")]
    assert not list(figure_differences(*texts, Tolerance()))
    assert not list(tree_differences({"a": "R2 = 0.912"}, {"a": "R2 = 0.913"}, Tolerance()))
