"""Digits that are names, not quantities: versions, dates, times, addresses, head labels, formats.

A quantity carries noise and compares with a tolerance. A name does not: version 4.3.1 is not nearly
4.3.0, and head 9.8 is not nearly head 9.9. `spans` finds names in running text, by their form
(2026-03-01, v4.3.0, arXiv:2211.00593, %{z:.4f}) or by the word before them (head 9.9, Python 3.11,
Figure 2.3). What has neither, such as 2.24 alone, is a quantity. A label of one decimal that stands
alone in a figure (`is_label`), or as a text in quotes ('9.9'), is a name too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Span = tuple[int, int]

# layer.head as the IOI paper writes it: 9.9, 10.10. No leading zero: 0.05 is no head.
_HEAD = r"\d{1,2}\.(?:0|[1-9]\d?)(?![\w%]|\.\d|\s?%)"
_JOINED = r"(?:\s?(?:,\s?and\b|,|/|→|->|&|;|\+|\band\b|\bor\b|\bto\b)\s?)"
_PRE_RELEASE = r"(?:[.-]?(?:rc|alpha|beta|a|b|dev|post)[.-]?\d+)"

# Each is a whole name, the word that makes it one included. Alternatives: the first that fits counts.
_FORMS = {
    "an address": r"\b(?:https?|ftp|file)://[^\s<>\"'\\]+",
    "a DOI": r"\b10\.\d{4,9}/[^\s<>\"'\\]+",
    "an arXiv id": (
        r"\b(?i:arxiv)(?:\.org)?[\s:./]*(?:abs/|pdf/)?\d{4}\.\d{4,5}(?:v\d+)?(?!\d)"
        r"|(?<![\w.+-])\d\d(?:0[1-9]|1[0-2])\.\d{5}(?:v\d+)?(?![\w.]*\d)"
    ),
    "a date": (
        r"(?<![\w.])\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)"
        r"|(?<![\w.+-])(?:19|20)\d\d\.(?:0[1-9]|1[0-2])(?![\w.]*\d)"
        r"|(?<![\w.+-])(?:0[1-9]|1[0-2])\.(?:19|20)\d\d(?![\w.]*\d)"
        r"|(?<![\w.])\d{1,2}\.\d{1,2}\.(?=\s*(?:19|20)\d\d)"
    ),
    "a time of day": (
        r"(?<![\w.:])\d{1,2}:[0-5]\d(?::[0-5]\d)?(?:\.\d+)?(?![\w:])"
        r"|(?<![\w.])\d{1,2}\.[0-5]\d(?=\s?(?:[ap]\.?m\b|Uhr\b|o'clock))"
    ),
    "a random or hashed id": (
        r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|(?<![\w.+-])(?=\d*[a-f])[0-9a-f]{7,64}(?![\w.+-])"
    ),
    "a format": (
        r"[%$]\{[^{}\s]*\}"  # %{z:.4f} of Plotly, ${x} of a template
        r"|\{[^{}\s'\"]*:[^{}\s'\"]*\.\d+[a-zA-Z%]\}"  # {x:6.2f}
        r"|(?<![\w%])%[-+#0]*\d*\.\d+[a-zA-Z](?!\w)"  # %6.2f
    ),
    "a version": (
        rf"(?<![\w.])v?\d+(?:\.\d+){{2,}}{_PRE_RELEASE}?(?:\+\w[\w.]*)?(?!\w)"
        rf"|(?<![\w.])v\d+\.\d+{_PRE_RELEASE}?"
        rf"|(?<![\w.])\d+\.\d+{_PRE_RELEASE}(?!\w)"
        r"|(?<![\w.])\d+\.\d+\+(?:cu|cpu|rocm|git)\w*"
        r"|(?<=\w)(?:\[[\w,]*\])?(?:==|~=)\d+(?:\.\d+)+"  # torch==2.9
        r"|(?<=\w\w)(?:\[[\w,]*\])?(?:>=|<=|!=)\d+\.\d{1,2}(?!\d)"  # torch>=2.6; p>=0.951 is none
        r"|\b(?i:versions?|release|python|cuda|cudnn|rocm|driver)(?:\s?[:=]\s?|\s)v?\d+\.\d+(?!\d)"
        r"|\b(?i:torch|pytorch|numpy|pandas|scipy|plotly|transformers|jax|matplotlib|ubuntu|debian|macos"
        r"|gpt|llama|qwen|gemma|phi|mistral|claude|olmo|glm|granite|apache|gpl|lgpl|cc[ -]by(?:-\w\w)*)"
        r"[ ]\d+\.\d(?![\w%]|\.\d|\s?%)"
    ),
    "a size in a model's name": r"(?<![\w.+-])\d+\.\d+[bB]\b",
    "a numbered part": (
        r"(?:\b(?i:sections?|sec\.|figures?|figs?\.|tables?|chapters?|appendix|equations?|eqs?\."
        r"|theorem|lemma|algorithm|exercise)|§)\s?\(?\d+\.\d+(?!\d|\.\d)"
    ),
    "a file": r"(?<![\w.+-])\d+(?:\.\d+)+\.[^\W\d]\w*",
    "a text in quotes": r"(?<!\w)'\d{1,2}\.\d'(?!\w)",
    "a head": rf"(?<!per )(?<!each )(?<!by )(?<!any )(?<!one )\b(?i:head)\s#?{_HEAD}",
    "a head in brackets": rf"\b(?i:head)s?\s?[(\[]{_HEAD}(?:{_JOINED}{_HEAD})*[)\]]",
}
_NAME = re.compile("|".join(f"(?:{pattern})" for pattern in _FORMS.values()))
# A letter first, then dots and hyphens: Qwen2.5-0.5B, phi-1.5, blocks.9.5, L9.9.
_IDENTIFIER = re.compile(r"(?<![\w.])[^\W\d]\w*(?:[.-]\w+)+")
_DIFFERENCE = re.compile(r"-\d+\.\d{2,}$")  # x-0.50 ends in a minus and a quantity
# "heads 9.9, 9.6 and 10.10": names if one has a single decimal; "heads 0.31, 0.22" are two values.
_HEADS = re.compile(rf"\b(?i:heads)(?:\s?:\s?|\s(?:are\s)?){_HEAD}(?:{_JOINED}{_HEAD})*")
_ONE_DECIMAL = re.compile(r"(?<![\d.])\d{1,2}\.\d(?![\d.]*\d)")

# A table whose first column is called so is a table of names.
NAME_COLUMN = re.compile(
    r"\s*(?:layer\.?)?(?:heads?|names?|labels?|versions?|components?|models?|dates?|times?|ids?)\s*",
    re.IGNORECASE,
)
_FIRST_COLUMN = re.compile(r"[|│┃\s]*(?P<cell>\S+(?:[ ]\S+)*)")
_ROW_LABEL = re.compile(rf"[|│┃\s]*(?P<label>{_HEAD})(?=\s|[|│┃])")


def _row_labels(text: str) -> Iterator[Span]:
    """9.9 at the start of a row, in a printed table whose first column is called head or the like."""
    of_names, at = False, 0
    for line in text.splitlines(keepends=True):
        first = _FIRST_COLUMN.match(line)
        if not line.strip():
            of_names = False
        elif first and NAME_COLUMN.fullmatch(first["cell"].split("|")[0].split("  ")[0]):
            of_names = True
        elif of_names and (label := _ROW_LABEL.match(line)):
            yield at + label.start("label"), at + label.end("label")
        at += len(line)


def _identifiers(text: str) -> Iterator[Span]:
    for match in _IDENTIFIER.finditer(text):
        name = _DIFFERENCE.sub("", match.group())
        if re.search(r"[.-]\w*\d", name):
            yield match.start(), match.start() + len(name)


def spans(text: str) -> list[Span]:
    """Where in a text its names are, in order and apart from each other."""
    found = [match.span() for match in _NAME.finditer(text) if re.search(r"\d", match.group())]
    found += [m.span() for m in _HEADS.finditer(text) if _ONE_DECIMAL.search(m.group())]
    found += [*_identifiers(text), *_row_labels(text)]
    apart: list[Span] = []
    for start, end in sorted(found):
        if apart and start < apart[-1][1]:
            apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
        else:
            apart.append((start, end))
    return apart


_BARE_NUMBER = re.compile(r"\s*[-+−]?\d+\.\d+\s*")
_BARE_HEAD = re.compile(r"\s*\d{1,2}\.\d\s*")


def is_label(text: str, at_a_label: bool) -> bool:
    """Whether a text in a figure, or a header in a table, is a number that names something.

    Args:
        text: the whole text.
        at_a_label: whether it stands where only names stand: a tick, a category, a column's header.
            Elsewhere, such as in a hover text, only what looks like a head (9.9) is a name.
    """
    return bool((_BARE_NUMBER if at_a_label else _BARE_HEAD).fullmatch(text))
