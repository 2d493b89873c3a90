"""Printing for readers: lines that fit where a notebook is read."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Protocol

# GitHub cuts what is much longer, in outputs and in code.
COLUMNS = 100


class NamedValue(Protocol):
    """A name and a value measured for it, as :class:`helpers.head_scores.Head` has them."""

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> float: ...


def say(text: str) -> None:
    """Print sentences in lines of at most 100 characters, the width that GitHub shows.

    Line breaks in the text are kept. A line that begins with spaces keeps its indentation where it is
    broken, and a list item (``- …``) hangs.
    """
    print("\n".join(_folded(line) for line in text.split("\n")))


def _folded(line: str) -> str:
    bare = line.lstrip()
    indent = " " * (len(line) - len(bare) + (2 if bare.startswith("- ") else 0))
    # A hyphen is more often a minus or part of a name here than a place to break.
    return textwrap.fill(
        line, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def listing(heads: Iterable[NamedValue]) -> str:
    """Names and values of heads, such as ``L0H1 +0.500, L1H0 -0.200``, that no line break parts."""
    return ", ".join(f"{head.name}\N{NO-BREAK SPACE}{head.value:+.3f}" for head in heads)


def enumerated(names: Iterable[str], none: str = "none") -> str:
    """``a``, ``a and b`` or ``a, b and c``; for an empty list, ``none``."""
    *others, last = list(names) or [none]
    return f"{', '.join(others)} and {last}" if others else last


def short_identity(identity: str | None) -> str:
    """An identity as a sentence names it."""
    if identity is None:
        return "unknown"
    kind, _, digest = identity.rpartition(" ")
    return f"{kind} {digest[:12]}…"
