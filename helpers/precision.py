"""The precision that results are computed in."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, float32, float64
from transformer_lens.model_bridge import TransformerBridge


def in_float(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The same values in float32 if they are in half precision; float32 and float64 stay."""
    return values if values.dtype in (float32, float64) else values.float()


def precision_of(model: TransformerBridge) -> torch.dtype:
    """Of the weights; the configuration may name another one than the model has that came with it."""
    return model.W_U.dtype


def rounding_of(dtype: torch.dtype) -> float:
    """Relative, of one operation; at least float32's, in which some norms compute in float64 too."""
    return max(torch.finfo(dtype).eps, torch.finfo(float32).eps)
