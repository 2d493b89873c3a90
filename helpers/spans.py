"""Where a piece of a prompt's text is among its tokens.

A piece is given as it stands in the prompt. Tokens do not keep to words, so the place of a piece is that
of its last token: the first at which a causal model can have read all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from transformer_lens.model_bridge import TransformerBridge

Span = str | tuple[str, int]


class Piece(NamedTuple):
    """Characters ``start`` up to ``end`` of a text."""

    start: int
    end: int


def find_span(text: str, span: Span) -> Piece:
    """The characters of a text that a span means.

    Args:
        text: where to look.
        span: the piece as it stands there; as a part of a longer word or number only if it stands
            nowhere else. If it is there more than once, say which: ``("the", 2)`` or ``"the#2"`` is the
            second, -1 the last.

    Raises:
        ValueError: if it is not there, is there more than once without a number, or less often than the
            number says.
    """
    piece, number = _piece_and_number(text, span)
    found = list(_occurrences(text, piece))
    found = [place for place in found if _is_whole(text, place)] or found
    if not found:
        raise ValueError(
            f"{piece!r} is not in it. Give the text as it stands there, or a token position."
        )
    if number is None and len(found) > 1:
        raise ValueError(
            f"{piece!r} is in it {len(found)} times: {_in_context(text, found)}. Say which: "
            f"{piece + '#1'!r} is the first, {piece + '#-1'!r} the last; or give more of the text."
        )
    number = 1 if number is None else number
    if number == 0 or abs(number) > len(found):
        raise ValueError(
            f"{piece!r} is in it {len(found)} times; there is no number {number}. They count from 1, "
            "and from the end with a minus."
        )
    return found[number - 1 if number > 0 else number]


def _piece_and_number(text: str, span: Span) -> tuple[str, int | None]:
    piece, number = (span, None) if isinstance(span, str) else span
    if (
        number is None
        and piece not in text
        and (match := re.fullmatch(r"(.+)#(-?\d+)", piece, re.DOTALL))
    ):
        piece, number = match[1], int(match[2])
    if not piece:
        raise ValueError("An empty text has no place. Give the text as it stands in the prompt.")
    return piece, number


def _occurrences(text: str, piece: str) -> Iterator[Piece]:
    start = text.find(piece)
    while start >= 0:
        yield Piece(start, start + len(piece))
        start = text.find(piece, start + 1)


def _is_whole(text: str, place: Piece) -> bool:
    """Whether no letter or digit that goes on with the piece's own stands before or after it."""
    edges = (text[place.start - 1 : place.start + 1], text[place.end - 1 : place.end + 1])
    return not any(re.fullmatch(r"\w\w", edge) for edge in edges)


def _in_context(text: str, found: list[Piece]) -> str:
    around = (text[max(0, piece.start - 8) : piece.end + 8] for piece in found)
    return ", ".join(f"#{number} in {part!r}" for number, part in enumerate(around, start=1))


def last_token_of(model: TransformerBridge, text: str, row: list[int], piece: Piece) -> int:
    """The position among a prompt's tokens of the last one that holds some of a piece of its text.

    Space at the end of a piece does not count: in most vocabularies it belongs to the next token.

    Args:
        row: the prompt's tokens, with what the model wants before the text.

    Raises:
        ValueError: if no token can be told to hold it.
    """
    shorter = text[piece.start : piece.end].rstrip()
    piece = Piece(piece.start, piece.start + len(shorter)) if shorter else piece
    offsets = _offsets(model.tokenizer, text, row)
    if offsets is None:
        return _by_reading(model.tokenizer, text, row, piece)
    before = len(row) - len(offsets)
    inside = [i for i, (start, end) in enumerate(offsets) if start < piece.end and end > piece.start]
    if not inside:
        raise ValueError(
            f"No token of it holds {text[piece.start : piece.end]!r}. Give a token position."
        )
    return before + inside[-1]


def _offsets(tokenizer: Any, text: str, row: list[int]) -> list[tuple[int, int]] | None:
    """The characters of each of the text's own tokens, where the tokenizer knows them."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    return encoded["offset_mapping"] if ids and row[-len(ids) :] == ids else None


def _by_reading(tokenizer: Any, text: str, row: list[int], piece: Piece) -> int:
    """The token with which the text, decoded from more and more tokens, has come to the piece's end.

    Characters of several tokens are not there until their last one is.
    """
    start = _beginning(tokenizer, text, row)
    for end in range(start + 1, len(row) + 1):
        if _decoded(tokenizer, row[start:end]).startswith(text[: piece.end]):
            return end - 1
    raise ValueError(
        f"{text[piece.start : piece.end]!r} cannot be found in it: its tokens do not decode to its text "
        "again. Give a token position."
    )


def _beginning(tokenizer: Any, text: str, row: list[int]) -> int:
    """How many tokens, such as one for the beginning of a sequence, stand before the text."""
    return next(
        (start for start in range(len(row)) if _decoded(tokenizer, row[start:]) == text), len(row)
    )


def _decoded(tokenizer: Any, tokens: list[int]) -> str:
    return tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
