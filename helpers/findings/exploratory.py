"""What the exploratory demo's figures show of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from helpers.wording import enumerated

NO_KIND = "none of the three"
NAME_MOVER = "looks most at IO and mostly raises the right name"


def task(differences: Sequence[float]) -> str:
    """Whether a model does the task, from the logit difference of each prompt."""
    mean, ahead = sum(differences) / len(differences), sum(value > 0 for value in differences)
    counted = f"The right name is ahead on {ahead} of {len(differences)} prompts"
    if mean <= 0:
        return f"{counted}, and on average it is not: this model does not do the task, so stop here."
    return (
        f"{counted}. On (geometric) average it is e^{mean:.2f} = {math.exp(mean):.1f} times as likely "
        f"as the wrong one; the worst prompt has a difference of {min(differences):.2f}."
    )


def lens(*, rise_at: str, before: float) -> str:
    """What makes the logit lens rise most.

    Args:
        rise_at: the label of the point after the rise, as ``ActivationCache`` gives it: ``9_mid`` is
            after a layer's attention, ``10_pre`` and ``final_post`` are after an MLP.
        before: the largest reading until then, without sign.
    """
    kind = "attention layer" if rise_at.endswith("mid") else "MLP"
    return f"The largest rise is made by an {kind}; until then the reading stays within ±{before:.3f}."


def concentration(sizes: Sequence[float], threshold: float = 0.1) -> str:
    """How much of all movement a few heads make up; sizes are without sign."""
    large = [size for size in sizes if size > threshold]
    if not large:
        return (
            f"No head of {len(sizes)} moves the logit difference by more than {threshold}: it is spread."
        )
    return (
        f"{len(large)} of {len(sizes)} heads move the logit difference by more than {threshold}, and "
        f"make up {sum(large) / sum(sizes):.1%} of all the movement (signs ignored)."
    )


def looks_and_moves(head: Mapping[str, float], *, even: float) -> str:
    """Where a head looks from the last token, and which name's logit it moves most.

    Args:
        head: its "attention to IO", "to S1" and "to S2", its "effect on the right name" and "on the
            wrong name", as the columns of a table.
        even: what a position would get if all got the same. A head looks at a name that gets more than
            twice that.
    """
    attention = {name: head[f"attention to {name}"] for name in ("IO", "S1", "S2")}
    right, wrong = head["effect on the right name"], head["on the wrong name"]
    most = max(attention, key=lambda name: attention[name])
    where = f"looks most at {most}" if attention[most] > 2 * even else "looks at no name in particular"
    name, effect = ("right", right) if abs(right) >= abs(wrong) else ("wrong", wrong)
    return f"{where} and mostly {'raises' if effect > 0 else 'lowers'} the {name} name"


def name_movers(accounts: Mapping[str, str]) -> str:
    """Which heads are name movers in the plain sense, by :func:`looks_and_moves` of each."""
    movers = [head for head, account in accounts.items() if account == NAME_MOVER]
    if not movers:
        return (
            "None of them is a name mover in the plain sense, which looks at the indirect object and "
            "raises its logit."
        )
    return f"Name movers in the plain sense (look at IO, raise it): {enumerated(movers)}."


def known_kind(scores: Mapping[str, float]) -> str:
    """The kind of a head, if more than half of its attention is of that kind, and the score."""
    kind = max(scores, key=lambda name: scores[name])
    return f"{kind}, {scores[kind]:.2f}" if scores[kind] > 0.5 else NO_KIND


def way_of_acting(effects: Mapping[str, float]) -> str:
    """Whether what a head "restores" is what it "writes directly"; shares of the logit difference."""
    if not effects["restores"]:
        return "does nothing by itself"
    if effects["writes directly"] / effects["restores"] > 0.5:
        return "mostly writes the answer itself"
    return "mostly acts through later parts"


def first_layer(holds: Sequence[bool]) -> str:
    """The first layer for which something holds."""
    return next((f"L{layer}" for layer, it_does in enumerate(holds) if it_does), "never")


def early_mlps(restored: Sequence[float]) -> str:
    """What the first MLPs restore at the changed token."""
    values = ", ".join(f"{value:.3f}" for value in restored)
    if max(restored) < 0.1:
        return f"The first MLPs restore next to nothing at the changed token ({values})."
    return (
        f"The first MLPs restore {values} at the changed token: early MLPs can matter because they work "
        "out what the token there is, which is all that was changed."
    )


def matters_for(restored: Mapping[str, float]) -> str:
    """Which part of a head accounts for its effect, by what "values" and "pattern" restore alone.

    Both, if the smaller is more than half of the larger; neither, if they restore nothing.
    """
    values, pattern = abs(restored["values"]), abs(restored["pattern"])
    if not (values or pattern):
        return "neither"
    if min(values, pattern) > 0.5 * max(values, pattern):
        return "both"
    return "what it reads" if values > pattern else "where it looks"


def spoken_to(*, receiver: str, paths: Sequence[float], whole: float) -> str:
    """Whether other heads account for what a head does, from the effect of every direct path into it."""
    if sum(map(abs, paths)) < abs(whole) / 2:
        return (
            f"Hardly any head speaks to {receiver} directly: what makes it differ between the runs "
            "reaches it from the changed token's embedding and from MLPs (which may have listened to "
            "heads before)."
        )
    return f"Other heads speak to {receiver} directly."


def circuit(*, heads: int, effects: int) -> str:
    """How much is drawn."""
    if not effects:
        return (
            f"{heads} heads and no arrow: no direct effect is as large as 0.05 between heads or 0.1 on "
            "the logits. The logit difference goes other ways."
        )
    return (
        f"{heads} heads, and {effects} direct effects of at least 0.05 between heads or 0.1 on the "
        "logits; the rest of the logit difference goes other ways."
    )


def chain(links: Sequence[tuple[str, str, str]]) -> str:
    """The strongest single links, joined: (sender, input, receiver), each receiver the next sender."""
    if not links:
        return "No single path between heads is large enough to begin a chain with."
    steps = [f"{sender} -> {through} of {receiver}" for sender, through, receiver in links[:1]]
    steps += [f"{through} of {receiver}" for _, through, receiver in links[1:]]
    return f"The strongest single links, joined: {' -> '.join(steps)} -> logits."


def largest_writer(*, right: float, wrong: float) -> str:
    """What the head with the largest direct effect does, from its effect on the logit of either name."""
    what = f"The largest writer adds {right:+.3f} to the right name and {wrong:+.3f} to the wrong one:"
    if right < wrong:
        return f"{what} it works against the answer."
    if wrong < 0 and abs(wrong) > abs(right):
        return f"{what} inhibition of the repeated name, as in hypothesis A, done at the output itself."
    if right > abs(wrong):
        return (
            f"{what} it mostly raises the right name, so if the repeated one is inhibited, that happens "
            "before."
        )
    return f"{what} it moves both names the same way, and the right one to more advantage."


def captured(heads: int, by_heads: float, all_heads: int, by_all: float) -> str:
    """How much of what single heads restore is restored by the largest; sums without sign."""
    return (
        f"The {heads} heads of largest effect sum to {by_heads:.2f} of the logit difference restored "
        f"one at a time (absolute values), all {all_heads} heads to {by_all:.2f}."
    )


def early_induction(*, at_work: Sequence[str], of_the_kind: Sequence[str]) -> str:
    """Whether induction heads that matter look on the task where an induction head would.

    Args:
        at_work: those that do.
        of_the_kind: all that are of the kind, matter, and act before the last token.
    """
    if at_work:
        return (
            f"Induction heads matter here, with a question mark: {enumerated(at_work)}. They look where "
            "an induction head would. What followed the first mention is of no use at the end; that an "
            "earlier copy was *found* can be, since it tells later heads that this name is repeated."
        )
    if of_the_kind:
        heads = enumerated(of_the_kind)
        return f"Of the kind, and important, but looking elsewhere on our prompts: {heads}."
    return "In this run no induction head is among the early heads that matter."


def strong_but_unused(names: Sequence[str], *, of: int) -> str:
    """How many of the highest induction scores belong to heads that the task does without."""
    if not names:
        return f"All of the {of} highest induction scores belong to heads that restore 0.05 or more."
    return (
        f"Of the {of} highest induction scores, {len(names)} belong to heads that restore less than "
        f"0.05 here: {enumerated(names)}."
    )


def backup(change: Mapping[str, float]) -> str:
    """Whether others make up for a silenced head.

    Args:
        change: of the logit difference by "other heads", by "MLPs" and "in all", its own loss and the
            last norm's scale included, as shares of the head's own direct effect.
    """
    by_heads, by_mlps, in_all = change["other heads"], change["MLPs"], 1 + change["in all"]
    made_up = (
        f"Made up for by other heads: {by_heads:+.1%}; by MLPs: {by_mlps:+.1%}; in all, with the scale: "
        f"{in_all:+.1%}."
    )
    stepped_in = max(by_heads, by_mlps) > 0.1
    if in_all > 0.1:
        return f"{made_up} There is backup."
    if in_all > -0.1 and stepped_in:
        return (
            f"{made_up} Some parts step in, others fall back by about as much: in sum there is no "
            "backup to speak of."
        )
    if in_all > -0.1:
        return f"{made_up} Nothing steps in, and the loss is about what was predicted."
    if stepped_in:
        return (
            f"{made_up} Some parts step in, but others fall back by more: in sum the loss is larger "
            "than predicted."
        )
    return f"{made_up} Instead of stepping in, the rest falls back too."


def what_is_lost(name: str, head: Mapping[str, float], *, even: float) -> str:
    """What goes with a silenced head; the arguments are those of :func:`looks_and_moves`."""
    io, s2 = head["attention to IO"], head["attention to S2"]
    right, wrong = head["effect on the right name"], head["on the wrong name"]
    looks = f"{name} looks with {s2:.2f} at the second subject, {io:.2f} at the indirect object"
    if s2 > max(io, 2 * even) and wrong < -abs(right):
        return (
            f"{looks} and lowers the wrong name. That is not GPT-2 small's case: what is lost is the "
            "inhibition of the wrong name, and heads that copy the right one do another job."
        )
    if io > max(s2, 2 * even) and right > abs(wrong):
        return (
            f"{looks} and raises the right name, as GPT-2 small's does: a head that copies the same "
            "name could stand in for it."
        )
    return f"{looks}: neither a name mover nor an inhibitor in the plain sense."
