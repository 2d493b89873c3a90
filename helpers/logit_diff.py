"""The logit difference: how much a model prefers the right answer to the wrong one.

For IOI it is the logit of the indirect object minus that of the subject, at the last token. It is the
log of the ratio of their two probabilities, so one unit is a factor of e in odds; it is linear in the
final residual stream (up to the last layer norm's scale), so it splits into a sum over components
("Interpretability in the Wild", Wang et al., 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fancy_einsum import einsum
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge

from helpers.precision import in_float
from helpers.readout import check_parts, linear_readout, normed_stack


@dataclass(frozen=True, eq=False)  # tensors do not compare to a bool
class LogitDiff:
    """The metric as an object: call it on final-position logits.

    Attributes:
        answer_tokens: (right, wrong) token ids of each prompt.
        per_prompt: give one value a prompt instead of the average.

    Example:
        >>> metric = LogitDiff(prompts.answer_tokens)
        >>> torch.equal(metric(logits[:, -1]), logit_diff(logits, prompts.answer_tokens))
        True
    """

    answer_tokens: Int[Tensor, "batch 2"]
    per_prompt: bool = False

    def __call__(
        self, final_logits: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, ""] | Float[Tensor, " batch"]:
        return logit_diff(final_logits, self.answer_tokens, per_prompt=self.per_prompt)

    def of_answers(
        self, answer_logits: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, ""] | Float[Tensor, " batch"]:
        """The metric from the logits of ``answer_tokens`` alone."""
        right, wrong = in_float(answer_logits).unbind(-1)
        return right - wrong if self.per_prompt else (right - wrong).mean()

    def directions(self, model: TransformerBridge) -> Float[Tensor, "batch d_model"]:
        """:func:`logit_diff_directions` of these answers."""
        return logit_diff_directions(model, self.answer_tokens)


def logit_diff(
    logits: Float[Tensor, "batch pos vocab"] | Float[Tensor, "batch vocab"],
    answer_tokens: Int[Tensor, "batch 2"],
    *,
    per_prompt: bool = False,
) -> Float[Tensor, ""] | Float[Tensor, " batch"]:
    """Logit of the right answer minus logit of the wrong one, at the last position.

    Args:
        logits: of all positions, or of the last one only.
        answer_tokens: (right, wrong) token ids of each prompt.
        per_prompt: give one value a prompt instead of the average over prompts.

    Returns:
        In float32 also for logits in half precision; in float64 for such logits.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> final_logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])  # [batch, vocab]
        >>> logit_diff(final_logits, torch.tensor([[1, 2], [1, 2]]), per_prompt=True)
        tensor([ 2., -1.])
    """
    if answer_tokens.ndim != 2 or answer_tokens.shape[1] != 2:
        raise ValueError(
            f"answer_tokens must be [batch, 2] (right, wrong); got {tuple(answer_tokens.shape)}."
        )
    if logits.ndim not in (2, 3) or logits.shape[0] != answer_tokens.shape[0]:
        raise ValueError(
            "logits must be [batch, pos, vocab] or [batch, vocab] with the answers' batch of "
            f"{answer_tokens.shape[0]}; got {tuple(logits.shape)}."
        )
    final_logits = logits[:, -1] if logits.ndim == 3 else logits
    right, wrong = in_float(final_logits.gather(-1, answer_tokens.to(logits.device))).unbind(-1)
    return right - wrong if per_prompt else (right - wrong).mean()


def logit_diff_directions(
    model: TransformerBridge, answer_tokens: Int[Tensor, "batch 2"]
) -> Float[Tensor, "batch d_model"]:
    """Direction in the unembedding's input whose projection is the logit difference.

    It is the right answer's column of the unembedding minus the wrong one's. The unembedding bias of
    the two answers is not a direction and not included: it belongs to no component. It cancels in the
    average over a batch in which each answer is right as often as wrong. What a model does between the
    residual stream and this input, or to its logits (a norm's weight, a scale), is not part of it
    either: :func:`residual_stack_to_logit_diff` adds it. In float32 also for a model in half precision.

    Example:
        >>> directions = logit_diff_directions(model, prompts.answer_tokens)
        >>> directions.shape == (len(prompts), model.cfg.d_model)
        True
    """
    right, wrong = in_float(model.tokens_to_residual_directions(answer_tokens)).unbind(1)
    return right - wrong


def residual_stack_to_logit_diff(
    residual_stack: Float[Tensor, "*components batch d_model"],
    cache: ActivationCache,
    directions: Float[Tensor, "batch d_model"],
    *,
    per_prompt: bool = False,
) -> Float[Tensor, " *components"] | Float[Tensor, "*components batch"]:
    """What each component of the final position's residual stream adds to the logit difference.

    The last layer norm is applied with the scale it had in the cached run ("frozen"), which makes it
    linear: parts of a residual stream then sum to the value of the whole. What this leaves out is
    that changing a component would change the scale as well. A weight that the norm has kept, and a
    number that the model multiplies its logits by, are applied; biases belong to no component.

    The first call for a model runs it on three tokens, to see that its logits are read out as is assumed
    here (:func:`helpers.readout.final_readout`).

    Args:
        residual_stack: vectors written to, or found in, the residual stream at the last position.
        cache: of the run they come from; holds the scale.
        directions: from :func:`logit_diff_directions`.
        per_prompt: keep the batch axis instead of averaging over it.

    Returns:
        In float32, or float64 for such a model.

    Raises:
        ValueError: if batch or width differ between stack and directions.
        NotImplementedError: if the model's logits are not linear in the normed stream (soft cap, or a
            layer in between); if its stream is not the sum of what its components' hooks show, and the
            stack holds something else than streams of the cached run.

    Example:
        >>> directions = logit_diff_directions(model, prompts.answer_tokens)
        >>> components = cache.decompose_resid(layer=-1, pos_slice=-1)
        >>> parts = residual_stack_to_logit_diff(components, cache, directions)
        >>> torch.allclose(parts.sum(), logit_diff(logits, prompts.answer_tokens), atol=1e-3)
        True
    """
    if residual_stack.shape[-2:] != directions.shape:
        raise ValueError(
            "The last two axes of residual_stack must be [batch, d_model] = "
            f"{tuple(directions.shape)}; got {tuple(residual_stack.shape)}."
        )
    components = residual_stack.shape[:-2]
    flat = residual_stack.reshape(-1, *directions.shape)
    readout = linear_readout(cache.model)
    check_parts(flat, cache)
    scaled = normed_stack(flat, cache)
    directions = directions.to(scaled)
    values = einsum("component batch d_model, batch d_model -> component batch", scaled, directions)
    values = values.reshape(*components, len(directions)) * readout.scale
    return values if per_prompt else values.mean(-1)


def normalise(
    value: Float[Tensor, "..."], *, clean: float | Tensor, corrupted: float | Tensor
) -> Float[Tensor, "..."]:
    """Rescale a metric so that 0 is the corrupted run's value and 1 is the clean run's.

    Values in half precision are taken to float32 first.

    Raises:
        ValueError: if the two runs do not differ, so that there is nothing to restore.

    Example:
        >>> normalise(torch.tensor([-2.0, 0.0, 2.0]), clean=2.0, corrupted=-2.0)
        tensor([0.0000, 0.5000, 1.0000])
    """
    clean, corrupted = (in_float(v) if isinstance(v, Tensor) else v for v in (clean, corrupted))
    value, span = in_float(value), torch.as_tensor(clean - corrupted)
    if not bool((span != 0).all()):
        raise ValueError(f"clean and corrupted both measure {clean}: no effect to normalise by.")
    return (value - corrupted) / span.to(value)
