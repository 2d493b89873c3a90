"""Tables: a difference is said by row and column; what is no difference passes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_output

from helpers.notebooks.compare import Difference, Tolerance, text_differences
from helpers.notebooks.outputs import compare_outputs
from helpers.notebooks.tables import html_differences, with_ids


def frame(**columns: list[float]) -> pd.DataFrame:
    data = {"effect": [2.241, -0.317, 0.0], "published": [2.19, -0.402, 0.1], **columns}
    return pd.DataFrame(data, index=pd.Index(["L9H9", "L9H6", "L0H1"], name="head"))


def shown(table: pd.DataFrame) -> str:
    """As IPython shows it."""
    html: str = table._repr_html_()
    return html


def between(old: pd.DataFrame, new: pd.DataFrame) -> list[Difference]:
    """Between two displays of tables, with all they hold: HTML and text."""
    outputs = [
        new_output("display_data", data={"text/html": shown(t), "text/plain": repr(t)})
        for t in (old, new)
    ]
    return compare_outputs(outputs[:1], outputs[1:], Tolerance())


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t,
        lambda t: t * (1 + 1e-5),
        lambda t: t + 1e-7,
        lambda t: t.assign(effect=[2.24, -0.317, -0.0]),
    ],
)
def test_noise_in_a_table_does_not_count(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    assert between(frame(), change(frame())) == []


@pytest.mark.parametrize(
    ("change", "where", "note"),
    [
        (
            lambda t: t.assign(effect=[2.241, -0.33, 0.0]),
            "table, row 'L9H6', column 'effect'",
            "differs by 0.013 (3.94%)",
        ),
        (
            lambda t: t.rename(index={"L9H6": "L9H7"}),
            "table, row 'L9H6', column 'head'",
            "text compares",
        ),
        (lambda t: t.rename(columns={"effect": "score"}), "table, header of column 2", "text compares"),
        (lambda t: t.drop("L9H6"), "table", "rows gone: 'L9H6'"),
        (lambda t: t.drop(columns="effect"), "table", "columns gone: 'effect'"),
        (lambda t: t.assign(more=[1.5, 2.5, 3.5]), "table", "columns new: 'more'"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "table", "a row more or less of the same name"),
        (lambda t: t.iloc[::-1], "table, row 'L9H9', column 'head'", "text compares"),
        (lambda t: t.assign(effect=[2.241, None, 0.0]), "table, row 'L9H6', column 'effect'", "text"),
        (
            lambda t: t.assign(effect=[2.241, 0.317, 0.0]),
            "table, row 'L9H6', column 'effect'",
            "differs",
        ),
    ],
)
def test_a_change_is_said_by_row_and_column(
    change: Callable[[pd.DataFrame], pd.DataFrame], where: str, note: str
) -> None:
    """Once: the text beside the table says the same."""
    (found,) = between(frame(), change(frame()))
    assert found.where == f"output 1, text/html, {where}"
    assert note in found.note


def test_every_cell_counts() -> None:
    table = pd.DataFrame(np.random.default_rng(0).uniform(1, 9, size=(5, 4)), columns=list("abcd"))
    for row in range(5):
        for column in range(4):
            changed = table.copy()
            changed.iloc[row, column] *= 1.02
            (found,) = html_differences(shown(table), shown(changed), Tolerance())
            assert found.where == f"table, row '{row}', column {'abcd'[column]!r}"


@pytest.mark.parametrize("column", ["head", "Heads", "name", "version", "layer.head", "date", "model"])
def test_a_column_of_names_is_exact_and_others_are_not(column: str) -> None:
    old, new = (pd.DataFrame({column: [9.9, 10.1], "effect": [1.5, 2.5]}) for _ in range(2))
    new.loc[0, column] = 9.8
    (found,) = between(old, new)
    assert found.where.endswith(f"row '0', column {column!r}")
    other, another = (t.rename(columns={column: "logits"}) for t in (old, new))
    assert between(other, another) == []  # one unit


def test_labels_that_are_numbers_are_exact() -> None:
    tables = [pd.DataFrame({"effect": [1.5]}, index=[label]) for label in (9.9, 9.8)]
    assert "row '9.9'" in between(*tables)[0].where
    tables = [pd.DataFrame([[1.5]], columns=[label]) for label in (0.25, 0.26)]
    assert "header of column 2" in between(*tables)[0].where


def test_levels_of_headers_and_labels_are_named() -> None:
    index = pd.MultiIndex.from_product([["clean", "corrupted"], ["L0", "L1"]])
    columns = pd.MultiIndex.from_product([["effect", "error"], ["mean", "most"]])
    table = pd.DataFrame(np.arange(16).reshape(4, 4) / 3 + 1, index=index, columns=columns)
    changed = table.copy()
    changed.iloc[3, 2] *= 1.02
    (found,) = html_differences(shown(table), shown(changed), Tolerance())
    assert found.where == "table, row 'corrupted / L1', column 'error / mean'"


@pytest.mark.parametrize("dropped", [("clean", "L0"), ("clean", "L1"), ("corrupted", "L0")])
def test_a_row_dropped_under_a_label_of_several_is_named(dropped: tuple[str, str]) -> None:
    """Also the first one, with which the label is written."""
    index = pd.MultiIndex.from_product([["clean", "corrupted"], ["L0", "L1", "L2"]])
    table = pd.DataFrame({"effect": np.arange(6) / 3 + 1}, index=index)
    (found,) = html_differences(shown(table), shown(table.drop(dropped)), Tolerance())
    assert (found.expected, found.got) == ("6 rows", "5 rows")
    assert found.note == f"rows gone: '{' / '.join(dropped)}'"


def test_the_second_of_two_tables_is_named() -> None:
    old, new = (shown(frame()) + "<p>and</p>" + shown(frame(effect=[x, 1.5, 1.5])) for x in (2.51, 2.71))
    (found,) = html_differences(old, new, Tolerance())
    assert found.where == "table 2, row 'L9H9', column 'effect'"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<p>a</p><table><tr><td>1</td></tr></table>", "<p>b</p><table><tr><td>1</td></tr></table>"),
        ("<table border=1><tr><td>1</td></tr></table>", "<table border=2><tr><td>1</td></tr></table>"),
        ("<table><tr><td>1</td></tr></table>", "<table><tr><th>1</th></tr></table>"),
        ("<table><tr><td><b>1</b></td></tr></table>", "<table><tr><td><i>1</i></td></tr></table>"),
        ("<table><tr><td style='color:red'>1</td></tr></table>", "<table><tr><td>1</td></tr></table>"),
        ("<table><tr><td>1</td></tr></table>", "<table><caption>a</caption><tr><td>1</td></tr></table>"),
        ("<table><tr><td>1</td></tr></table>", "<p>1</p>"),
        (
            "<table><tr><td><table><tr><td>1</td></tr></table></td></tr></table>",
            "<table><tr><td><table><tr><td>2</td></tr></table></td></tr></table>",
        ),
        ("<table><tr><td>1<tr><td>2</table>", "<table><tr><td>1<tr><td>3</table>"),  # ends left out
        ("<table><tr></tr></table>", "<table></table>"),
        ("<table></table>", "<table>x</table>"),
    ],
)
def test_all_other_markup_counts(old: str, new: str) -> None:
    assert list(html_differences(old, new, Tolerance()))
    assert list(html_differences(new, old, Tolerance()))
    assert not list(html_differences(old, old, Tolerance()))


def styled(values: list[float], colour: str = "red") -> str:
    style = pd.DataFrame({"effect": values}).style.format("{:.3f}")
    return str(style.map(lambda value: f"color: {colour}" if value < 0 else "").to_html())


def test_a_styled_tables_random_ids_do_not_count_and_its_colours_do() -> None:
    assert styled([2.241, -0.317]) != styled([2.241, -0.317])
    assert not list(html_differences(styled([2.241, -0.317]), styled([2.242, -0.317]), Tolerance()))
    (found,) = html_differences(styled([2.241, -0.317]), styled([2.241, -0.33]), Tolerance())
    assert found.where == "table, row '1', column 'effect'"
    assert list(html_differences(styled([1.5, -0.317]), styled([1.5, -0.317], "blue"), Tolerance()))
    old, new = (f'<div id="{i}"></div><script>f("{i}")</script>' for i in ("a" * 32, "b" * 32))
    assert not list(html_differences(old, new, Tolerance()))
    assert list(html_differences(old, new.replace("b" * 32, "c" * 32, 1), Tolerance()))


def test_ids_of_styled_tables_can_be_named() -> None:
    one = with_ids(styled([1.5, -0.5]) + styled([2.5, -0.5]), lambda number: f"T_{number}")
    assert one == with_ids(styled([1.5, -0.5]) + styled([2.5, -0.5]), lambda number: f"T_{number}")
    assert 'id="T_0"' in one
    assert "#T_1_row1_col0" in one


def test_a_printed_table_is_said_by_row_and_column_too() -> None:
    for text in (frame().to_string, lambda: "first\n\n" + frame().reset_index().to_string(index=False)):
        old = text()
        (found,) = text_differences(old, old.replace("-0.402", "-0.42"), Tolerance())
        assert found.where.endswith("row 'L9H6', column 'published'"), found.where
    markdown = "| head | effect |\n|:--|--:|\n| L9H9 | 2.241 |"
    (found,) = text_differences(markdown, markdown.replace("2.241", "2.341"), Tolerance())
    assert found.where == "line 3, row 'L9H9', column 'effect'"
    (found,) = text_differences("loss  2.5", "loss  2.7", Tolerance())
    assert found.where == "line 1"
