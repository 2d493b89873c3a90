"""Docstrings: arguments are documented in the order of the signature.

After ``def load(self, path, size, mode, key)`` and two lines ":param path: …", ":param size: …", a third
":param" goes on with " mode". The task and a circuit for it in a four-layer attention-only model are
those of "A circuit for Python docstrings" (Heimersheim & Janiak, 2023); the code here is our own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformer_lens.model_bridge import TransformerBridge

from helpers.sampling import (
    balanced_draw,
    blanks_of,
    check_count,
    distinct,
    mixed_base,
    of_commonest_length,
    of_one_length,
    possible_draws,
    single_tokens,
)
from helpers.task import Task

Against = Literal["first", "fourth"]
ARGUMENTS = ("first", "second", "third", "fourth")
BLANKS = ("name", *ARGUMENTS, "thing", "adjective", "noun", "other_adjective", "other_noun")


@dataclass(frozen=True)
class DocstringWords:
    """What prompts are made of.

    Attributes:
        frames: functions that document two of four arguments and begin with the next, with blanks for
            ``{name}``, the arguments ``{first}`` to ``{fourth}``, and ``{thing}``, ``{adjective}``,
            ``{noun}``, ``{other_adjective}``, ``{other_noun}``, each after a space.
        names: of functions.
        arguments: names of arguments, which no other list has.
        things, adjectives, nouns: what fills the documentation.

    Example:
        >>> from dataclasses import replace
        >>> fewer = replace(ENGLISH, arguments=("file", "path", "size", "mode"))
        >>> sorted(sample_docstrings(model, 1, seed=0, words=fewer).labels[0].split(", "))
        ['file', 'mode', 'path', 'size']
    """

    frames: tuple[str, ...]
    names: tuple[str, ...]
    arguments: tuple[str, ...]
    things: tuple[str, ...]
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]


SIGNATURE = "def {name}(self, {first}, {second}, {third}, {fourth}):\n"

ENGLISH = DocstringWords(
    frames=(
        SIGNATURE + '    """Work on the {thing}.\n\n'
        "    :param {first}: the {adjective} {noun}\n"
        "    :param {second}: the {other_adjective} {other_noun}\n"
        "    :param",
        SIGNATURE + '    """Look at a {thing}.\n\n'
        "    :param {first}: its {adjective} {noun}\n"
        "    :param {second}: its {other_adjective} {other_noun}\n"
        "    :param",
        SIGNATURE + '    """Deal with one {thing}.\n\n'
        "    :param {first}: a {adjective} {noun}\n"
        "    :param {second}: some {other_adjective} {other_noun}\n"
        "    :param",
    ),
    names=("load", "save", "draw", "send", "read", "find", "move", "build", "clean", "check"),
    arguments=(
        *("file", "path", "size", "color", "data", "text", "key", "value", "index", "width", "height"),
        *("start", "end", "source", "target", "user", "token", "host", "port", "mode", "level", "title"),
        *("label", "count", "speed", "angle", "time", "date", "score", "state", "weight", "limit"),
        *("depth", "length", "order", "code"),
    ),
    things=("house", "river", "garden", "story", "letter", "animal", "market", "bridge"),
    adjectives=("old", "new", "main", "plain", "usual", "given", "small", "common", "proper", "whole"),
    nouns=("window", "paper", "machine", "engine", "village", "winter", "forest", "island"),
)


def sample_docstrings(
    model: TransformerBridge,
    count: int,
    *,
    seed: int,
    against: Against = "fourth",
    words: DocstringWords = ENGLISH,
    prepend_bos: bool | None = None,
) -> Task:
    """Different prompts of one length whose next word is the function's third argument.

    In the corrupted prompt the third argument and the one that it is measured against trade places, so
    that the answers do. Against the fourth, nothing but the order of the two in the signature tells them
    apart; against the first, it is enough to know which one has been documented.

    Frames take turns, so any slice is balanced too. Roles: "first" to "fourth" in the signature, and
    "first again" and "second again" where they are documented.

    Args:
        model: gives the tokenizer. Words that are not one token after a space are left out, and frames
            of another length than most.
        count: how many prompts.
        seed: of the drawing, which nothing else moves.
        against: the argument that is the wrong answer.
        words: other functions.
        prepend_bos: as for :meth:`helpers.task.Task.from_prompts`.

    Raises:
        ValueError: if a frame has other blanks, there are too few words, a word is in two lists, there
            are fewer prompts than asked for, or ``against`` is another argument.

    Example:
        >>> task = sample_docstrings(model, 9, seed=0)
        >>> arguments = task.labels[0].split(", ")
        >>> task.answers[0] == (f" {arguments[2]}", f" {arguments[3]}")
        True
    """
    if against not in ("first", "fourth"):
        raise ValueError(f'against must be "first" or "fourth"; got {against!r}.')
    _check_words(words)
    arguments = single_tokens(model, "arguments", words.arguments, at_least=4)
    names = single_tokens(model, "names", words.names, at_least=1)
    things = single_tokens(model, "things", words.things, at_least=1)
    adjectives = single_tokens(model, "adjectives", words.adjectives, at_least=2)
    nouns = single_tokens(model, "nouns", words.nouns, at_least=2)
    example = _blanks(arguments[:4], names[0], things[0], adjectives[:2], nouns[:2])
    frames = of_commonest_length(model, {frame: frame.format(**example) for frame in words.frames})

    n = len(arguments)
    sizes = (
        *(n, n - 1, n - 2, n - 3, len(names), len(things)),
        *(len(adjectives), len(adjectives) - 1, len(nouns), len(nouns) - 1),
    )
    cells = [math.prod(sizes)] * len(frames)
    check_count(count, possible_draws(cells), f"{len(frames)} frames of one length and {n} arguments")
    clean, corrupted, chosen = [], [], []
    for number, cell in balanced_draw(random.Random(seed), cells, count):
        digits = mixed_base(cell, sizes)
        order = distinct(arguments, digits[:4])
        rest = (
            *(names[digits[4]], things[digits[5]]),
            *(distinct(adjectives, digits[6:8]), distinct(nouns, digits[8:])),
        )
        clean.append(frames[number].format(**_blanks(order, *rest)))
        corrupted.append(frames[number].format(**_blanks(_traded(order, against), *rest)))
        chosen.append(order)
    task = Task.from_prompts(
        model,
        clean=clean,
        corrupted=corrupted,
        right=[f" {order[2]}" for order in chosen],
        wrong=[f" {order[ARGUMENTS.index(against)]}" for order in chosen],
        roles={
            **{role: [(order[i], 1) for order in chosen] for i, role in enumerate(ARGUMENTS)},
            **{f"{ARGUMENTS[i]} again": [(order[i], 2) for order in chosen] for i in (0, 1)},
        },
        labels=[", ".join(order) for order in chosen],
        prepend_bos=prepend_bos,
    )
    return of_one_length(task)


def _blanks(
    order: Sequence[str], name: str, thing: str, adjectives: Sequence[str], nouns: Sequence[str]
) -> dict[str, str]:
    fillers = (thing, adjectives[0], nouns[0], adjectives[1], nouns[1])
    return dict(zip(BLANKS, (name, *order, *fillers), strict=True))


def _traded(order: Sequence[str], against: Against) -> list[str]:
    """The third argument and another in each other's place."""
    traded, other = list(order), ARGUMENTS.index(against)
    traded[2], traded[other] = traded[other], traded[2]
    return traded


def _check_words(words: DocstringWords) -> None:
    if not words.frames:
        raise ValueError("words.frames is empty: give at least one function.")
    for frame in words.frames:
        found = blanks_of(frame)
        if sorted(blank for _, blank in found) != sorted([*BLANKS, "first", "second"]):
            raise ValueError(
                f"A frame needs {', '.join(f'{{{blank}}}' for blank in BLANKS)} once each, and "
                f"{{first}} and {{second}} twice; got {frame!r}."
            )
        if any(before != " " for before, _ in found):
            raise ValueError(f"Every blank must follow a space, as its token does; got {frame!r}.")
    others = {*words.names, *words.things, *words.adjectives, *words.nouns}
    if common := others.intersection(words.arguments):
        raise ValueError(f"No argument may be another word of a prompt too; {sorted(common)} are.")
