"""Text and JSON: which differences count."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from helpers.notebooks.compare import (
    Difference,
    Tolerance,
    first_and_count,
    text_differences,
    tree_differences,
)


def in_text(reference: str, fresh: str) -> list[Difference]:
    return list(text_differences(reference, fresh, Tolerance()))


def in_tree(reference: Any, fresh: Any) -> list[Difference]:
    return list(tree_differences(reference, fresh, Tolerance()))


@pytest.mark.parametrize(
    ("reference", "fresh"),
    [
        ("3.952", "3.951"),
        ("12.0000", "11.9999"),
        ("1.000", "1.009"),  # the fourth digit, as far as it goes
        ("9.991", "9.999"),
        ("0.003", "0.004"),  # one unit
        ("1.00", "1.01"),
        ("-0.0", "0.0"),
        ("-0.00 logits", "+0.01 logits"),
        ("97.3%", "97.4%"),
        ("4.72 ± 0.31", "4.71 ± 0.31"),
        ("−0.317", "-0.317"),
        ("1.20e-07", "2.40e-07"),  # float32 noise
        ("1.234e-02", "1.233e-02"),
        ("took 1.52s", "took 1.51s"),
        ("tensor([3.])", "tensor([2.9999])"),
        ("0.30000000000000004", "0.3"),
        ("1 of it", "0.9999 of it"),  # {:.4g} drops the decimals of a whole number
        ("nan", "nan"),
    ],
)
def test_numbers_that_are_the_same(reference: str, fresh: str) -> None:
    assert in_text(reference, fresh) == []
    assert in_text(fresh, reference) == []


@pytest.mark.parametrize(
    ("reference", "fresh"),
    [
        ("4.72", "4.81"),
        ("1.00", "1.02"),
        ("9.99", "10.19"),
        ("97.3%", "99.2%"),
        ("0.0300", "0.0306"),
        ("-2.24", "2.24"),
        ("-0.01", "0.01"),
        ("x-0.50", "x+0.50"),
        ("4.7", "4.79"),  # the finer of the two units counts
        ("1e-05", "2e-05"),  # written, not rounded
        ("4.72 ± 0.31", "4.72 ± 0.35"),
        ("0.5", "nan"),
    ],
)
def test_numbers_that_differ(reference: str, fresh: str) -> None:
    assert in_text(reference, fresh)
    assert in_text(fresh, reference)


@pytest.mark.parametrize("exponent", [-3, -2, 0, 3])
def test_every_number_of_three_digits_is_caught_when_changed_by_2_percent(exponent: int) -> None:
    for digits in range(100, 1000):
        value = Decimal(digits).scaleb(exponent - 2)
        for factor in ("1.02", "0.98"):
            text = f"{value:.{max(1, 2 - exponent)}f}"
            changed = f"{Decimal(text) * Decimal(factor):.{max(1, 2 - exponent)}f}"
            assert in_text(changed, text), (changed, text)


@pytest.mark.parametrize(
    ("reference", "fresh"),
    [
        ("L9H9", "L9H8"),
        ("30 layers", "29 layers"),
        ("shape (30, 9)", "shape (30, 8)"),
        ("transformer-lens 4.3.0", "transformer-lens 4.4.0"),
        ("colour #100E73", "colour #101E73"),
        ("rgba(255, 255, 255, 0.85)", "rgba(255, 255, 255, 0.86)"),
        ("the answer is 12.", "the answer is 13."),
        ("' John'", "'John'"),
        ("a b", "ab"),
        ("one\ntwo", "one"),
        ("", "one"),
        ("True", "False"),
        ("model_0.5", "model_0.6"),
    ],
)
def test_words_and_whole_numbers_are_exact(reference: str, fresh: str) -> None:
    assert in_text(reference, fresh)
    assert in_text(fresh, reference)


@pytest.mark.parametrize(
    ("reference", "fresh"),
    [
        ("head   value\nL9H9  9.995\n", "head   value\nL9H9 10.003"),
        ("| L9H9 |  9.995 |\n|:-----|-------:|", "| L9H9 | 10.003 |\n|:-----|--------:|"),
        ("tensor([ 0.0000, 1.25])", "tensor([-0.0000, 1.25])"),
        ("<td>9.995</td>", "<td>10.003</td>"),
        ("\x1b[1mRank: \x1b[0m\x1b[36m19.34\x1b[0m", "Rank: 19.34"),
        ("<Figure at 0x7f8a9c001234>", "<Figure at 0x7f1111111111>"),
    ],
)
def test_padding_colours_and_addresses_do_not_count(reference: str, fresh: str) -> None:
    assert in_text(reference, fresh) == []


def test_a_difference_names_line_values_and_tolerance() -> None:
    (found,) = in_text("first\nloss 4.81 here", "first\nloss 4.72 here")
    assert found.where == "line 2"
    assert "4.81" in found.expected
    assert "4.72" in found.got
    assert found.note == "differs by 0.09 (1.87%), allowed 0.0481"


def test_a_line_too_many_is_the_one_that_is_shown() -> None:
    (found,) = in_text("first\n\nsecond one.\nthird", "first\n\nsecond one.\n")
    assert (found.where, found.expected, found.got) == ("line 4", "third", "(nothing more)")


def test_all_numbers_count_up_to_a_word_that_differs() -> None:
    (found,) = first_and_count(in_text("1.00 2.00 a 3.00", "1.50 2.50 b 3.50"))
    assert found.note.endswith("(and 2 more here)")


def test_tolerance_can_be_set() -> None:
    assert list(text_differences("1.000", "1.009", Tolerance(rtol=1e-3)))
    assert not list(text_differences("1.00", "1.09", Tolerance(rtol=0.1)))
    assert list(tree_differences([1.0], [1.0005], Tolerance(data_rtol=1e-4)))
    assert not list(tree_differences([1.0], [1.05], Tolerance(data_rtol=0.1)))


def test_tolerance_can_depend_on_the_place() -> None:
    asked: list[str] = []

    def by_place(place: str) -> Tolerance:
        asked.append(place)
        return Tolerance() if place.startswith("data") else Tolerance().exact

    old = {"data": {"y": [1.5, 2.5]}, "range": [1.5, 2.5], "title": "R2 = 0.912"}
    new = {"data": {"y": [1.5, 2.5001]}, "range": [1.5, 2.5001], "title": "R2 = 0.913"}
    assert [found.where for found in tree_differences(old, new, by_place)] == ["range[1]"]
    assert {"data.y[]", "data.y[1]", "range[]", "range[1]", "title"} <= set(asked)


# --- JSON -----------------------------------------------------------------------------------------

NOISE = 1e-6


@pytest.mark.parametrize(
    ("reference", "fresh"),
    [
        ([[2.24, NOISE], [-0.3, 0.0]], [[2.24 + NOISE, -NOISE], [-0.3, NOISE]]),
        ([2.2412, 0.0004], [2.2411, 0.0005]),  # rounded to four decimals
        ([0.02, -2e-6], [0.02, -1e-6]),  # differences of logits
        ([1.0, None], [1.0, math.nan]),
        ([math.inf], [math.inf]),
        ({"a": 1, "b": 2.0}, {"b": 2, "a": 1}),
        ("L9H9 +2.24", "L9H9 +2.23"),
        ([{"x": 1e6}, {"x": 0.5}], [{"x": 1e6}, {"x": 0.5001}]),
    ],
)
def test_values_that_are_the_same(reference: Any, fresh: Any) -> None:
    assert in_tree(reference, fresh) == []
    assert in_tree(fresh, reference) == []


@pytest.mark.parametrize(
    ("reference", "fresh", "where"),
    [
        ([[2.24, 0.1], [-0.3, 0.0]], [[2.24, 0.1], [0.3, 0.0]], "[1][0]"),
        ([2.2412, 0.01234], [2.2412, 0.01259], "[1]"),  # 2 % of an entry of 1/200
        ([0.02, 0.0012], [0.02, 0.001225], "[1]"),  # 2 % of what is above 1/1000
        ([5.0, 4.0], [5.0, 4.0, 3.0], ""),
        ([2.2412, 0.5], [2.2412, 0.5009], "[1]"),  # 0.2 %: stored numbers are not rounded
        ([1, 150], [1, 151], "[1]"),  # whole numbers
        ([0.5, 1.5], [0.5, 1.6], "[1]"),  # one decimal is no rounding to three digits
        ([1.0, None], [1.0, 2.0], "[1]"),
        ([1.0, math.inf], [1.0, 2.0], "[1]"),
        ({"a": {"b": " John"}}, {"a": {"b": "John"}}, "a.b"),
        ({"a": 1}, {}, "a"),
        ({"text": "L9H9 +2.24"}, {"text": "L9H8 +2.24"}, "text"),
        ({"text": "L9H9 +2.24"}, {"text": "L9H9 +2.29"}, "text"),
        ({"a": True}, {"a": 1}, "a"),
        ({"a": None}, {"a": "x"}, "a"),
    ],
)
def test_values_that_differ(reference: Any, fresh: Any, where: str) -> None:
    assert [found.where for found in in_tree(reference, fresh)] == [where]
    assert [found.where for found in in_tree(fresh, reference)] == [where]


def test_2_percent_is_caught_in_every_entry_that_can_be_seen() -> None:
    entries = [2.24 / divisor for divisor in (1, 3, 10, 30, 100, 300, 900)]
    for index in range(len(entries)):
        changed = [e * 1.02 if i == index else e for i, e in enumerate(entries)]
        assert [found.where for found in in_tree(changed, entries)] == [f"[{index}]"]
