"""Capitals: "The capital of France is the city of" goes on with " Paris".

The answer is not in the prompt: the model has to know it. The corrupted prompt names another country,
whose capital is the wrong answer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from transformer_lens.model_bridge import TransformerBridge

from helpers.sampling import (
    balanced_draw,
    check_count,
    is_single_token,
    of_commonest_length,
    of_one_length,
    possible_draws,
)
from helpers.task import Task


@dataclass(frozen=True)
class CapitalWords:
    """What prompts are made of.

    Attributes:
        frames: sentences with ``{country}``, once and after a space, that end where its capital is due.
        capitals: of each country, both without their leading space.

    Example:
        >>> words = CapitalWords(("We visited {country} and saw",), {"France": "Paris", "Italy": "Rome"})
        >>> words.capitals["Italy"]
        'Rome'
    """

    frames: tuple[str, ...]
    capitals: Mapping[str, str] = field(hash=False)


ENGLISH = CapitalWords(
    frames=(
        "The capital of {country} is the city of",
        "Everyone who visits {country} sees its capital,",
        "Ask anyone in {country}: its capital is",
        "People who visit {country} see its capital,",
        "The map of {country} shows its capital,",
        "We visited {country} and saw its capital,",
        "Everyone knows that {country} has its capital in",
    ),
    capitals={
        **{"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Egypt": "Cairo", "Spain": "Madrid"},
        **{"Germany": "Berlin", "Russia": "Moscow", "China": "Beijing", "England": "London"},
        **{"Greece": "Athens", "Austria": "Vienna", "Poland": "Warsaw", "Ireland": "Dublin"},
        **{"Cuba": "Havana", "Peru": "Lima", "Kenya": "Nairobi", "Portugal": "Lisbon"},
        **{"Sweden": "Stockholm", "Norway": "Oslo", "Denmark": "Copenhagen", "Finland": "Helsinki"},
        **{"Hungary": "Budapest", "Belgium": "Brussels", "Iran": "Tehran", "Iraq": "Baghdad"},
        **{"Syria": "Damascus", "Thailand": "Bangkok", "Vietnam": "Hanoi", "Canada": "Ottawa"},
        **{"Chile": "Santiago", "India": "Delhi", "Lebanon": "Beirut", "Bulgaria": "Sofia"},
        **{"Serbia": "Belgrade", "Romania": "Bucharest", "Australia": "Canberra", "Libya": "Tripoli"},
        **{"Afghanistan": "Kabul", "Jamaica": "Kingston", "Scotland": "Edinburgh", "Wales": "Cardiff"},
        **{"Philippines": "Manila", "Indonesia": "Jakarta", "Qatar": "Doha", "Tunisia": "Tunis"},
    },
)


def sample_capitals(
    model: TransformerBridge,
    count: int,
    *,
    seed: int,
    words: CapitalWords = ENGLISH,
    prepend_bos: bool | None = None,
) -> Task:
    """Different prompts of one length, in which every country is asked for equally often.

    Countries take turns, so any slice is balanced too. The one role is "country".

    Args:
        model: gives the tokenizer. Countries and capitals that are not one token are left out, and
            frames of another length than most.
        count: how many prompts.
        seed: of the drawing, which nothing else moves.
        words: other sentences or countries.
        prepend_bos: as for :meth:`helpers.task.Task.from_prompts`.

    Raises:
        ValueError: if a frame has no ``{country}`` after a space, there are fewer than two countries
            that can be asked for, or fewer prompts than asked for.

    Example:
        >>> task = sample_capitals(model, 44, seed=0)
        >>> task.labels[:2], [right for right, _ in task.answers[:2]]
        (['France', 'Italy'], [' Paris', ' Rome'])
    """
    for sentence in words.frames:
        if sentence.count(" {country}") != 1 or sentence.count("{") != 1:
            raise ValueError(f"A frame must have {{country}} once, after a space; got {sentence!r}.")
    countries = [
        country
        for country, capital in words.capitals.items()
        if is_single_token(model, country) and is_single_token(model, capital)
    ]
    if len(countries) < 2 or not words.frames:
        raise ValueError(
            f"{len(countries)} of {len(words.capitals)} countries are one token of "
            f"{model.cfg.model_name}, and so is their capital, for {len(words.frames)} frames; two "
            "countries and a frame are needed."
        )
    filled = {frame: frame.format(country=countries[0]) for frame in words.frames}
    frames = of_commonest_length(model, filled)
    cells = [len(frames)] * len(countries)
    what = f"{len(countries)} countries and {len(frames)} frames of one length"
    check_count(count, possible_draws(cells), what)
    generator = random.Random(seed)
    rows = []
    for number, frame in balanced_draw(generator, cells, count):
        country = countries[number]
        other = generator.choice([name for name in countries if name != country])
        rows.append((frames[frame], country, other))
    task = Task.from_prompts(
        model,
        clean=[frame.format(country=country) for frame, country, _ in rows],
        corrupted=[frame.format(country=other) for frame, _, other in rows],
        right=[f" {words.capitals[country]}" for _, country, _ in rows],
        wrong=[f" {words.capitals[other]}" for _, _, other in rows],
        roles={"country": [country for _, country, _ in rows]},
        labels=[country for _, country, _ in rows],
        prepend_bos=prepend_bos,
    )
    return of_one_length(task)
