"""Right answers against wrong ones, where each side may be several tokens.

A task with one right and one wrong answer is measured by :class:`helpers.logit_diff.LogitDiff`. Where
several tokens are right (every year after 1743), a side's tokens have to be combined, in one of two
ways:

- "summed probability": log of the summed probability of the right answers minus that of the wrong ones.
  It asks what the model would say. It is not linear in the residual stream.
- "mean logit": average logit of the right answers minus that of the wrong ones. It is linear, so that it
  splits into a sum over components as a logit difference does.

For a single token each side both are the logit difference. Greater-than is measured by summed
probability in "How does GPT-2 compute greater-than?" (Hanna et al., 2023, arXiv 2305.00586), as a
difference instead of a ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.logit_diff import LogitDiff
from helpers.precision import in_float

Combine = Literal["summed probability", "mean logit"]
NO_ANSWER = -1  # fills up the smaller groups


@dataclass(frozen=True, eq=False)  # tensors do not compare to a bool
class GroupDiff:
    """Right answers minus wrong ones, several tokens each; call it on final-position logits.

    Attributes:
        answer_tokens: token ids of each prompt's right answers and of its wrong ones; -1 fills up groups
            that have fewer than the largest one.
        combine: how a side's tokens become one number, in logits: see the module.
        per_prompt: give one value a prompt instead of the average.

    Raises:
        ValueError: if the shape is another, a group is empty, or there is no such way to combine.

    Example:
        >>> answers = torch.tensor([[[0, 1], [2, -1]]])  # two right answers, one wrong one
        >>> logits = torch.tensor([[3.0, 1.0, 0.5]])
        >>> GroupDiff(answers, "mean logit")(logits)
        tensor(1.5000)
    """

    answer_tokens: Int[Tensor, "batch 2 answer"]
    combine: Combine
    per_prompt: bool = False

    def __post_init__(self) -> None:
        if self.combine not in get_args(Combine):
            raise ValueError(f"combine must be one of {get_args(Combine)}; got {self.combine!r}.")
        shape = tuple(self.answer_tokens.shape)
        if len(shape) != 3 or shape[1] != 2:
            raise ValueError(f"answer_tokens must be [batch, 2 (right, wrong), answer]; got {shape}.")
        if not bool(self._there.any(-1).all()):
            raise ValueError(
                "Each prompt needs at least one right and one wrong answer; a group is empty."
            )

    @property
    def _there(self) -> Tensor:
        return self.answer_tokens != NO_ANSWER

    def __call__(
        self, final_logits: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, ""] | Float[Tensor, " batch"]:
        tokens = self.answer_tokens.clamp(min=0).flatten(1).to(final_logits.device)
        return self.of_answers(final_logits.gather(-1, tokens).reshape(self.answer_tokens.shape))

    def of_answers(
        self, answer_logits: Float[Tensor, "batch 2 answer"]
    ) -> Float[Tensor, ""] | Float[Tensor, " batch"]:
        """The metric from the logits of ``answer_tokens`` alone; any number for those that are not
        there.

        What turns logits into probabilities is the same on both sides and falls out.
        """
        logits, there = in_float(answer_logits), self._there.to(answer_logits.device)
        if self.combine == "summed probability":
            right, wrong = logits.masked_fill(~there, -torch.inf).logsumexp(-1).unbind(-1)
        else:
            right, wrong = (logits.masked_fill(~there, 0).sum(-1) / there.sum(-1)).unbind(-1)
        return right - wrong if self.per_prompt else (right - wrong).mean()

    def directions(self, model: TransformerBridge) -> Float[Tensor, "batch d_model"]:
        """As :func:`helpers.logit_diff.logit_diff_directions`, for groups whose logits are averaged.

        Raises:
            ValueError: for summed probability, which no direction measures.
        """
        if self.combine != "mean logit":
            raise ValueError(
                "A summed probability is not linear in the residual stream, so no direction measures "
                'it. For attribution average the logits instead (combine="mean logit"); patching and '
                "ablation measure summed probability exactly."
            )
        there = self._there.to(model.W_U.device)
        columns = in_float(model.tokens_to_residual_directions(self.answer_tokens.clamp(min=0)))
        right, wrong = (columns * (there / there.sum(-1, keepdim=True))[..., None]).sum(2).unbind(1)
        return right - wrong


# A metric that depends on the logits of a few tokens only.
AnswerMetric = LogitDiff | GroupDiff


def metric_of(answers: Int[Tensor, "batch 2"] | AnswerMetric) -> AnswerMetric:
    """The metric that keeps prompts apart, from (right, wrong) tokens of each prompt or from a metric.

    Raises:
        TypeError: for anything else, such as a function of logits.

    Example:
        >>> metric_of(prompts.answer_tokens).per_prompt
        True
    """
    if isinstance(answers, Tensor):
        return LogitDiff(answers, per_prompt=True)
    if isinstance(answers, AnswerMetric):
        return replace(answers, per_prompt=True)
    raise TypeError(
        "Expected (right, wrong) token ids of each prompt, a LogitDiff or a GroupDiff, as a task's "
        f"metric() gives; got {type(answers).__name__}."
    )


def metric_rows(metric: AnswerMetric, rows: slice | Tensor) -> AnswerMetric:
    """The metric of some of the prompts.

    Example:
        >>> metric_rows(prompts.metric(), slice(2)).answer_tokens.shape
        torch.Size([2, 2])
    """
    return replace(metric, answer_tokens=metric.answer_tokens[rows])


def answer_tensor(
    right: Sequence[Sequence[int]], wrong: Sequence[Sequence[int]]
) -> Int[Tensor, "batch 2"] | Int[Tensor, "batch 2 answer"]:
    """Token ids of each prompt's answers: pairs if each side has one; else groups, filled up with -1.

    Example:
        >>> answer_tensor(right=[[4, 5]], wrong=[[6]])
        tensor([[[ 4,  5],
                 [ 6, -1]]])
    """
    most = max(map(len, [*right, *wrong]))
    filled = torch.tensor(
        [
            [[*side, *[NO_ANSWER] * (most - len(side))] for side in pair]
            for pair in zip(right, wrong, strict=True)
        ]
    )
    return filled[..., 0] if most == 1 else filled


def checked_combine(
    combine: Combine | None, answer_tokens: Int[Tensor, "batch 2 ..."]
) -> Combine | None:
    """How the answers count: as asked where there are groups, and ``None`` where there are pairs.

    Raises:
        ValueError: if there are groups and nothing, or no such way, is asked for.

    Example:
        >>> checked_combine("mean logit", torch.tensor([[[4, 5], [6, -1]]]))
        'mean logit'
    """
    if answer_tokens.ndim == 2:
        return None
    if combine is None:
        raise ValueError(
            "There are several answers a side. Say how they count: "
            'combine="summed probability" (what the model would say; not linear), or '
            'combine="mean logit" (linear, so that attribution works).'
        )
    return GroupDiff(answer_tokens, combine).combine
