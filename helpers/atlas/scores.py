"""What a score is: samples of one number for every head, a null, and a docstring that says the rest.

A score's docstring is its entry in the schema. It says what the score means, and then has four fields,
each beginning a line with its name: ``Formula:``, ``Range:``, ``Null:`` and ``Source:``. An example may
follow.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

FIELDS = ("Formula", "Range", "Null", "Source")


@dataclass(frozen=True, eq=False)  # tensors do not compare to a bool
class Measured:
    """A score, measured.

    Attributes:
        samples: one value for each sample: a row of tokens, a token, a pair of prompts. A score that is
            exact, because it is read off the weights, has one sample.
        null: what a head that knows nothing would score: for attention, one that spreads it evenly.

    Example:
        >>> measured = Measured(samples=torch.tensor([[[0.0]], [[1.0]]]), null=0.1)
        >>> measured.value, measured.error
        (tensor([[0.5000]]), tensor([[0.5000]]))
    """

    samples: Float[Tensor, "sample layer head"]
    null: float

    @property
    def value(self) -> Float[Tensor, "layer head"]:
        return self.samples.mean(0)

    @property
    def error(self) -> Float[Tensor, "layer head"]:
        """Standard error of the mean over samples; zero for an exact score."""
        count = len(self.samples)
        if count == 1:
            return torch.zeros_like(self.samples[0])
        return self.samples.std(0) / count**0.5


def describe(function: Callable[..., Any]) -> dict[str, str]:
    """``meaning``, ``formula``, ``range``, ``null`` and ``source`` of a score, from its docstring.

    Raises:
        ValueError: if a field is missing.

    Example:
        >>> from helpers.atlas.attention import induction
        >>> describe(induction)["source"]
        'Olsson et al. 2022, In-context Learning and Induction Heads.'
    """
    text = inspect.getdoc(function) or ""
    text = re.split(r"^Examples?:$", text, flags=re.MULTILINE)[0]
    parts = re.split(rf"^({'|'.join(FIELDS)}): ", text, flags=re.MULTILINE)
    entry = {"meaning": parts[0], **dict(zip(map(str.lower, parts[1::2]), parts[2::2], strict=True))}
    missing = [field for field in FIELDS if field.lower() not in entry]
    if missing:
        name = getattr(function, "__name__", function)
        raise ValueError(f"The docstring of {name} lacks {', '.join(missing)}.")
    return {name: " ".join(part.split()) for name, part in entry.items()}


def how_many(holds: Bool[Tensor, "row other"]) -> Int[Tensor, " row"]:
    """In how many places of each row something holds.

    Example:
        >>> how_many(torch.tensor([[True, False, True]]))
        tensor([2], dtype=torch.int32)
    """
    return holds.sum(1, dtype=torch.int32)  # by itself PyTorch adds in 64 bits, several times as slowly


def centred_rank(
    values: Float[Tensor, "row other"], own: Float[Tensor, " row"]
) -> Float[Tensor, " row"]:
    """Where each row's own value stands in the row it is of: 1 largest, -1 smallest, 0 in the middle.

    Ties count half, so a row of equal values gives 0.

    Example:
        >>> values = torch.tensor([[1.0, 2.0, 3.0]])
        >>> centred_rank(values, torch.tensor([3.0])), centred_rank(values, torch.tensor([2.0]))
        (tensor([1.]), tensor([0.]))
    """
    larger, smaller = how_many(values > own[:, None]), how_many(values < own[:, None])
    return (smaller - larger) / (values.shape[1] - 1)
