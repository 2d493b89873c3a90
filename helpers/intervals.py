"""How far a mean, or a share, over prompts can be trusted: confidence intervals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import binomtest, bootstrap
from torch import Tensor

from helpers.precision import in_float


class Interval(NamedTuple):
    """A value and the ends of its confidence interval, each of the same shape.

    Example:
        >>> print(Interval(torch.tensor(0.5), torch.tensor(0.4), torch.tensor(0.625)))
        +0.50 [+0.40, +0.62]
    """

    value: Tensor
    low: Tensor
    high: Tensor

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"

    def at(self, *index: int) -> Interval:
        """One cell."""
        return Interval(*(part[index] for part in self))

    def plain(self) -> tuple[float, float, float]:
        """A single one's three numbers."""
        return self.value.item(), self.low.item(), self.high.item()


def stack_intervals(cells: Iterable[Interval]) -> Interval:
    """Intervals of one shape as one, along a new first axis, as for a figure.

    Example:
        >>> one = Interval(torch.tensor(0.5), torch.tensor(0.25), torch.tensor(0.75))
        >>> stack_intervals([one, one]).low
        tensor([0.2500, 0.2500])
    """
    return Interval(*(torch.stack(parts) for parts in zip(*cells, strict=True)))


def mean_interval(
    values: Float[Tensor, "*cells prompt"],
    relative_to: Float[Tensor, " prompt"] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean over prompts with a percentile bootstrap interval; with ``relative_to``, a ratio of means.

    The prompts are drawn again and again with replacement, each with all that was measured on it. The
    interval says what other prompts *of the same kind* would give, and nothing about other kinds. A
    share that is 1 on every prompt has an interval of no width, however few the prompts.

    Args:
        values: one for each prompt, which is the last axis.
        relative_to: what the mean is divided by the mean of, such as the logit difference.
        confidence: that the interval is made for, between 0 and 1.
        resamples: how many times the prompts are drawn again.
        seed: of the drawing; the same values and seed give the same interval.

    Raises:
        ValueError: for fewer than two prompts, values that are not finite, or sizes that differ.

    Example:
        >>> interval = mean_interval(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        >>> interval.value, bool(interval.low < interval.value < interval.high)
        (tensor(2.5000), True)
    """
    if values.ndim == 0 or values.shape[-1] < 2:
        raise ValueError(f"An interval needs at least two prompts; got values {tuple(values.shape)}.")
    data = [values] if relative_to is None else [values, relative_to.expand_as(values)]
    arrays = [part.detach().double().cpu().numpy() for part in data]
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("values hold NaN or infinity; give finite values only.")

    def statistic(top: np.ndarray, *bottom: np.ndarray, axis: int) -> np.ndarray:
        mean = top.mean(axis)
        return mean / bottom[0].mean(axis) if bottom else mean

    result = bootstrap(
        arrays,
        statistic,
        paired=True,
        vectorized=True,
        axis=-1,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=max(1, 2**21 // arrays[0].size),  # resamples at once: some tens of megabytes
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    ends = result.confidence_interval
    parts = statistic(*arrays, axis=-1), ends.low, ends.high
    return Interval(*(torch.as_tensor(part, dtype=in_float(values).dtype) for part in parts))


def share_interval(hits: Bool[Tensor, " prompt"], *, confidence: float = 0.95) -> Interval:
    """Share of prompts of which something is true, with a Wilson score interval.

    Unlike the bootstrap's, it has a width where all prompts agree: three right out of three could be
    luck.

    Raises:
        ValueError: for no prompts.

    Example:
        >>> print(share_interval(torch.tensor([True, True, True])))
        +1.00 [+0.44, +1.00]
    """
    if not hits.numel():
        raise ValueError("A share needs at least one prompt; got none.")
    count = int(hits.sum())
    ends = binomtest(count, hits.numel()).proportion_ci(confidence, method="wilson")
    share = count / hits.numel()
    return Interval(*(torch.tensor(part, dtype=torch.float32) for part in (share, ends.low, ends.high)))
