"""Printing for readers: lines that fit where a notebook is read."""

from __future__ import annotations

import textwrap

# GitHub cuts what is much longer, in outputs and in code.
COLUMNS = 100


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


def fold_cell(text: str, width: int) -> list[str]:
    """A table cell's text in lines of at most ``width`` characters; one longer word stands alone."""
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return lines or [""]
