"""What the demo on a task of one's own shows of a run.

Intervals are (value, low, high).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helpers.wording import enumerated

Plain = tuple[float, float, float]


def can_do(*, accuracy: Plain, effect: Plain, prompts: int) -> str:
    """Whether there is something to explain.

    Args:
        accuracy: share of prompts on which the right side is preferred; chance is one half.
        effect: how much higher the metric is on clean prompts than on corrupted ones.
        prompts: how many these are of.
    """
    preferred = f"The right side is ahead on {accuracy[0]:.0%} of {prompts} prompts"
    if accuracy[1] <= 0.5:
        return f"{preferred}, which chance would do as well: nothing below explains anything. Stop here."
    if effect[1] <= 0:
        return (
            f"{preferred}, but the metric is not higher than on corrupted prompts ({effect[0]:+.2f}): "
            "patching has nothing to restore. Corrupt what the answer depends on."
        )
    return (
        f"{preferred}, and corrupting them costs {effect[0]:.2f} logits: there is something to explain."
    )


def lens(*, largest: float, whole: float, at: str) -> str:
    """Whether the answer appears at one place or little by little.

    Args:
        largest: rise of the logit lens from one point to the next; ``at`` is the point after it.
        whole: difference between the last point and the first.
    """
    if whole <= 0:
        return "The difference does not rise from the first layer to the last: no head wrote the answer."
    share = largest / whole
    if share >= 0.5:
        return f"Most of it appears at once, at {at} ({share:.0%} of the whole rise)."
    return f"It comes in steps; the largest, at {at}, is {share:.0%} of the whole rise."


def enough(*, chosen: Plain, at_random: Plain, count: int) -> str:
    """Whether the heads that were chosen do what all heads do, on other prompts.

    Args:
        chosen, at_random: share of the heads' work that so many heads restore.
        count: how many heads.
    """
    if chosen[1] <= at_random[2]:
        return (
            f"The {count} heads restore {_percent(chosen[0])}, not clearly more than {count} at random "
            f"({_percent(at_random[0])}): they are no circuit for this task."
        )
    how = "most of it" if chosen[1] > 0.5 else "a part of it"
    return (
        f"The {count} heads restore {_percent(chosen[0])} of what all heads do, {how}, on prompts that "
        f"took no part in choosing them; {count} at random, {_percent(at_random[0])}."
    )


def _percent(share: float) -> str:
    """Never "-0%"."""
    return f"{round(100 * share)}%"


def shared(top: Mapping[str, Sequence[str]]) -> str:
    """Which heads are among the strongest of several tasks.

    Args:
        top: for each task the names of its strongest heads, equally many.
    """
    tasks_of: dict[str, list[str]] = {}
    for task, heads in top.items():
        for head in heads:
            tasks_of.setdefault(head, []).append(task)
    several = {head: tasks for head, tasks in tasks_of.items() if len(tasks) > 1}
    if not several:
        return "No head is among the strongest of two tasks: each has heads of its own."
    most = sorted(several, key=lambda head: -len(several[head]))
    said = [f"{head} ({enumerated(several[head])})" for head in most]
    return f"Among the strongest of more than one task: {'; '.join(said)}."
