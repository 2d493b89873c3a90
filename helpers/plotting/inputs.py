"""What a plot is given: values and labels, checked; and which of them to write out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

Values = torch.Tensor | np.ndarray | Sequence[Any]


def as_array(values: Values, what: str, dims: tuple[int, ...] | None = None) -> np.ndarray:
    """The values as float32; refused if empty, not finite, or of other dimensions than `dims`."""
    if isinstance(values, torch.Tensor):
        values = values.detach().float().cpu().numpy()
    elif isinstance(values, (list, tuple)):
        values = [as_array(v, what) if isinstance(v, torch.Tensor) else v for v in values]
    array = np.asarray(values, dtype=np.float32)
    if dims is not None and array.ndim not in dims:
        wanted = " or ".join(str(d) for d in dims)
        raise ValueError(f"{what} must have {wanted} dimensions; got shape {array.shape}.")
    if array.size == 0:
        raise ValueError(f"{what} is empty (shape {array.shape}): nothing to plot.")
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f"{what} holds NaN or infinity, first at index {where}; plot finite values only."
        )
    return array


def as_labels(labels: Sequence[str] | None, length: int, what: str) -> list[str]:
    """One label for each of `length` things, refused if there are more or fewer; by default indices."""
    if labels is None:
        return [str(i) for i in range(length)]
    if len(labels) != length:
        raise ValueError(f"{what} must have {length} entries, one for each; got {len(labels)}.")
    return [str(label) for label in labels]


def largest(values: np.ndarray, count: int) -> list[int]:
    """Indices of the values of largest magnitude; ties go to the first."""
    return np.argsort(-np.abs(values), kind="stable")[:count].tolist()


def thin(labels: Sequence[str], most: int) -> dict[int, str]:
    """Every label if they fit on an axis, else every second, third, ..."""
    step = -(-len(labels) // max(most, 1))
    return {i: labels[i] for i in range(0, len(labels), step)}
