"""Choosing prompts of a batch, as NumPy would index a vector."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor

Rows = Iterable[int] | Iterable[bool] | slice | np.ndarray | Tensor


def row_numbers(rows: Rows, count: int) -> list[int]:
    """The numbers, from 0, of the rows that an index chooses among ``count``.

    Args:
        rows: whole numbers, negative ones counted from the end, or a Boolean for every row (lists,
            arrays, tensors), a range or a slice.
        count: how many rows there are.

    Raises:
        IndexError: if a row is not there, or Booleans are more or fewer than the rows.
        TypeError: if the rows are anything else, a single number among them.
    """
    if isinstance(rows, slice):
        return list(range(count))[rows]
    if isinstance(rows, Tensor):
        rows = rows.cpu().numpy()
    if isinstance(rows, str) or not isinstance(rows, Iterable):
        raise TypeError(
            f"Rows are chosen by a vector of whole numbers or Booleans, or a slice; got {rows!r}. "
            "For one prompt give a list of one number."
        )
    index = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows))
    if index.size == 0 and index.dtype == float:  # of an empty list
        index = index.astype(int)
    if index.ndim != 1 or index.dtype.kind not in "biu":
        raise TypeError(
            f"Rows are chosen by a vector of whole numbers or Booleans; this one has shape "
            f"{index.shape} and type {index.dtype}."
        )
    if index.dtype.kind == "b" and len(index) != count:
        raise IndexError(f"{len(index)} Booleans for {count} prompts; each prompt needs one.")
    return np.arange(count)[index].tolist()
