"""Greater-than: "The war lasted from the year 1743 to the year 17" goes on with a year after 1743.

The task and its circuit in GPT-2 small are those of "How does GPT-2 compute greater-than?" (Hanna et
al., 2023, arXiv 2305.00586); sentences and code are our own. In the corrupted prompt the span begins in
the year 1701, after which every year of the century is right.

What the model can say next depends on its tokenizer. GPT-2 writes years in pairs of digits: right are
the tokens "44" to "99", and wrong "00" to "42". SmolLM2 writes them digit by digit: it says the decade
first, and right are "5" to "9", wrong "0" to "3". The start itself, which could be either, is on neither
side.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from transformer_lens.model_bridge import TransformerBridge

from helpers.answers import Combine
from helpers.sampling import (
    balanced_draw,
    blanks_of,
    check_count,
    mixed_base,
    of_commonest_length,
    of_one_length,
    possible_draws,
    single_tokens,
)
from helpers.task import Task
from helpers.tokenizing import prompt_rows

BLANKS = ("noun", "start", "century")
FIRST_YEAR = "01"  # of the corrupted prompt, in its century


@dataclass(frozen=True)
class GreaterThanWords:
    """What prompts are made of.

    Attributes:
        frames: sentences with ``{noun}``, ``{start}`` for a year of four digits, and at the end
            ``{century}`` for its first two; each after a space.
        nouns: what lasts for years, without their leading space.
        centuries: first two digits of the years.

    Example:
        >>> frames = ("The {noun} lasted from {start} to {century}",)
        >>> len(GreaterThanWords(frames, nouns=("war", "siege")).centuries)
        7
    """

    frames: tuple[str, ...]
    nouns: tuple[str, ...]
    centuries: tuple[str, ...] = tuple(map(str, range(11, 18)))


ENGLISH = GreaterThanWords(
    frames=(
        "The {noun} lasted from the year {start} to the year {century}",
        "The {noun} went on from the year {start} to {century}",
        "The {noun} ran from the year {start} until the year {century}",
        "A long {noun} began in the year {start} and ended in {century}",
    ),
    nouns=(
        *("war", "siege", "famine", "drought", "plague", "conflict", "dispute", "crisis", "reign"),
        *("rebellion", "expedition", "journey", "project", "construction", "trial", "contract"),
        *("partnership", "tradition", "experiment", "marriage", "campaign", "occupation", "alliance"),
        *("ceasefire", "revolution", "voyage", "friendship", "investigation", "celebration", "debate"),
    ),
)


@dataclass(frozen=True)
class Numbers:
    """How a tokenizer writes years after a century's two digits.

    Attributes:
        digits: how many digits the first token has: 2 for pairs, 1 if each has its own.
        years: of each start year that can be asked for, the (right, wrong) endings.

    Example:
        >>> Numbers(digits=1, years={"1713": (["2", "3"], ["0"])}).years["1713"]
        (['2', '3'], ['0'])
    """

    digits: int
    years: dict[str, tuple[list[str], list[str]]]


def sample_greater_than(
    model: TransformerBridge,
    count: int,
    *,
    seed: int,
    words: GreaterThanWords = ENGLISH,
    combine: Combine = "summed probability",
    prepend_bos: bool | None = None,
) -> Task:
    """Different prompts of one length, with start years from every decade equally often.

    Decades take turns, so any slice is balanced too. Roles: "noun", "century" (the start year's first
    two digits), and "start" (what follows them: the pair of digits, or the decade's).

    Args:
        model: gives the tokenizer. Nouns that are not one token are left out, frames of another length
            than most, and years that the tokenizer does not part after the century.
        count: how many prompts.
        seed: of the drawing, which nothing else moves.
        words: other sentences, nouns or centuries.
        combine: how the right years, and the wrong ones, become one number each
            (:mod:`helpers.answers`). The task's ``combined_by("mean logit")`` is linear, for
            attribution.
        prepend_bos: as for :meth:`helpers.task.Task.from_prompts`.

    Raises:
        ValueError: if a frame has other blanks, the tokenizer does not write years in single digits or
            pairs, or there are fewer prompts than asked for.

    Example:
        >>> task = sample_greater_than(model, 16, seed=0)
        >>> list(task.positions)
        ['noun', 'century', 'start', 'end']
        >>> year, (right, wrong) = task.labels[0], task.answers[0]  # one digit a token, in this model
        >>> year[2] not in [*right, *wrong] and right[0] > year[2] > wrong[-1]
        True
    """
    _check_frames(words.frames)
    nouns = single_tokens(model, "nouns", words.nouns, at_least=1)
    example = {"noun": nouns[0], "start": "1743", "century": "17"}
    frames = of_commonest_length(model, {frame: frame.format(**example) for frame in words.frames})
    numbers = numbers_of(model, frames[0].replace("{noun}", nouns[0]), words.centuries)

    by_decade: dict[str, list[str]] = {}
    for year in sorted(numbers.years, key=lambda year: (year[2], year)):
        by_decade.setdefault(year[2], []).append(year)
    decades = list(by_decade.values())
    sizes = [(len(frames), len(nouns), len(years)) for years in decades]
    cells = [a * b * c for a, b, c in sizes]
    what = f"{len(numbers.years)} start years, {len(nouns)} nouns and {len(frames)} frames of one length"
    check_count(count, possible_draws(cells), what)
    rows = []
    for decade, cell in balanced_draw(random.Random(seed), cells, count):
        which = mixed_base(cell, sizes[decade])
        rows.append((frames[which[0]], nouns[which[1]], decades[decade][which[2]]))
    task = Task.from_prompts(
        model,
        clean=[_filled(*row) for row in rows],
        corrupted=[_filled(frame, noun, year[:2] + FIRST_YEAR) for frame, noun, year in rows],
        right=[numbers.years[year][0] for _, _, year in rows],
        wrong=[numbers.years[year][1] for _, _, year in rows],
        roles={
            "noun": [(noun, 1) for _, noun, _ in rows],
            "century": [_up_to_year(*row, digits=2) for row in rows],
            "start": [_up_to_year(*row, digits=2 + numbers.digits) for row in rows],
        },
        labels=[year for _, _, year in rows],
        combine=combine,
        prepend_bos=prepend_bos,
    )
    return of_one_length(task)


def _filled(frame: str, noun: str, start: str) -> str:
    return frame.format(noun=noun, start=start, century=start[:2])


def _up_to_year(frame: str, noun: str, start: str, *, digits: int) -> tuple[str, int]:
    """The text from the beginning up to so many digits of the start year, as a role's place."""
    return frame.partition("{start}")[0].format(noun=noun) + start[:digits], 1


def numbers_of(model: TransformerBridge, frame: str, centuries: Sequence[str]) -> Numbers:
    """Which years this tokenizer can be asked for, and how it writes their ends.

    Args:
        frame: a sentence with ``{start}`` and ``{century}``.
        centuries: first two digits of the years.

    Raises:
        ValueError: if it writes no year in pairs of digits, or digit by digit.

    Example:
        >>> frame = "The war lasted from the year {start} to the year {century}"
        >>> numbers = numbers_of(model, frame, ["17"])
        >>> numbers.years["1743"]  # this model writes one digit a token
        (['5', '6', '7', '8', '9'], ['0', '1', '2', '3'])
    """
    found = {1: Numbers(1, {}), 2: Numbers(2, {})}
    for century in centuries:
        parts = _parts_after_century(model, frame, century)
        for digits, numbers in found.items():
            starts = [year for year, part in parts.items() if part == (digits,) * (2 // digits)]
            if century + FIRST_YEAR in starts:
                endings = _endings(model, frame, century, digits)
                sides = {year: _sides(year[2 : 2 + digits], endings) for year in starts}
                del sides[century + FIRST_YEAR]  # the corrupted prompt's own
                numbers.years.update({year: both for year, both in sides.items() if all(both)})
    best = max(found.values(), key=lambda numbers: len(numbers.years))
    if not best.years:
        [row] = prompt_rows(model, [f"in {centuries[0]}43"])
        pieces = [model.tokenizer.decode([token]) for token in row]
        raise ValueError(
            f"{model.cfg.model_name} writes 'in {centuries[0]}43' as {pieces}. Greater-than needs years "
            "that are parted after the century, in pairs of digits or digit by digit: choose another "
            "model or task."
        )
    return best


def _parts_after_century(
    model: TransformerBridge, frame: str, century: str
) -> dict[str, tuple[int, ...]]:
    """Of every start year, how many digits its tokens have that come after the century's own.

    None, if a token goes across.
    """
    before = frame.partition("{start}")[0]
    years = [f"{century}{year:02}" for year in range(100)]
    [start] = prompt_rows(model, [before + century])
    rows = prompt_rows(model, [before + year for year in years])
    return {
        year: tuple(len(model.tokenizer.decode([token])) for token in row[len(start) :])
        if row[: len(start)] == start
        else ()
        for year, row in zip(years, rows, strict=True)
    }


def _sides(start: str, endings: Sequence[str]) -> tuple[list[str], list[str]]:
    return [end for end in endings if end > start], [end for end in endings if end < start]


def _endings(model: TransformerBridge, frame: str, century: str, digits: int) -> list[str]:
    """What can come next in one token of so many digits, without being drawn into the century's own."""
    prompt = frame.format(start=century + FIRST_YEAR, century=century)
    endings = [f"{number:0{digits}}" for number in range(10**digits)]
    [row] = prompt_rows(model, [prompt])
    # A whole year follows: of "17" and "4", one token could be made, and of "17" and "43" none.
    wholes = prompt_rows(model, [prompt + ending.ljust(2, "0") for ending in endings])
    return [
        ending
        for ending, whole in zip(endings, wholes, strict=True)
        if whole[: len(row)] == row and model.tokenizer.decode(whole[len(row) : len(row) + 1]) == ending
    ]


def _check_frames(frames: Sequence[str]) -> None:
    if not frames:
        raise ValueError("words.frames is empty: give at least one sentence.")
    for frame in frames:
        found = blanks_of(frame)
        if found != [(" ", blank) for blank in BLANKS] or not frame.endswith("{century}"):
            raise ValueError(
                "A frame needs {noun}, {start} and at its end {century}, once each, in this order and "
                f"after a space; got {frame!r}."
            )
