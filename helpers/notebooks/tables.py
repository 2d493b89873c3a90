"""HTML outputs: tables compare cell by cell, and an id that is new at each run does not count."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile

from helpers.notebooks import names
from helpers.notebooks.compare import Difference, Tolerance, first_and_count, text_differences

# --- ids ------------------------------------------------------------------------------------------

# That of a pandas Styler, in `<table id="T_4a219">` and in every rule and cell; a UUID; 32 digits.
_STYLER = re.compile(r'<table id="(T_[0-9a-f]{5,32})"')
_RANDOM = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}(?![0-9a-f])")


def with_ids(text: str, named: Callable[[int], str]) -> str:
    """HTML with the ids that pandas drew at random replaced: of the n-th styled table by `named(n)`."""
    for number, drawn in enumerate(dict.fromkeys(_STYLER.findall(text))):
        text = re.sub(rf"\b{drawn}(?![0-9a-f])", named(number), text)
    return text


def _without_random_ids(text: str) -> str:
    text = with_ids(text, lambda number: f"T_table{number}")
    order: dict[str, int] = {}
    return _RANDOM.sub(lambda match: f"id{order.setdefault(match.group(), len(order))}", text)


# --- tables ---------------------------------------------------------------------------------------

_TABLE = re.compile(r"<table\b[^>]*>.*?</table\s*>", re.DOTALL | re.IGNORECASE)
_ROW = re.compile(r"<tr\b[^>]*>(.*?)(?=<tr\b|</table|\Z)", re.DOTALL | re.IGNORECASE)
_CELL = re.compile(r"<(t[dh])\b([^>]*)>(.*?)</\1\s*>", re.DOTALL | re.IGNORECASE)
_SPAN = re.compile(r"(row|col)span\s*=\s*[\"']?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class _Cell:
    """`attributes` as they stand in the tag, `content` as HTML."""

    header: bool
    attributes: str
    content: str

    @property
    def tag(self) -> str:
        return f"<{'th' if self.header else 'td'} {self.attributes}>"

    @property
    def text(self) -> str:
        return html.unescape(re.sub(r"<[^>]*>", "", self.content)).strip()


# A cell that spans several columns or rows stands in each.
_Row = dict[int, _Cell]


def _rows(table: str) -> list[_Row]:
    rows: list[_Row] = []
    still: dict[int, tuple[_Cell, int]] = {}  # columns that a cell above reaches down into
    for match in _ROW.finditer(table):
        row = {column: cell for column, (cell, _) in still.items()}
        still = {column: (cell, left - 1) for column, (cell, left) in still.items() if left > 1}
        for tag, attributes, content in _CELL.findall(match[1]):
            cell = _Cell(tag.lower() == "th", attributes.strip(), content)
            spans = {kind.lower(): int(number) for kind, number in _SPAN.findall(attributes)}
            column = next(number for number in range(len(row) + 1) if number not in row)
            for place in range(column, column + spans.get("col", 1)):
                row[place] = cell
                if spans.get("row", 1) > 1:
                    still[place] = (cell, spans["row"] - 1)
        rows.append(row)
    return [row for row in rows if row]


class _Table:
    """A table's rows, and what its rows and columns are called."""

    def __init__(self, markup: str) -> None:
        self.frame = _CELL.sub("<cell>", markup)
        rows = _rows(markup)
        top = list(takewhile(lambda row: all(cell.header for cell in row.values()), rows))
        self.header = top if len(top) < len(rows) else top[:1]
        self.body = rows[len(self.header) :]
        self.width = max((max(row) + 1 for row in rows), default=0)

    def column(self, number: int) -> str:
        """The column's name, of all its levels; its number, from 1, if it has none."""
        levels = [row[number].text for row in self.header if number in row and row[number].text]
        return repr(" / ".join(dict.fromkeys(levels))) if levels else str(number + 1)

    def row(self, number: int) -> str:
        """The row's label, of all its levels, or its first cell."""
        cells = [cell for _, cell in sorted(self.body[number].items())]
        labels = [cell.text for cell in takewhile(lambda cell: cell.header, cells)] or [cells[0].text]
        return repr(" / ".join(dict.fromkeys(labels)))

    def is_name(self, row: int, column: int) -> bool:
        """Whether the cell is a label, or in a column of names."""
        levels = [above[column].text for above in self.header if column in above]
        named = any(names.NAME_COLUMN.fullmatch(level) for level in levels if level)
        return self.body[row][column].header or named


def _cell_differences(old: _Cell, new: _Cell, name: bool, tolerance: Tolerance) -> Iterator[Difference]:
    if name and old.content != new.content and names.is_label(old.text, at_a_label=True):
        yield Difference("", old.text, new.text, "text compares exactly: a label, not a quantity")
        return
    contents = list(text_differences(old.content, new.content, tolerance))
    for difference in contents[:1]:
        yield Difference("", old.text or old.content, new.text or new.content, difference.note)
    if not contents and old != new:
        yield from first_and_count(text_differences(old.tag, new.tag, tolerance))


def _header_differences(old: _Table, new: _Table, tolerance: Tolerance) -> Iterator[Difference]:
    for row, new_row in zip(old.header, new.header, strict=False):
        for column in sorted(row.keys() & new_row.keys()):
            for difference in _cell_differences(row[column], new_row[column], True, tolerance):
                yield replace(difference, where=f"header of column {column + 1}")


def _row_differences(
    old: _Table, new: _Table, number: int, tolerance: Tolerance
) -> Iterator[Difference]:
    row, new_row = old.body[number], new.body[number]
    for column in range(max(old.width, new.width)):
        where = f"row {old.row(number)}, column {old.column(column)}"
        cell, new_cell = row.get(column), new_row.get(column)
        if cell and new_cell:
            name = old.is_name(number, column)
            for difference in _cell_differences(cell, new_cell, name, tolerance):
                yield replace(difference, where=where)
        elif cell or new_cell:
            old_text, new_text = (side.text if side else "(no cell)" for side in (cell, new_cell))
            yield Difference(where, old_text, new_text)


def _gone_or_new(one: list[str], other: list[str], what: str) -> str:
    """Which rows or columns only one of two tables has, by name."""
    gone = [name for name in one if name not in other]
    new = [name for name in other if name not in one]
    said = [f"gone: {', '.join(gone[:3])}"] if gone else []
    said += [f"new: {', '.join(new[:3])}"] if new else []
    return f"{what}s {'; '.join(said)}" if said else f"a {what} more or less of the same name"


def _table_differences(old: _Table, new: _Table, tolerance: Tolerance) -> Iterator[Difference]:
    if old.width != new.width:
        lists = [[table.column(i) for i in range(table.width)] for table in (old, new)]
        note = _gone_or_new(lists[0], lists[1], "column")
        yield Difference("", f"{old.width} columns", f"{new.width} columns", note)
        return
    if len(old.body) != len(new.body):
        lists = [[table.row(i) for i in range(len(table.body))] for table in (old, new)]
        note = _gone_or_new(lists[0], lists[1], "row")
        yield Difference("", f"{len(old.body)} rows", f"{len(new.body)} rows", note)
        return
    found = list(_header_differences(old, new, tolerance))
    for number in range(len(old.body)):
        found += _row_differences(old, new, number, tolerance)
    yield from first_and_count(found)
    if not found:
        yield from first_and_count(text_differences(old.frame, new.frame, tolerance))


def html_differences(reference: str, fresh: str, tolerance: Tolerance) -> Iterator[Difference]:
    """What differs between two HTML outputs: in tables by row and column, elsewhere by line.

    Labels of rows and columns, and what stands in a column of names (head, version, …), compare to
    the letter; other numbers within the tolerance. Ids drawn at random do not count; every other
    part of the markup does.
    """
    one, other = _without_random_ids(reference), _without_random_ids(fresh)
    tables, new_tables = _TABLE.findall(one), _TABLE.findall(other)
    nested = any(table.lower().count("<table") > 1 for table in [*tables, *new_tables])
    if nested or len(tables) != len(new_tables):
        yield from first_and_count(text_differences(one, other, tolerance))
        return
    for number, (old, new) in enumerate(zip(tables, new_tables, strict=True), start=1):
        for difference in _table_differences(_Table(old), _Table(new), tolerance):
            yield difference.within(f"table {number}" if len(tables) > 1 else "table")
    around = _TABLE.sub("<table>", one), _TABLE.sub("<table>", other)
    yield from first_and_count(text_differences(around[0], around[1], tolerance))
