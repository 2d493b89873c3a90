"""What the demo on hundreds of prompts shows of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from helpers.wording import enumerated

# A mean and the ends of its interval.
Span = tuple[float, float, float]

# What the paper calls a class of the same description, in GPT-2 small.
PAPER = {
    "S1+1, looks at S1": "previous-token heads",
    "S2, looks at S1": "duplicate-token heads",
    "S2, looks at S1+1": "induction heads",
    "end, for it through others": "S-inhibition heads",
    "end, writes for it": "name movers",
    "end, writes against it": "negative name movers",
}


def does_the_task(sample: Span) -> str:
    """Whether the logit difference is clear of zero."""
    if sample[1] <= 0:
        return (
            "This model does not clearly do the task. Everything below is a share of next to nothing, "
            "and means nothing."
        )
    return "The model does the task: the interval of its logit difference is above zero."


def representative(*, sample: Span, eight: Span) -> str:
    """Whether eight prompts gave what the sample gives."""
    what = "The eight prompts' average is"
    if sample[1] <= eight[0] <= sample[2]:
        return f"{what} inside the sample's interval: here they were representative."
    if eight[1] <= sample[0] <= eight[2]:
        return (
            f"{what} outside the sample's interval, whose mean lies inside theirs: eight prompts pin "
            "down this little."
        )
    return (
        f"{what} outside the sample's interval, whose mean lies outside theirs: they are prompts of "
        "another kind."
    )


def order_of_names(gap: Span) -> str:
    """What the order of the names makes, by the logit difference of ABBA less that of BABA."""
    value, low, high = gap
    shown = f"ABBA minus BABA: {value:+.2f} [{low:+.2f}, {high:+.2f}]."
    if low <= 0 <= high:
        return f"{shown} The order of the names makes no difference that can be seen."
    easier = "ABBA" if value > 0 else "BABA"
    return (
        f"{shown} {easier} is easier for this model: which name comes first matters, and an average "
        "over both orders describes neither."
    )


def significant(*, clear: int, of: int) -> str:
    """How many heads' intervals leave out zero, and how many would by chance."""
    return (
        f"Heads whose interval leaves out zero by more than a thousandth: {clear} of {of}. With "
        f"intervals of 95 %, about {of // 20} would leave it out if no head did anything, so "
        "'significant' is not 'important'."
    )


def overlooked(heads: Sequence[str]) -> str:
    """Whom eight prompts did not show, and more prompts do."""
    if not heads:
        return "The strongest heads on more prompts are all among those of the eight prompts."
    return f"Among the strongest on more prompts, but not on the eight: {enumerated(heads)}."


def verdict(before: float, now: Span) -> str:
    """What becomes of a finding: "reversed", "survives" or "weaker", by the demo's criterion."""
    sign = 1 if before > 0 else -1
    low, high = sorted((sign * now[1], sign * now[2]))
    if high < 0:
        return "reversed"
    return "survives" if low > 0 and sign * now[0] >= abs(before) / 2 else "weaker"


def tally(verdicts: Sequence[str]) -> str:
    """How many of each."""
    count = Counter(verdicts)
    return (
        f"Of {len(verdicts)} findings, {count['survives']} survive, {count['weaker']} are weaker, "
        f"{count['reversed']} reversed."
    )


def one_sided(findings: Sequence[str]) -> str:
    """Which findings have another verdict in one of the orders than overall."""
    if not findings:
        return "Every verdict is the same in both orders."
    return f"With another verdict in one of the orders: {enumerated(findings)}."


def strongest_writer(name: str, attention: Mapping[str, float], *, even: float) -> str:
    """Whether the strongest writer fits GPT-2 small's account, by what it looks at ("IO", "S1", "
    ""S2")."""
    most = max(attention, key=lambda place: attention[place])
    if attention[most] < 2 * even:
        return f"{name} looks at no name in particular, so GPT-2 small's account does not fit it."
    if most == "IO":
        return f"{name} looks most at IO, as in GPT-2 small's account."
    return (
        f"{name} looks most at {most}, on hundreds of prompts as on eight. This contradicts GPT-2 "
        "small's account: a head that copied the name it looks at would work for the wrong answer there."
    )


def circuit_size(parts: int, of_parts: int, heads: int, of_heads: int, *, reached: bool) -> str:
    """How large the circuit is that the criterion picked."""
    size = (
        f"circuit: {parts} of {of_parts} parts, which are {heads} of {of_heads} heads "
        f"({heads / of_heads:.0%})."
    )
    if reached:
        return size
    return f"No number of parts keeps nine tenths; we go on with all of them. {size}"


def helpful_alone(share: Span) -> str:
    """What parts for the answer reach without those against it, as a share of the whole model."""
    value, low, high = share
    reach = (
        f"Helpful parts alone reach {value:+.2f} [{low:+.2f}, {high:+.2f}] of the whole model's logit "
        "difference"
    )
    if low > 1:
        return (
            f"{reach}: more than the model itself, because what opposes the answer is missing. Better "
            "is not more faithful."
        )
    return f"{reach}."


def misses(*, by_prompt: float, on_average: float) -> str:
    """How far a circuit is from the model, as shares of the model's average."""
    text = (
        f"As a share of the model's average, the circuit misses by {by_prompt:.0%} prompt by prompt, "
        f"signs ignored, and by {on_average:.0%} on average."
    )
    if by_prompt > 2 * on_average:
        return f"{text} What the second leaves out of the first is errors that cancel."
    return f"{text} Most of the errors are in one direction."


def role(lost: Span) -> str:
    """What a class is to a circuit, by the share that is lost without it, and the demo's criterion."""
    _, low, high = lost
    if low > 0.1:
        return "needed"
    if high < -0.1:
        return "opposes"
    if low > 0:
        return "helps a little"
    if high < 0:
        return "opposes a little"
    return "not needed" if low > -0.1 and high < 0.1 else "uncertain"


def minimal(roles: Mapping[str, str]) -> str:
    """Whether each class earns its place, from :func:`role` of each."""
    idle = [name for name, role in roles.items() if role == "not needed"]
    unsure = [name for name, role in roles.items() if role == "uncertain"]
    if idle:
        return f"Not needed, so the circuit is not minimal: {'; '.join(idle)}."
    if unsure:
        return f"No class is certainly idle; uncertain: {'; '.join(unsure)}."
    return "Every class does something."


def made_up_for(circuit: Mapping[str, Span], model: Mapping[str, Span]) -> str:
    """Which classes are needed in the circuit, and half or more made up for in the whole model.

    Args:
        circuit: what is lost without each class from the circuit, as shares.
        model: what is lost from the whole model.
    """
    needed = [name for name, lost in circuit.items() if lost[1] > 0.1]
    found = [name for name in needed if model[name][2] < circuit[name][1] / 2]
    if not found:
        return "No class that the circuit needs is made up for by half in the whole model."
    return f"Needed in the circuit, but half or more made up for in the whole model: {'; '.join(found)}."


def beside_the_paper(classes: Sequence[str]) -> str:
    """Which classes have no counterpart by description, here and in the published circuit."""
    missing = [theirs for ours, theirs in PAPER.items() if ours not in classes]
    beyond = [name for name in classes if name not in PAPER]
    return (
        f"Classes of GPT-2 small's published circuit without a match by description: "
        f"{enumerated(missing)}. Classes here that match none of the published ones: "
        f"{'; '.join(beyond) or 'none'}."
    )


def writers(from_circuit: Mapping[str, Span], from_model: Mapping[str, Span]) -> str:
    """Whether the writers for the answer have backups outside the circuit.

    Args:
        from_circuit: the share that is lost without each class from the circuit.
        from_model: the share that is lost from the whole model.
    """
    if "end, writes for it" not in from_circuit:
        return "There is no class of writers for the answer."
    circuit, model = (lost["end, writes for it"] for lost in (from_circuit, from_model))
    if circuit[1] > 0.1 and model[1] > circuit[2] / 2:
        return (
            "GPT-2 small's writers have backups, published as heads that take over when they are gone. "
            "Here, losing the writers costs the whole model more than half of what it costs the "
            "circuit: no such rescue on this scale."
        )
    if circuit[1] > 0.1 and model[2] < circuit[1] / 2:
        return "As in GPT-2 small, heads outside the circuit make up for half of the writers or more."
    return "Whether anything makes up for the writers is not settled by these intervals."


def dependence(*, together: Span, kept: Span) -> str:
    """What losses one class at a time add up to, beside what the circuit keeps."""
    value, low, high = together
    added = (
        f"The losses, one class at a time, add up to {value:+.2f} [{low:+.2f}, {high:+.2f}] of the "
        f"logit difference, of which the circuit keeps {kept[0]:+.2f}:"
    )
    if low > kept[2]:
        return (
            f"{added} more than there is to lose. Classes work in series: the same effect is lost with "
            "one as with another."
        )
    if high < kept[1]:
        return f"{added} less than there is to lose. Classes stand in for each other."
    return f"{added} no sign that classes depend on each other."


def the_same_on_workers(*, largest: float) -> str:
    """Whether workers gave what this process gives, by the largest difference."""
    if largest < 1e-4:
        return (
            "Two workers give the result of this process: to the last bit if devices and numbers of "
            "threads are alike, and else up to rounding."
        )
    return (
        f"Two workers differ from this process by up to {largest:.1e}, which is more than rounding: "
        "believe neither before you know why."
    )


def time_of_workers(times: Mapping[str, float]) -> str:
    """How the time of two workers splits, by :class:`helpers.cluster.pool.Times`."""
    start, work = times["starting"] + times["loading"], times["working"] / 2
    first = "Starting Ray and loading the model took longer than the sweep"
    if start < work:
        first = "The sweep took longer than starting Ray and loading the model"
    small = times["shipping"] < times["working"] / 100
    then = f"handing out tasks took {'less' if small else 'more'} than a hundredth of the work itself"
    advice = "" if start < work else " For a sweep of this size one process is enough."
    return f"{first}; {then}.{advice}"
