"""Drawing prompts by lot: seeded, balanced, and only from words that a tokenizer can carry."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import TypeVar

from transformer_lens.model_bridge import TransformerBridge

from helpers.task import Task
from helpers.tokenizing import is_unknown

Key = TypeVar("Key")


def single_tokens(
    model: TransformerBridge, what: str, words: Sequence[str], *, at_least: int
) -> list[str]:
    """The words that are one token after a space, each once, in their order.

    Raises:
        ValueError: saying what they are for, if they are fewer than ``at_least``.
    """
    single = [word for word in dict.fromkeys(words) if is_single_token(model, word)]
    if len(single) < at_least:
        raise ValueError(
            f"{len(single)} of {len(words)} {what} are one token of {model.cfg.model_name}, leading "
            f"space included; at least {at_least} are needed. Give more in words.{what}."
        )
    return single


def is_single_token(model: TransformerBridge, word: str) -> bool:
    """Whether a word after a space is one token, and not the one for words that are not known."""
    return token_count(model, f" {word}") == 1 and not is_unknown(model, f" {word}")


def token_count(model: TransformerBridge, text: str) -> int:
    """How many tokens a text has, without one for the beginning."""
    return model.to_tokens(text, prepend_bos=False).shape[1]


def of_commonest_length(model: TransformerBridge, filled: Mapping[Key, str]) -> tuple[Key, ...]:
    """The keys of the texts that have the commonest length in tokens; in a tie, that of the first.

    Args:
        filled: by key, such as a sentence with blanks, a text that stands for what will be made of it.
    """
    lengths = {key: token_count(model, text) for key, text in filled.items()}
    commonest = Counter(lengths.values()).most_common(1)[0][0]
    return tuple(key for key, length in lengths.items() if length == commonest)


def blanks_of(frame: str) -> list[tuple[str, str]]:
    """The blanks of a sentence in order, as ``{name}``, each with the letter that stands before it."""
    pieces = Formatter().parse(frame)
    return [(text[-1:], blank) for text, blank, *_ in pieces if blank is not None]


def possible_draws(sizes: Sequence[int]) -> int:
    """How many rows :func:`balanced_draw` can give."""
    return min((size * len(sizes) + number for number, size in enumerate(sizes)), default=0)


def balanced_draw(generator: random.Random, sizes: Sequence[int], count: int) -> list[tuple[int, int]]:
    """For each row a stratum, and a cell of it that no other row has.

    Strata take turns, so that any slice of the rows has each equally often, give or take one.

    Args:
        generator: drawn from; the same state gives the same rows everywhere.
        sizes: how many cells each stratum has.
        count: of rows, up to :func:`possible_draws`.
    """
    shares = [len(range(number, count, len(sizes))) for number in range(len(sizes))]
    drawn = [generator.sample(range(size), share) for size, share in zip(sizes, shares, strict=True)]
    return [(row % len(sizes), drawn[row % len(sizes)][row // len(sizes)]) for row in range(count)]


def mixed_base(number: int, sizes: Sequence[int]) -> list[int]:
    """A number's digits in a mixed base: every combination of choices has its own number."""
    digits = []
    for size in reversed(sizes):
        number, digit = divmod(number, size)
        digits.append(digit)
    return digits[::-1]


def check_count(count: int, possible: int, what: str) -> None:
    """Refuse more different prompts than there are.

    Raises:
        ValueError: saying what there is.
    """
    if not 0 < count <= possible:
        raise ValueError(
            f"Asked for {count} different prompts; from 1 to {possible} are possible for {what}."
        )


def distinct(words: Sequence[str], digits: Sequence[int]) -> list[str]:
    """Words without repetition: each digit chooses among those that are left."""
    left = list(words)
    return [left.pop(digit) for digit in digits]


def of_one_length(task: Task) -> Task:
    """The task, once it is known that positions can be compared in it.

    Raises:
        ValueError: naming two prompts, if they or their corrupted variants differ in length.
    """
    _ = task.tokens, task.corrupted_tokens
    return task
