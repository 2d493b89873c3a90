"""What is said in a notebook fits where it is read."""

from __future__ import annotations

import pytest

from helpers.head_scores import Head
from helpers.wording import COLUMNS, enumerated, listing, say


def said(text: str, capsys) -> list[str]:
    say(text)
    return capsys.readouterr().out.removesuffix("\n").split("\n")


@pytest.mark.parametrize("start", ["", "    ", "- ", "  - "])
def test_long_sentences_are_folded_and_nothing_is_lost(start, capsys):
    text = start + "The loss of -0.16 [-0.25, -0.07] is not made up for by L23H3. " * 5
    lines = said(text, capsys)
    assert max(map(len, lines)) <= COLUMNS
    assert min(map(len, lines[:-1])) > COLUMNS - 20, "no line is broken early"
    assert " ".join(lines).split() == text.split()
    assert lines[0].startswith(start)
    assert all(line.startswith(" " * len(start)) and line[len(start)] != " " for line in lines[1:])


def test_what_fits_stays_as_it_is(capsys):
    text = "head   direct\nL1H2   -0.5\n\n  a line of its own\n- a list's item\n" + "x" * COLUMNS
    assert said(text, capsys) == text.split("\n")


def test_a_word_is_never_broken(capsys):
    word = "L1H2-" * 30
    assert said(f"one {word} two", capsys) == ["one", word, "two"]


def test_listing():
    heads = [Head(9, 9, 3.0), Head(10, 7, -1.95)]
    assert listing(heads) == "L9H9\N{NO-BREAK SPACE}+3.000, L10H7\N{NO-BREAK SPACE}-1.950"
    assert listing([]) == ""


@pytest.mark.parametrize(
    ("names", "text"),
    [([], "none"), (["a"], "a"), (["a", "b"], "a and b"), (iter("abc"), "a, b and c")],
)
def test_enumerated(names, text):
    assert enumerated(names) == text
