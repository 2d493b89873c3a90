"""Indirect Object Identification prompts by the hundred.

After the dataset of "Interpretability in the Wild" (Wang et al., 2022, arXiv 2211.00593), with our own
sentences: every prompt names two people, repeats one of them (the subject), and ends where the other
(the indirect object) is due. Names, places and objects are drawn at random.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.ioi.prompts import check_names_appear, equal_length_tokens, ioi_task, name_positions
from helpers.rows import Rows, row_numbers
from helpers.sampling import (
    balanced_draw,
    blanks_of,
    check_count,
    mixed_base,
    of_commonest_length,
    possible_draws,
    single_tokens,
)
from helpers.task import Task

ORDERS = ("ABBA", "BABA")
FIELDS = ("first", "second", "place", "subject", "object")
NAMES_A_PROMPT = 5  # two that it mentions, three for its corrupted variants


@dataclass(frozen=True)
class IOIWords:
    """What prompts are made of.

    Attributes:
        frames: sentences with ``{first}`` and ``{second}`` for the two names, ``{subject}`` for the
            repeated one, ``{place}`` and ``{object}``, each once, and each after a space.
        names: without their leading space.
        places: likewise.
        objects: likewise.

    Example:
        >>> words = IOIWords(
        ...     frames=("In the {place}, {first} and {second} met. {subject} gave a {object} to",),
        ...     names=("John", "Mary", "Tom", "Amy", "Adam"),
        ...     places=("park", "school"),
        ...     objects=("book",),
        ... )
        >>> sample_ioi(model, 4, seed=0, words=words).frames == words.frames
        True
    """

    frames: tuple[str, ...]
    names: tuple[str, ...]
    places: tuple[str, ...]
    objects: tuple[str, ...]


ENGLISH = IOIWords(
    frames=(
        "When {first} and {second} went to the {place}, {subject} gave the {object} to",
        "After {first} and {second} met at the {place}, {subject} handed the {object} to",
        "While {first} and {second} worked at the {place}, {subject} passed the {object} to",
        "Once {first} and {second} arrived at the {place}, {subject} offered a {object} to",
        "Today {first} and {second} came to the {place}. {subject} brought a {object} to",
        "In the {place}, {first} and {second} talked. {subject} gave a {object} to",
        "Our friends {first} and {second} left the {place}; {subject} lent the {object} to",
        "Later {first} and {second} found the {place}, and {subject} gave the {object} to",
    ),
    names=(
        *("Adam", "Alan", "Alex", "Alice", "Amanda", "Amy", "Andrew", "Anna", "Anthony", "Arthur"),
        *("Ben", "Brian", "Carl", "Charles", "Chris", "Christina", "Daniel", "David", "Diana", "Edward"),
        *("Elizabeth", "Emily", "Emma", "Eric", "George", "Helen", "Henry", "Jack", "James", "Jane"),
        *("Jason", "Jennifer", "Jessica", "John", "Joseph", "Julia", "Karen", "Kate", "Kevin", "Laura"),
        *("Lisa", "Louis", "Lucy", "Maria", "Martin", "Mary", "Matthew", "Michael", "Michelle", "Nancy"),
        *("Patrick", "Paul", "Peter", "Rachel", "Richard", "Robert", "Ruth", "Ryan", "Sam", "Sarah"),
        *(
            "Scott",
            "Simon",
            "Stephen",
            "Steven",
            "Susan",
            "Thomas",
            "Tom",
            "Victoria",
            "Walter",
            "William",
        ),
    ),
    places=(
        *("bank", "beach", "church", "farm", "garden", "hospital", "hotel", "house", "kitchen"),
        *("library", "market", "museum", "office", "park", "restaurant", "school", "station", "store"),
    ),
    objects=(
        *("bag", "ball", "basket", "book", "bottle", "box", "camera", "card", "coat", "computer", "cup"),
        *("drink", "gift", "guitar", "hat", "key", "letter", "map", "paper", "phone", "picture", "ring"),
    ),
)


@dataclass(frozen=True)
class IOISample:
    """Prompts of one length in tokens, with their corrupted variants.

    Attributes:
        prompts: the texts.
        answers: (indirect object, subject) of each prompt, with their leading spaces.
        tokens: the prompts as token ids, beginning-of-sequence token included.
        answer_tokens: token ids of ``answers``.
        other_tokens: token ids of three names that the prompt does not mention.
        order: of each prompt: "ABBA" if the indirect object comes first, "BABA" if the subject does.
        frame: of each prompt, its number in ``frames``.
        frames: the sentences used.

    Example:
        >>> sample = sample_ioi(model, 16, seed=0)
        >>> sample.order[:2]
        ['ABBA', 'BABA']
        >>> (sample.tokens != sample.swapped_subject).sum(1).unique()  # one token differs
        tensor([1])
    """

    prompts: list[str]
    answers: list[tuple[str, str]]
    tokens: Int[Tensor, "batch pos"]
    answer_tokens: Int[Tensor, "batch 2"]
    other_tokens: Int[Tensor, "batch 3"]
    order: list[str]
    frame: Int[Tensor, " batch"]
    frames: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: Rows) -> IOISample:
        """Some of the prompts, in the order given.

        Args:
            rows: as for :func:`helpers.rows.row_numbers`, whose errors this raises.
        """
        rows = row_numbers(rows, len(self))
        chosen = {}
        for name in (field.name for field in fields(self)):
            values = getattr(self, name)
            if isinstance(values, Tensor):
                values = values[rows]
            elif name != "frames":
                values = [values[row] for row in rows]
            chosen[name] = values
        return IOISample(**chosen)

    @cached_property
    def positions(self) -> dict[str, Int[Tensor, " batch"]]:
        """Where each prompt names indirect object ("IO") and subject ("S1", "S2"), and its "end"."""
        return name_positions(self.tokens, self.answer_tokens)

    @property
    def swapped_subject(self) -> Int[Tensor, "batch pos"]:
        """The other name is repeated, so that the answers trade places. One token differs."""
        return self._with_names(S2=self.answer_tokens[:, 0])

    @property
    def third_name(self) -> Int[Tensor, "batch pos"]:
        """A third name stands where the subject was repeated (A, B, C), and no name is the answer."""
        return self._with_names(S2=self.other_tokens[:, 0])

    @property
    def random_names(self) -> Int[Tensor, "batch pos"]:
        """Three names that are not the prompt's at all three places, the paper's ABC distribution."""
        first, second, third = self.other_tokens.unbind(1)
        return self._with_names(IO=first, S1=second, S2=third)

    def task(self, model: TransformerBridge, corrupted_tokens: Int[Tensor, "batch pos"]) -> Task:
        """The sample as a task, with one of its corrupted variants.

        Args:
            model: the one that it was sampled for.
            corrupted_tokens: such as ``sample.third_name``.
        """
        decode = model.tokenizer.decode
        return ioi_task(
            prompts=self.prompts,
            corrupted_prompts=[decode(row, skip_special_tokens=True) for row in corrupted_tokens],
            answers=self.answers,
            tokens=self.tokens,
            corrupted_tokens=corrupted_tokens,
            answer_tokens=self.answer_tokens,
            str_tokens=[model.to_str_tokens(row) for row in self.tokens],
        )

    def strangers(self, seed: int, orders: Collection[str] = ("same", "other")) -> list[int]:
        """For each prompt the row of another, drawn at random, that names neither of its people.

        Args:
            seed: of the generator, which is used for nothing else.
            orders: whether that prompt may have the "same" order (ABBA or BABA), the "other", or both.

        Raises:
            ValueError: if there is no such prompt for one of them, or an order has another name.
        """
        if not orders or not {*orders} <= {"same", "other"}:
            raise ValueError(f'orders must be "same", "other" or both; got {orders!r}.')
        generator = random.Random(seed)
        named = list(zip(self.answers, self.order, strict=True))
        rows = []
        for row, (pair, order) in enumerate(named):
            allowed = [
                number
                for number, (other, other_order) in enumerate(named)
                if not {*pair} & {*other} and ("same" if order == other_order else "other") in orders
            ]
            if not allowed:
                raise ValueError(
                    f"No prompt of the sample is a stranger to prompt {row} ({self.prompts[row]!r}); "
                    "draw a larger sample."
                )
            rows.append(generator.choice(allowed))
        return rows

    def _with_names(self, **names: Int[Tensor, " batch"]) -> Int[Tensor, "batch pos"]:
        tokens = self.tokens.clone()
        for where, name in names.items():
            tokens.scatter_(1, self.positions[where][:, None], name[:, None])
        return tokens


def sample_ioi(
    model: TransformerBridge, count: int, *, seed: int, words: IOIWords | None = None
) -> IOISample:
    """Draw different prompts, evenly over frames and over the orders ABBA and BABA.

    Only names, places and objects are used that are one token of the model, and only frames of the
    commonest length, so that all prompts have the same number of tokens. The same seed gives the same
    prompts on every machine, whatever else draws random numbers. Consecutive rows run through all
    frames and orders, so that a slice of the sample is balanced too.

    Args:
        model: gives the tokenizer and the device.
        count: how many.
        seed: of the generator, which is used for nothing else.
        words: what the prompts are made of; ``None`` for ``ENGLISH``.

    Raises:
        ValueError: if a frame lacks a field; if too few words are one token; if fewer prompts are
            possible than asked for, with the number that is.

    Example:
        >>> sample = sample_ioi(model, 100, seed=0)
        >>> len(set(sample.prompts)), sample.answer_tokens.shape
        (100, torch.Size([100, 2]))
    """
    words = words or ENGLISH
    _check_frames(words.frames)
    names = single_tokens(model, "names", words.names, at_least=NAMES_A_PROMPT)
    places = single_tokens(model, "places", words.places, at_least=1)
    objects = single_tokens(model, "objects", words.objects, at_least=1)
    blanks = {"first": names[0], "second": names[1], "subject": names[0]}
    filled = {f: f.format(**blanks, place=places[0], object=objects[0]) for f in words.frames}
    frames = of_commonest_length(model, filled)

    strata = [(frame, order) for frame in range(len(frames)) for order in ORDERS]
    sizes = (len(names), len(names) - 1, len(places), len(objects))
    cells = [math.prod(sizes)] * len(strata)
    check_count(
        count,
        possible_draws(cells),
        f"{model.cfg.model_name}: {len(frames)} frames of one length x 2 orders x {sizes[0]} x "
        f"{sizes[1]} names x {sizes[2]} places x {sizes[3]} objects",
    )
    generator = random.Random(seed)
    prompts, answers, others, orders, frame_numbers = [], [], [], [], []
    for stratum, cell in balanced_draw(generator, cells, count):
        frame, order = strata[stratum]
        first, second, place, thing = mixed_base(cell, sizes)
        pair = names[first], [name for name in names if name != names[first]][second]
        indirect_object, subject = pair if order == "ABBA" else pair[::-1]
        prompts.append(
            frames[frame].format(
                first=pair[0],
                second=pair[1],
                subject=subject,
                place=places[place],
                object=objects[thing],
            )
        )
        answers.append((f" {indirect_object}", f" {subject}"))
        others.append(generator.sample([f" {name}" for name in names if name not in pair], 3))
        orders.append(order)
        frame_numbers.append(frame)

    tokens = equal_length_tokens(model, prompts)
    answer_tokens = _token_ids(model, answers).to(tokens.device)
    check_names_appear(prompts, answers, tokens, answer_tokens)
    return IOISample(
        prompts=prompts,
        answers=answers,
        tokens=tokens,
        answer_tokens=answer_tokens,
        other_tokens=_token_ids(model, others).to(tokens.device),
        order=orders,
        frame=torch.tensor(frame_numbers, device=tokens.device),
        frames=frames,
    )


def _check_frames(frames: Sequence[str]) -> None:
    if not frames:
        raise ValueError("words.frames is empty: give at least one sentence.")
    for frame in frames:
        found = blanks_of(frame)
        if sorted(field for _, field in found) != sorted(FIELDS):
            wanted = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise ValueError(f"Expected {wanted} once each in a frame; got {frame!r}.")
        if any(before != " " for before, _ in found):
            raise ValueError(f"Every field must follow a space, as its token does; got {frame!r}.")


def _token_ids(model: TransformerBridge, rows: Sequence[Sequence[str]]) -> Int[Tensor, "row name"]:
    ids = {
        name: int(model.to_tokens(name, prepend_bos=False)[0, 0])
        for name in dict.fromkeys(name for row in rows for name in row)
    }
    return torch.tensor([[ids[name] for name in row] for row in rows])
