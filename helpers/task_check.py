"""Can the model do the task, and does the metric see what is corrupted? To be asked first."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.intervals import Interval, mean_interval, share_interval
from helpers.tokenizing import shortened

if TYPE_CHECKING:
    from helpers.task import Task

CHANCE = 0.5  # that a side is preferred by a model that knows nothing


@dataclass(frozen=True, eq=False)
class TaskCheck:
    """The metric of each prompt, clean and corrupted, in logits; and what follows from it.

    Attributes:
        clean: positive where the right answer is preferred.
        corrupted: by the answers that are right in the clean prompt.

    Example:
        >>> clean = torch.tensor([2.0, 1.0, -0.5])
        >>> check = TaskCheck(clean, corrupted=-clean)
        >>> print(check.accuracy)  # two in three, which is little to go by
        +0.67 [+0.21, +0.94]
    """

    clean: Float[Tensor, " batch"]
    corrupted: Float[Tensor, " batch"]

    @property
    def effect(self) -> Interval:
        """How much the metric differs between clean and corrupted prompts."""
        return mean_interval(self.clean - self.corrupted)

    @property
    def accuracy(self) -> Interval:
        """Share of clean prompts on which the right answer is preferred."""
        return share_interval(self.clean > 0)

    @property
    def table(self) -> pd.DataFrame:
        """Metric and accuracy, clean and corrupted, with 95 % intervals."""
        rows = {}
        for name, values in {"clean": self.clean, "corrupted": self.corrupted}.items():
            rows[name] = [*mean_interval(values).plain(), *share_interval(values > 0).plain()]
        columns = [f"{what}{end}" for what in ("metric", "accuracy") for end in ("", " from", " to")]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("prompts")

    def __str__(self) -> str:
        return self.table.to_string(float_format="{:.3f}".format)


def check_task(task: Task, model: TransformerBridge) -> TaskCheck:
    """Run the model on clean and corrupted prompts, and warn if there is nothing to explain.

    Raises:
        ValueError: for fewer than two prompts, of which there is no interval.

    Warns:
        UserWarning: if the accuracy is not above chance, or the metric is not higher on clean prompts
            than on corrupted ones, going by their intervals; it names the prompts.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")  # of a model that cannot do it
        ...     check = check_task(prompts, model)
        >>> check.clean.shape == check.corrupted.shape == (len(prompts),)
        True
    """
    if len(task) < 2:
        raise ValueError(f"An interval needs at least two prompts; the task has {len(task)}. Give more.")
    metric = task.metric(per_prompt=True)
    clean, corrupted = (
        metric(rows.final_logits(model)).cpu() for rows in (task.padded, task.padded_corrupted)
    )
    check = TaskCheck(clean, corrupted)
    _warn_at_chance(check, task, model)
    _warn_of_no_effect(check, task)
    return check


def _warn_at_chance(check: TaskCheck, task: Task, model: TransformerBridge) -> None:
    accuracy = check.accuracy
    if accuracy.low > CHANCE:
        return
    missed = (check.clean <= 0).nonzero().flatten().tolist()
    worst = int(check.clean.argmin())
    where = f" Worst on prompt {worst} ({shortened(task.prompts[worst])})." if missed else ""
    warnings.warn(
        f"{model.cfg.model_name} prefers the right answer on {len(task) - len(missed)} of {len(task)} "
        f"prompts: accuracy {accuracy}, which is not above chance ({CHANCE}).{where} What is found in a "
        "model that does not do the task explains nothing: reword the prompts, look at the answers, "
        "choose another model; or, if there are few prompts, give more.",
        stacklevel=4,
    )


def _warn_of_no_effect(check: TaskCheck, task: Task) -> None:
    effect = check.effect
    if effect.low > 0:
        return
    least = int((check.clean - check.corrupted).argmin())
    warnings.warn(
        f"The metric is not higher on clean prompts than on corrupted ones: it differs by {effect} "
        f"logits, and an interval above 0 was expected. Least on prompt {least} "
        f"({shortened(task.prompts[least])} and {shortened(task.corrupted_prompts[least])}). Nothing "
        "can be restored by patching: corrupt what the right answer depends on, so that the wrong one "
        "fits as well or better.",
        stacklevel=4,
    )
