"""Comparison of printed text and of JSON values: words exactly, numbers within a tolerance.

Nothing here knows of notebooks; `outputs` applies it to the outputs of a cell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import zip_longest
from typing import Any

import numpy as np

from helpers.notebooks import names


@dataclass(frozen=True)
class Tolerance:
    """How far a number may lie from the committed one. The largest of the allowances counts.

    `rtol`, of printed numbers, relative to the larger magnitude. 1 % lies between the two things
    asked of it: another fourth significant digit is at most 0.9 % (1.000 -> 1.009) and passes; 2 %
    fails, also after it was rounded to three printed digits, where at least 1.5 % of it is left.
    `atol`, absolute, of printed numbers: a zero that came out as 1e-07.
    `data_rtol`, of numbers in JSON, which are stored unrounded.
    `data_atol`, absolute: small effects are differences of logits, and carry the noise of these, which
    does not shrink with the effects. Relative to the largest entry alone, a figure that shows nothing
    but small effects would flake. What it hides, 2 % of an entry of 1/1000, cannot be seen in a figure
    whose largest entry is above 1/200; a test holds the committed figures to that.
    `noise`, relative to the largest magnitude in an array: an entry near zero is a difference of
    large numbers and carries their rounding errors. A colour scale shows about 256 levels; a
    change of 2 % is caught in every entry above 1/1000 of the largest and above 1/1000.

    One unit of the last digit always passes, as 3.9515 may be printed 3.951 or 3.952. With three
    digits that unit is at most 1 % of the number, so it hides no change of 2 %; with fewer digits
    2 % can be less than a unit: print three.

    Measured on SmolLM2 (tests/measure_noise.py), the largest spread between one thread and two, and
    between one batch of eight prompts and two of four: relative to the value itself, in entries above
    1/1000 of the largest; relative to the largest; absolute.

        logit difference          1.3e-06   1.3e-06   6.2e-06
        by head                   2.1e-05   4.0e-07   8.9e-07
        patch sweep, resid_pre    5.6e-06   2.0e-06   9.5e-06
        patch sweep, z            3.5e-05   1.1e-06   7.6e-06
        path patch, q             1.6e-06   1.6e-06   7.6e-06
        head scores               1.6e-07   1.6e-07   1.2e-07

    So `data_rtol` is some 30 times, `noise` 10 times and `data_atol` twice what was measured, for
    other processors.

    `labels`: whether a text that is nothing but a number is a label, and compares to the letter.
    """

    rtol: float = 1e-2
    atol: float = 1e-6
    data_rtol: float = 1e-3
    data_atol: float = 2e-5
    noise: float = 2e-5
    labels: bool = False

    @property
    def exact(self) -> Tolerance:
        """No number in JSON may differ; printed ones as before."""
        return replace(self, data_rtol=0.0, data_atol=0.0, noise=0.0)


# The tolerance of the number at a place such as `xaxis.range[0]`; `xaxis.range[]` is the whole array.
ByPlace = Callable[[str], Tolerance]


@dataclass(frozen=True)
class Difference:
    """One place where a new value is not the committed one; `note` says by how much."""

    where: str
    expected: str
    got: str
    note: str = ""

    def within(self, place: str) -> Difference:
        """The same difference, seen from the larger `place` that holds it."""
        return replace(self, where=f"{place}, {self.where}" if self.where else place)


def first_and_count(differences: Iterable[Difference]) -> Iterator[Difference]:
    """The first difference, its note saying how many more there are; nothing if there is none."""
    found = list(differences)
    if found:
        more = f" (and {len(found) - 1} more here)" if len(found) > 1 else ""
        yield replace(found[0], note=found[0].note + more)


# --- text -----------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""
      (?P<word>\#[0-9a-fA-F]{6}(?!\w)                      # a colour: #100E73 is not 100e73
          | (?:rgb|hsl)a?\([^()]*\)                        # rgba(255, 255, 255, 0.85)
          | [^\W\d]\w*)                                   # L9H9
    | (?P<number>(?:(?<![\w.)\]])[-+])?
          (?:\d{1,3}(?:,\d{3})+(?=\.\d)|\d+)(?:\.\d*)?(?:[eE][-+]?\d+(?!\w))?)  # 1,234.5 or 1.5e-07
    | (?P<rule>([-=─━═])\4{2,})                            # a table's line, as wide as its column
    | (?P<space>\s+)
    | (?P<other>.)
    """,
    re.VERBOSE,
)
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_ANSI_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_PADDED = frozenset({"number", "rule", "bar"})


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int

    @property
    def is_float(self) -> bool:
        """Whether the token is a number with decimals or an exponent; '12.' ends a sentence."""
        return self.kind == "number" and bool(re.search(r"\.\d|[eE]", self.text))

    @property
    def value(self) -> Decimal:
        return Decimal(self.text.replace(",", ""))


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """The text cut into (kind, piece); what `names` knows as a name is one word."""
    at = 0
    for start, end in [*names.spans(text), (len(text), len(text))]:
        for match in _TOKEN.finditer(text, at, start):
            yield match.lastgroup or "other", match.group()
        if start < end:
            yield "name", text[start:end]
        at = end


def _raw_tokens(text: str) -> Iterator[_Token]:
    line = 1
    for kind, found in _pieces(text):
        if kind == "name":
            yield _Token("word", " ".join(found.split()), line)
        elif kind == "rule":
            yield _Token(kind, found[:3], line)
        elif kind == "space":
            yield _Token(kind, " ", line + found.count("\n"))  # if it is too much, so is what follows
        else:
            yield _Token("bar" if found in "|│┃" else kind, found, line)
        line += found.count("\n")


def _tokens(text: str) -> list[_Token]:
    """Words, numbers and punctuation. Padding (white space at an end or next to a number) goes."""
    plain = ADDRESS.sub("0x", _ANSI_COLOUR.sub("", text).replace("−", "-")).strip()
    tokens = list(_raw_tokens(plain))
    padded = [None, *(token.kind in _PADDED for token in tokens), None]
    return [
        token
        for left, token, right in zip(padded, tokens, padded[2:], strict=False)
        if token.kind != "space" or not (left or right)
    ]


def _number_note(expected: Decimal, got: Decimal, allowed: Decimal) -> str:
    largest = max(abs(expected), abs(got))
    gap = abs(expected - got)
    return f"differs by {gap:.3g} ({gap / largest:.2%}), allowed {allowed:.3g}"


def _unit(token: _Token, value: Decimal) -> Decimal:
    """One unit of the last printed digit; none for 1e-05, which is written, not rounded."""
    exponent = value.as_tuple().exponent
    return Decimal(1).scaleb(int(exponent)) if "." in token.text else Decimal(0)


def _number_difference(expected: _Token, got: _Token, tolerance: Tolerance) -> str | None:
    """The note on two printed numbers that are too far apart, or None. Whole numbers are exact."""
    if not (expected.is_float or got.is_float):
        return None if expected.text == got.text else "whole numbers compare exactly"
    # Decimals, because in binary 1.01 - 1.00 is a little more than one unit of the last digit.
    old, new = expected.value, got.value
    unit = min(_unit(token, value) for token, value in ((expected, old), (got, new)))
    allowed = max(Decimal(tolerance.rtol) * max(abs(old), abs(new)), Decimal(tolerance.atol), unit)
    return None if abs(old - new) <= allowed else _number_note(old, new, allowed)


def _line(text: str, number: int) -> str:
    lines = _ANSI_COLOUR.sub("", text).strip().splitlines()
    return lines[number - 1].strip() if number <= len(lines) else "(end of the text)"


_COLUMN = re.compile(r"\s{2,}|\s*[|│┃]\s*")


def _cells(text: str, number: int) -> list[str]:
    return _COLUMN.split(_line(text, number).strip("|│┃ "))


def _table_place(reference: str, fresh: str, old: int, new: int, tolerance: Tolerance) -> str:
    """`, row 'L9H9', column 'effect'` for a line of a printed table; nothing for any other line.

    A table is a block of lines; the first is its header, and may leave out the column of labels.
    """
    lines = _ANSI_COLOUR.sub("", reference).strip().splitlines()
    top = max(
        (number for number in range(old) if not lines[number - 1].strip() or not number), default=0
    )
    header, one, other = _cells(reference, top + 1), _cells(reference, old), _cells(fresh, new)
    if top + 1 == old or len(one) < 2 or len(one) != len(other) or not 0 <= len(one) - len(header) <= 1:
        return ""
    columns = [""] * (len(one) - len(header)) + header
    changed = (i for i, cells in enumerate(zip(one, other, strict=True)) if cells[0] != cells[1])
    apart = next((i for i in changed if list(text_differences(one[i], other[i], tolerance))), None)
    return "" if apart is None else f", row {one[0]!r}, column {columns[apart]!r}"


def text_differences(reference: str, fresh: str, tolerance: Tolerance) -> Iterator[Difference]:
    """Numbers that are too far apart, up to the first place where the words differ.

    White space that pads a column, the width of a table's lines, colours of a terminal and memory
    addresses do not count.
    """
    if reference == fresh:
        return
    for old, new in zip_longest(_tokens(reference), _tokens(fresh)):
        line = (old or new).line
        if old and new and old.kind == new.kind == "number":
            note = _number_difference(old, new, tolerance)
            if note:
                place = _table_place(reference, fresh, old.line, new.line, tolerance)
                yield Difference(
                    f"line {line}{place}",
                    f"{old.text}   in: {_line(reference, old.line)}",
                    f"{new.text}   in: {_line(fresh, new.line)}",
                    note,
                )
        elif not (old and new and (old.kind, old.text) == (new.kind, new.text)):
            yield Difference(
                f"line {line}",
                _line(reference, old.line) if old else "(nothing more)",
                _line(fresh, new.line) if new else "(nothing more)",
                "text compares exactly",
            )
            return


# --- JSON values ----------------------------------------------------------------------------------


def _floats(value: Any) -> list[float]:
    if isinstance(value, list):
        return [number for entry in value for number in _floats(entry)]
    return [value] if isinstance(value, float) and math.isfinite(value) else []


def _decimals(values: np.ndarray) -> int | None:
    """To how many decimals (0 to 5) the values were rounded, at float32 precision; None if not."""
    for decimals in range(6):
        if np.allclose(values, np.round(values, decimals), rtol=1e-7, atol=0):
            return decimals
    return None


def _array_allowance(reference: list[Any], fresh: list[Any], tolerance: Tolerance) -> float:
    """How far any entry of two arrays may differ: float noise, or one unit if both are rounded."""
    old, new = np.array(_floats(reference)), np.array(_floats(fresh))
    if not (tolerance.noise and old.size and new.size):
        return 0.0
    largest = float(max(np.abs(old).max(), np.abs(new).max()))
    decimals = _decimals(old)
    unit = 10.0**-decimals if decimals and decimals == _decimals(new) else 0.0
    # As in text: a unit may only pass where the data have three significant digits.
    if unit > tolerance.rtol * largest:
        unit = 0.0
    return max(tolerance.noise * largest, unit)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    """Whether the value is null: in JSON, or as a NaN in a typed array."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _value_note(old: float, new: float, least: float, tolerance: Tolerance) -> str | None:
    if isinstance(old, int) and isinstance(new, int):
        return None if old == new else "whole numbers compare exactly"
    if old == new:
        return None
    gap, largest = abs(old - new), max(abs(old), abs(new))
    if not math.isfinite(gap):
        return "not a finite number"
    allowed = max(tolerance.data_rtol * largest, tolerance.data_atol, least)
    return None if gap <= allowed else _number_note(Decimal(old), Decimal(new), Decimal(allowed))


def _string_differences(old: str, new: str, tolerance: Tolerance) -> Iterator[Difference]:
    """Texts: exact to the last blank (" John" is not "John") unless they hold a decimal number."""
    label = any(names.is_label(side, tolerance.labels) for side in (old, new))
    if label and old != new:
        yield Difference("", repr(old), repr(new), "text compares exactly: a label, not a quantity")
    elif any(token.is_float for token in _tokens(old) + _tokens(new)):
        differences = list(text_differences(old, new, tolerance))
        if differences:
            yield Difference("", repr(old), repr(new), differences[0].note)
    elif old != new:
        yield Difference("", repr(old), repr(new), "text compares exactly")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return repr(value)


def _dict_differences(
    old: dict[str, Any], new: dict[str, Any], by_place: ByPlace, where: str
) -> Iterator[Difference]:
    for key in old | new:
        place = f"{where}.{key}" if where else key
        if key not in new:
            yield Difference(place, _shown(old[key]), "(absent)")
        elif key not in old:
            yield Difference(place, "(absent)", _shown(new[key]))
        else:
            yield from _tree_differences(old[key], new[key], by_place, place)


def tree_differences(
    reference: Any, fresh: Any, tolerance: Tolerance | ByPlace, where: str = ""
) -> Iterator[Difference]:
    """Every place at which two JSON values differ, as `layout.xaxis.title.text` or `z[3][5]`.

    The tolerance is that of all numbers, or is asked for at each place.
    """
    by_place = _everywhere(tolerance) if isinstance(tolerance, Tolerance) else tolerance
    yield from _tree_differences(reference, fresh, by_place, where)


def _everywhere(tolerance: Tolerance) -> ByPlace:
    return lambda place: tolerance


def _tree_differences(
    reference: Any, fresh: Any, by_place: ByPlace, where: str, least: float | None = None
) -> Iterator[Difference]:
    """`least` is the allowance of the whole array that the values are entries of, if of any."""
    if isinstance(reference, dict) and isinstance(fresh, dict):
        yield from _dict_differences(reference, fresh, by_place, where)
    elif isinstance(reference, list) and isinstance(fresh, list):
        if len(reference) != len(fresh):
            yield Difference(where, f"{len(reference)} entries", f"{len(fresh)} entries")
            return
        if least is None:
            least = _array_allowance(reference, fresh, by_place(f"{where}[]"))
        for index, (old, new) in enumerate(zip(reference, fresh, strict=True)):
            yield from _tree_differences(old, new, by_place, f"{where}[{index}]", least)
    elif _is_missing(reference) or _is_missing(fresh):
        if not (_is_missing(reference) and _is_missing(fresh)):
            yield Difference(where, repr(reference), repr(fresh))
    elif _is_number(reference) and _is_number(fresh):
        note = _value_note(reference, fresh, least or 0.0, by_place(where))
        if note:
            yield Difference(where, repr(reference), repr(fresh), note)
    elif isinstance(reference, str) and isinstance(fresh, str):
        for difference in _string_differences(reference, fresh, by_place(where)):
            yield replace(difference, where=where)
    elif type(reference) is not type(fresh) or reference != fresh:
        yield Difference(where, _shown(reference), _shown(fresh))
