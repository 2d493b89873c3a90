"""Printing for readers: lines that fit where a notebook is read."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Protocol

# GitHub cuts what is much longer, in outputs and in code.
COLUMNS = 100


class NamedValue(Protocol):
    """A name and a value measured for it, as :class:`helpers.head_scores.Head` has them.

    Example:
        >>> from helpers.head_scores import Head
        >>> head: NamedValue = Head(9, 6, 1.25)
        >>> head.name, head.value
        ('L9H6', 1.25)
    """

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> float: ...


def say(text: str) -> None:
    """Print sentences in lines of at most 100 characters, the width that GitHub shows.

    Line breaks in the text are kept. A line that begins with spaces keeps its indentation where it is
    broken, and a list item (``- …``) hangs.

    Example:
        >>> say("- Heads that move the name: " + "L9H9, " * 12 + "and no other.")
        - Heads that move the name: L9H9, L9H9, L9H9, L9H9, L9H9, L9H9, L9H9, L9H9, L9H9, L9H9, L9H9,
          L9H9, and no other.
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
    """Names and values of heads, such as ``L0H1 +0.500, L1H0 -0.200``, that no line break parts.

    Example:
        >>> from helpers.head_scores import Head
        >>> listing([Head(0, 1, 0.5), Head(1, 0, -0.2)]).split()
        ['L0H1', '+0.500,', 'L1H0', '-0.200']
    """
    return ", ".join(f"{head.name}\N{NO-BREAK SPACE}{head.value:+.3f}" for head in heads)


def enumerated(names: Iterable[str], none: str = "none") -> str:
    """``a``, ``a and b`` or ``a, b and c``; for an empty list, ``none``.

    Example:
        >>> enumerated(["L0H1", "L1H0", "L2H3"])
        'L0H1, L1H0 and L2H3'
    """
    *others, last = list(names) or [none]
    return f"{', '.join(others)} and {last}" if others else last


def short_identity(identity: str | None) -> str:
    """An identity as a sentence names it.

    Example:
        >>> short_identity("sha256 0123456789abcdef")
        'sha256 0123456789ab…'
    """
    if identity is None:
        return "unknown"
    kind, _, digest = identity.rpartition(" ")
    return f"{kind} {digest[:12]}…"
