"""What the demo on backup heads shows of a run.

Intervals are (value, low, high), in logits; a change is seen if its interval leaves out zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from helpers.wording import enumerated

Interval = tuple[float, float, float]

AS_PREDICTED = "about what was predicted"
MADE_UP = "made up for, in part or in whole"
COPY_SUPPRESSION = "copy suppression"
AGAINST_ANY = "votes against what is predicted, in the prompt or not"
IN_BETWEEN = "by way of heads and MLPs in between"
NO_ORDER = "misses a name; of the order, nothing is to be seen"
NO_NAME = "no name"
MATTERS_LESS = "a negative head that matters less"


def whom_to_ablate(*, largest: str, name_mover: str | None) -> str:
    """Whether the head of largest direct attribution is the largest name mover."""
    if name_mover is None:
        return f"{largest} is no name mover, and none of the other large writers is: we ablate it alone."
    if name_mover == largest:
        return f"{largest} is the largest name mover too, as in GPT-2 small."
    return (
        f"{largest} is no name mover; {name_mover} is the largest. So we ablate each in turn. (In GPT-2 "
        "small the two are the same head.)"
    )


def repair(*, loss: Interval, made_up: Interval) -> str:
    """Whether a predicted loss is made up for.

    What is made up counts from a tenth of the loss on, and if it is seen.
    """
    if not _seen(loss):
        return "too uncertain to compare with anything"
    share = made_up[0] / loss[0]
    if abs(share) < 0.1 or not _seen(made_up):
        return AS_PREDICTED
    if share < 0:
        return "larger than predicted"
    return MADE_UP


def reactions(change: Mapping[str, float]) -> str:
    """Whether later parts react to the loss of a head, and whether their reactions cancel.

    Args:
        change: of the logit difference by "the head itself", "heads that rise", "heads that fall",
            "MLPs" and "final scale".
    """
    lost, rise, fall = (change[who] for who in ("the head itself", "heads that rise", "heads that fall"))
    mlps, scale = change["MLPs"], change["final scale"]
    moved, net = rise - fall + abs(mlps) + abs(scale), rise + fall + mlps + scale
    if moved < 0.1 * abs(lost):
        return "Hardly anything reacts."
    if abs(net) < 0.5 * moved:
        return (
            f"Much reacts ({moved:.2f} in all, signs ignored), and most of it cancels: {net:+.2f} "
            "remains."
        )
    return f"The reactions mostly point one way: {net:+.2f} of {moved:.2f} (signs ignored)."


def change_of_side(was: float, now: float) -> str:
    """What becomes of a head for or against the answer, from its direct effect before and after."""
    if was * now < 0:
        return "changes sides"
    if was < 0:
        return MATTERS_LESS if now > was else "a negative head that matters more"
    return "a positive head that steps in" if now > was else "a positive head that steps back"


def what_moves(change: Mapping[str, float]) -> str:
    """Whether a head's reaction is due rather to its "attention" or to the "value" it reads."""
    if abs(change["attention"]) > abs(change["value"]):
        return "its attention moves"
    return "the value it reads changes"


def route(heard: Mapping[str, float]) -> str:
    """The largest of four routes: "query", "key" and "value", heard directly, and "by way of others"."""
    largest = max(heard, key=lambda name: abs(heard[name]))
    return IN_BETWEEN if largest == "by way of others" else f"through its {largest}"


def shared_values(one: str, other: str, *, together: float) -> str:
    """Of two heads with one key/value head that react with opposite signs."""
    return (
        f"{one} and {other} read the same values (shared key/value head) and react with opposite signs: "
        f"together {together:+.3f}."
    )


def kind(head: Mapping[str, float]) -> str:
    """Which of the stories a head fits: copy suppression, votes against anything, or neither.

    Args:
        head: for each logit of vote, what it adds to the name: "slope in prompt", "slope absent" and
            "slope by chance"; how much more it looks at a name in the prompt, "slope of attention", and
            by chance, "attention by chance". With full attention, what it adds "on the name it reads",
            and how often that name comes out "lowest of all".
    """
    present = head["slope in prompt"]
    if abs(present) < max(0.01, 2 * head["slope by chance"]):
        verb = "raises" if head["on the name it reads"] > 0 else "lowers"
        return f"does not answer to the prediction; it {verb} the name it looks at"
    if present > 0:
        return "votes for what is predicted"
    if head["slope absent"] < present / 2:
        return AGAINST_ANY
    looks_more = head["slope of attention"] > 2 * head["attention by chance"]
    if looks_more and head["on the name it reads"] < 0 and head["lowest of all"] > 0.5:
        return COPY_SUPPRESSION
    return "answers to names in the prompt, but not as copy suppression would"


def negative_heads(kinds: Mapping[str, str]) -> str:
    """What the heads against the answer are for, from the :func:`kind` of each."""
    suppress = [head for head, what in kinds.items() if what == COPY_SUPPRESSION]
    oppose = [head for head, what in kinds.items() if what == AGAINST_ANY]
    return (
        f"Negative heads that suppress copies: {enumerated(suppress)}. Negative heads against any "
        f"prediction: {enumerated(oppose)}."
    )


def turns_round(own: float, partners: float) -> str:
    """Whether an effect changes sign, and a quarter of it or more is left, with the partner's stream."""
    turns = own * partners < 0 and abs(partners) > 0.25 * abs(own)
    return "turns round" if turns else "does not turn"


def by_kind_of_ablation(head: str, verdicts: Mapping[str, str]) -> str:
    """Whether zero, mean and resample ablation agree, from :func:`repair` of each."""
    if len(set(verdicts.values())) == 1:
        return f"All {len(verdicts)} kinds agree on {head}: the loss is {next(iter(verdicts.values()))}."
    listed = "; ".join(f"{kind}: {verdict}" for kind, verdict in verdicts.items())
    return f"The kinds disagree on {head}. {listed}."


def misses(*, same: Interval, more: Interval, twice: Interval) -> str:
    """Whether a head that reacts to a stranger misses a name, or the place where it stood.

    Args:
        same: its reaction to a stranger from a prompt of the same order.
        more: how much more it reacts to one of the other order, positive for more.
        twice: how much it exceeds twice the reaction to the same order.
    """
    if more[1] > 0:
        return "misses a place" if twice[1] > 0 else "misses a name and a place"
    if not _seen(same):
        return "no reaction to be seen"
    if not _seen(more):
        return NO_ORDER
    return "misses a name"


def looked_at(attention: Mapping[str, float], *, even: float) -> str:
    """The name a head looks at most, if that gets more than twice what each position would get, even."""
    most = max(attention, key=lambda name: attention[name])
    return most if attention[most] > 2 * even else NO_NAME


def who_is_repaired(verdicts: Mapping[str, str], looks: Mapping[str, str]) -> str:
    """Whether self-repair goes with looking at the indirect object, and whether it is general.

    Args:
        verdicts: the :func:`repair` of each head.
        looks: what each head looks at, by :func:`looked_at`.
    """
    repaired = [head for head, verdict in verdicts.items() if verdict == MADE_UP]
    others = [head for head in verdicts if head not in repaired]
    if not repaired:
        return "None of these heads is made up for."
    if not others:
        return "All of these heads are made up for."
    depends = (
        " So self-repair is not a property of the model as such: it depends on which head is lost."
        if AS_PREDICTED in verdicts.values()
        else ""
    )
    if any(looks[head] != "IO" for head in repaired):
        return f"Made up for: {enumerated(repaired)}, not all of which look at IO.{depends}"
    if any(looks[head] == "IO" for head in others):
        return f"All heads that are made up for look at IO, but not the other way round.{depends}"
    return f"Exactly the heads that look at IO are made up for.{depends}"


def answer(head: str, verdict: str, parts: Mapping[str, Interval]) -> str:
    """What the loss of a head comes to, and who gives and who takes away.

    Args:
        verdict: :func:`repair` of the head.
        parts: change by each group of later parts.
    """
    helping = [name for name, change in parts.items() if change[1] > 0]
    against = [name for name, change in parts.items() if change[2] < 0]
    said = f"Without {head} the loss is {verdict}."
    if helping and against and verdict == AS_PREDICTED:
        return f"{said} It looks as if little happened, but " + _give_and_take(helping, against)
    if helping and against:
        return f"{said} That is a sum: {_give_and_take(helping, against)}"
    if helping:
        return f"{said} What gives: {enumerated(helping)}."
    if against:
        return f"{said} What takes away: {enumerated(against)}."
    return f"{said} No group of later parts changes it for certain."


def why_it_matters_less(head: str, lost: str, *, what: str, io: tuple[float, float]) -> str:
    """Why a negative head matters less without another, if it is settled.

    Args:
        what: the head's :func:`kind`.
        io: its attention to the indirect object, before and after.
    """
    if what == COPY_SUPPRESSION:
        return (
            f"{head} without {lost}: a copy suppressor, which looks for names that are predicted and "
            f"lowers the one it finds. Its attention to IO goes from {io[0]:.2f} to {io[1]:.2f}."
        )
    if what == AGAINST_ANY:
        return (
            f"{head} without {lost}: opposes whatever is predicted, in the prompt or not; less is "
            "predicted, so there is less to oppose."
        )
    return f"{head} without {lost}: why is not settled here. It {what}."


def what_else_it_hears(head: str, lost: str, *, prediction: float, order: str) -> str:
    """Whether the lost head's prediction is most of what a reacting head hears directly.

    Args:
        prediction: the reaction to that part alone, as a share of the reaction to all; not a finite
            number where there is none to all.
        order: what the head :func:`misses`.
    """
    if not math.isfinite(prediction):
        return f"{head} hears nothing of {lost} directly."
    if abs(prediction) >= 0.5:
        return f"What {head} hears directly is mostly {lost}'s prediction of names ({prediction:.0%})."
    said = (
        f"Of what {head} hears directly, only {prediction:.0%} is {lost}'s prediction of names as the "
        "output reads it."
    )
    if "place" in order:
        return f"{said} The rest may be a place: it {order}."
    if order == NO_ORDER:
        return f"{said} Nor is it to be seen that a stranger's place matters: the rest is no mere place."
    return said


def told_by(*, directly: int, by_way_of_others: int) -> str:
    """How many reactions of heads are mostly told by the ablated head itself."""
    if not directly + by_way_of_others:
        return "No head reacts."
    return (
        f"Of {directly + by_way_of_others} reactions of a head, {directly} are mostly told by the "
        f"ablated head directly, {by_way_of_others} mostly by way of others."
    )


def against_the_story(agreements: Mapping[str, Sequence[bool]]) -> str:
    """What contradicts GPT-2 small's story: statement to (true of this run, true of GPT-2 small)."""
    differing = [what for what, (ours, theirs) in agreements.items() if ours != theirs]
    return f"Contradicts the GPT-2 story: {'; '.join(differing) or 'nothing in this table'}."


def _seen(change: Interval) -> bool:
    return not change[1] <= 0 <= change[2]


def _give_and_take(helping: Sequence[str], against: Sequence[str]) -> str:
    give = "gives" if len(helping) == 1 and not helping[0].endswith("s") else "give"
    take = "takes" if len(against) == 1 and not against[0].endswith("s") else "take"
    return f"{enumerated(helping)} {give}, and {enumerated(against)} {take} away."
