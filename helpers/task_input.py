"""What a task is made from: lists or a table, looked through before anything is computed.

Every refusal names the prompt, says what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.spans import Span, find_span, last_token_of
from helpers.tokenizing import shortened

Side = str | tuple[str, ...]  # one answer, or several
Place = Span | int
Role = Place | Sequence[Place]

COLUMNS = ("clean", "corrupted", "right", "wrong")
ROLE, POSITION, LABEL = "role:", "position:", "label"


def read_table(
    table: pd.DataFrame | str | PathLike[str], separator: str | None = None
) -> dict[str, Any]:
    """A table's columns, as ``Task.from_prompts`` takes them.

    Args:
        table: a frame, or the path of a CSV file, in which every cell is read as text.
        separator: what stands between the answers of a group in one cell; ``None`` if a cell of text is
            one answer.

    Raises:
        ValueError: naming them, if columns are missing or a cell is empty.
    """
    if not isinstance(table, pd.DataFrame):
        # As text: answers like "17", "NA" or " None" are no numbers and not missing.
        table = pd.read_csv(table, dtype=str, keep_default_na=False)
    if missing := [column for column in COLUMNS if column not in table]:
        raise ValueError(
            f"The table has no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, table.columns))}. Columns: {', '.join(COLUMNS)}; and, if you like, "
            f"{ROLE}NAME (a text in the prompt), {POSITION}NAME (a token position), {LABEL}."
        )
    columns: dict[str, Any] = {column: _cells(table, column) for column in COLUMNS}
    if separator is not None:
        for side in ("right", "wrong"):
            columns[side] = [
                cell.split(separator) if isinstance(cell, str) else cell for cell in columns[side]
            ]
    columns["roles"] = _roles_of(table)
    columns["labels"] = _cells(table, LABEL) if LABEL in table else None
    return columns


def _roles_of(table: pd.DataFrame) -> dict[str, list[Place]]:
    roles: dict[str, list[Place]] = {}
    for column in map(str, table.columns):
        kind, name = next(
            ((kind, column.removeprefix(kind)) for kind in (ROLE, POSITION) if column.startswith(kind)),
            ("", ""),
        )
        if name in roles:
            raise ValueError(
                f"The role {name!r} has two columns; give its text or its position, not both."
            )
        if kind:
            cells = _cells(table, column)
            roles[name] = [int(cell) for cell in cells] if kind == POSITION else cells
    return roles


def _cells(table: pd.DataFrame, column: str) -> list[Any]:
    cells = table[column].tolist()
    for row, cell in enumerate(cells):
        if cell is None or cell == "" or (isinstance(cell, float) and np.isnan(cell)):
            raise ValueError(
                f"The cell of column {column!r} in row {row} is empty. Fill it or drop the row."
            )
    return cells


def texts(what: str, given: Sequence[str], count: int | None = None) -> list[str]:
    """A list of texts, one a prompt, as ``what`` should be.

    Raises:
        TypeError: if it is something else, such as a single text.
        ValueError: if it is empty, or not of this count.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"{what} must be a list with one text a prompt; got {given!r}.")
    found = list(given)
    for number, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(f"{what} must be texts; number {number} is {text!r}.")
    _check_count(what, len(found), count)
    return found


def sides(what: str, given: Sequence[str | Sequence[str]], count: int) -> list[tuple[str, ...]]:
    """The right or wrong answers of each prompt, one or several.

    Raises:
        TypeError: if something else than one text, or several, stands for a prompt.
        ValueError: if there are not as many as prompts, or a prompt has none.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(
            f"{what} must be a list with the answer to each prompt, or a list of its answers; got "
            f"{given!r}."
        )
    found = []
    for number, side in enumerate(given):
        answers = tuple(side) if isinstance(side, Iterable) and not isinstance(side, str) else (side,)
        if not answers:
            raise ValueError(f"{what} has no answer to prompt {number}; each prompt needs at least one.")
        if not all(isinstance(answer, str) for answer in answers):
            raise TypeError(f"{what} must be texts; for prompt {number} there is {side!r}.")
        found.append(answers)
    _check_count(what, len(found), count)
    return found


def _check_count(what: str, found: int, count: int | None) -> None:
    if found == 0 or count not in (None, found):
        expected = "at least one" if count is None else f"one for each of the {count} clean prompts"
        raise ValueError(f"{what} has {found} entries; expected {expected}.")


def check_answers_differ(
    prompts: Sequence[str],
    right: Sequence[Sequence[int]],
    wrong: Sequence[Sequence[int]],
    answers: Sequence[tuple[Sequence[str], Sequence[str]]],
) -> None:
    """Refuse an answer that is on both sides, or twice on one.

    Args:
        right, wrong: token ids of each prompt's answers.
        answers: the same as texts, (right, wrong) of each prompt.

    Raises:
        ValueError: naming the first prompt with one.
    """
    for number, ids in enumerate(zip(right, wrong, strict=True)):
        everything = [*ids[0], *ids[1]]
        names = [*answers[number][0], *answers[number][1]]
        twice = [
            name for name, token in zip(names, everything, strict=True) if everything.count(token) > 1
        ]
        if twice:
            raise ValueError(
                f"The answers to prompt {number} ({shortened(prompts[number])}) must all be different "
                f"tokens; {' and '.join(map(repr, twice[:2]))} are one. A right answer that is also "
                "wrong cancels out."
            )


def check_prompts_differ(
    clean: Sequence[str], rows: Sequence[list[int]], corrupted_rows: Sequence[list[int]]
) -> None:
    """Refuse a prompt that is its own corrupted variant.

    Raises:
        ValueError: naming the first such prompt.
    """
    for number, pair in enumerate(zip(rows, corrupted_rows, strict=True)):
        if pair[0] == pair[1]:
            raise ValueError(
                f"Prompt {number} ({shortened(clean[number])}) and its corrupted variant are the same: "
                "there is nothing to restore. Change what the right answer depends on."
            )


def role_positions(
    model: TransformerBridge,
    prompts: Sequence[str],
    rows: Sequence[list[int]],
    roles: Mapping[str, Role],
    last: str,
) -> dict[str, list[int]]:
    """Where each prompt has each role, among its own tokens.

    Args:
        roles: by name, a place for all prompts, or a list with one for each. A place is a text as it
            stands in the prompt, a text with its number (:func:`helpers.spans.find_span`), or a token
            position, from the end if negative.
        last: the name that the last token has, and no role may have.

    Raises:
        ValueError: naming role and prompt, if a prompt has no such place, or not one for each prompt.
        TypeError: if a place is none of these.
    """
    if last in roles:
        raise ValueError(f"The role {last!r} is every prompt's last token already; choose another name.")
    found: dict[str, list[int]] = {}
    for name, role in roles.items():
        places = _one_a_prompt(name, role, len(prompts))
        found[name] = []
        for number, place in enumerate(places):
            try:
                found[name].append(_position(model, prompts[number], rows[number], place))
            except (ValueError, TypeError) as error:
                raise type(error)(
                    f"Role {name!r} in prompt {number} ({shortened(prompts[number], 200)}): {error}"
                ) from error
    return {**found, last: [len(row) - 1 for row in rows]}


def _one_a_prompt(name: str, role: Any, count: int) -> list[Any]:
    numbered = (
        isinstance(role, tuple) and len(role) == 2 and isinstance(role[0], str) and _is_number(role[1])
    )
    if isinstance(role, str) or numbered or _is_number(role):
        return [role] * count
    if not isinstance(role, Iterable):
        raise TypeError(
            f"Role {name!r} must be a text, a token position, or a list of them; got {role!r}."
        )
    places = role.tolist() if isinstance(role, Tensor | np.ndarray | pd.Series) else list(role)
    if len(places) != count:
        raise ValueError(
            f"Role {name!r} has {len(places)} places for {count} prompts; give one, or {count}."
        )
    return places


def _is_number(place: Any) -> bool:
    return isinstance(place, Integral) and not isinstance(place, bool)


def _position(model: TransformerBridge, prompt: str, row: list[int], place: Any) -> int:
    if _is_number(place):
        if not -len(row) <= place < len(row):
            raise ValueError(f"there is no token {place}; it has {len(row)}, counted from 0.")
        return int(place) % len(row)
    if not isinstance(place, str) and not (isinstance(place, tuple) and len(place) == 2):
        raise TypeError(f"expected a text, (text, number) or a token position; got {place!r}.")
    return last_token_of(model, prompt, row, find_span(prompt, place))
