"""What the demo on attribution patching shows of a run.

Intervals are (value, low, high); effects are shares of the difference between the two runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helpers.wording import enumerated

Plain = tuple[float, float, float]


def agreement(by_site: Mapping[str, float]) -> str:
    """Where the estimate orders a site's parts as the exact patches do, and where it does not.

    Args:
        by_site: rank correlation of estimate and exact effect at each site.
    """
    best, *_, worst = sorted(by_site, key=lambda site: -by_site[site])
    high, low = by_site[best], by_site[worst]
    said = f"The orders agree best at {best} ({high:.2f}) and least at {worst} ({low:.2f})."
    if by_site[worst] < 0.5:
        return f"{said} At {worst} the gradient is no guide to what a patch does."
    if by_site[worst] < 0.9:
        return f"{said} At {worst} it is a first look, and no more."
    return f"{said} To choose what to look at, the gradient is enough everywhere here."


def top_ten(kept: Mapping[str, int]) -> str:
    """How many of the ten largest exact effects are among the ten largest estimates, by site."""
    missed = {site: 10 - count for site, count in kept.items() if count < 10}
    if not missed:
        return "The ten largest are the same ten at every site."
    most = max(missed, key=lambda site: missed[site])
    return (
        f"Of the ten largest, the estimate misses {missed[most]} at {most}, the most; at "
        f"{len(kept) - len(missed)} of {len(kept)} sites it misses none."
    )


def overlooked(effects: Mapping[str, tuple[float, float]]) -> str:
    """Whether the gradient passes over heads that matter.

    Args:
        effects: of the heads of largest effect, the exact effect and its estimate.
    """
    missed = {name: pair for name, pair in effects.items() if abs(pair[1]) < 0.5 * abs(pair[0])}
    of = f"Of the {len(effects)} heads that matter most"
    if not missed:
        return f"{of}, none is taken for less than half of what it is."
    worst = max(missed, key=lambda name: abs(missed[name][0] - missed[name][1]))
    exact, estimate = missed[worst]
    return (
        f"{of}, {len(missed)} are taken for less than half of what they are. The worst miss is {worst}: "
        f"it restores {exact:+.2f} where the gradient foretells {estimate:+.2f}. Whoever looks at the "
        "gradient alone passes over it."
    )


def blame(effects: Mapping[str, float]) -> str:
    """Which part of the way bends: the head's own softmax, or what comes after the head.

    Args:
        effects: ``exact`` of patching a query or key, its ``estimate``, and the estimate once the head's
            own output under the patch is computed exactly (``own output``).
    """
    off = abs(effects["estimate"] - effects["exact"])
    left = abs(effects["own output"] - effects["exact"])
    if off <= 0.2 * abs(effects["exact"]):
        return "nothing much"
    if left <= 0.5 * off:
        return "its own softmax"
    return "what comes after" if left <= 1.5 * off else "both, against each other"


def blamed(verdicts: Sequence[str]) -> str:
    """Of the inputs that are off most, at how many each part is to blame."""
    own = sum(verdict == "its own softmax" for verdict in verdicts)
    after = sum(verdict == "what comes after" for verdict in verdicts)
    said = (
        f"Of the {len(verdicts)} that are off most, {own} are mended by computing the head's own softmax"
    )
    if own > len(verdicts) / 2:
        return f"{said}: there attention is a choice, and the gradient sees only how it would lean."
    if after > len(verdicts) / 2:
        return f"{said}; with {after} what comes after the head bends the effect."
    return f"{said} and {after} are bent by what comes after the head: no one cause."


def bend(name: str, effects: Sequence[float], slope: float) -> str:
    """How an effect grows along the step from one run's activation to the other's.

    Args:
        name: of the activation.
        effects: at equal parts of the step, 0 at its beginning.
        slope: what the gradient at the beginning foretells of the whole step.
    """
    whole = effects[-1]
    said = f"{name}: the gradient foretells {slope:+.2f}, and it is {whole:+.2f}. The effect"
    if abs(slope - whole) <= 0.1 * max(abs(slope), abs(whole)):
        return f"{said} is nearly straight."
    if slope * whole < 0:
        return f"{said} turns round: its first steps go the other way."
    if abs(slope) < abs(whole):
        return f"{said} begins flat and grows later, so that the gradient sees too little."
    return f"{said} begins steep and levels off, so that the gradient sees too much."


def mended(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Whether averaging the gradient on the way brings estimates nearer, site by site.

    Args:
        before, after: mean error of a site's estimates, with one gradient and with several.
    """
    nearer = [site for site in before if after[site] < 0.9 * before[site]]
    farther = [site for site in before if after[site] > 1.1 * before[site]]
    if not nearer and not farther:
        return "Averaging the gradient along the way changes little at any site."
    said = f"Nearer with gradients along the way: {enumerated(nearer, 'no site')}"
    if farther:
        return f"{said}. Farther off: {enumerated(farther)}. It is no cure for everything."
    return f"{said}. No site is farther off."


def one_way(kinds: Mapping[str, str]) -> str:
    """Which heads only one direction of patching finds.

    Args:
        kinds: of heads that are among the strongest in either direction, "both", "restores" (alone it
            brings the answer back, but is hardly missed) or "is missed" (the reverse).
    """
    restores = [name for name, kind in kinds.items() if kind == "restores"]
    missed = [name for name, kind in kinds.items() if kind == "is missed"]
    if not restores and not missed:
        return (
            "Both directions find the same heads: no sign of backup, or of heads that need each other."
        )
    parts = []
    if restores:
        parts.append(
            f"Restored alone but hardly missed: {enumerated(restores)} (others can stand in: OR)"
        )
    if missed:
        parts.append(f"Missed but no help alone: {enumerated(missed)} (they need others: AND)")
    return ". ".join(parts) + "."


def direction(restored: float, lost: float) -> str:
    """Whether a head is found by patching it in, by patching it out, or both ways.

    Args:
        restored: by its clean output in the corrupted run.
        lost: by its corrupted output in the clean run.
    """
    if restored * lost > 0 and 0.5 <= abs(restored / lost) <= 2:
        return "both"
    return "restores" if abs(restored) > abs(lost) else "is missed"


def stand_ins(*, alone: float, together: float, count: int) -> str:
    """Whether some heads stand in for each other: is taking all of them out worse than the sum says?

    Args:
        alone: sum of what taking out each costs.
        together: what taking out all of them costs.
        count: how many heads.
    """
    said = f"Taken out together, the {count} heads cost {together:.2f}; one by one, {alone:.2f} in all"
    if together > 1.2 * alone and together > 0:
        return f"{said}. Together they cost more: they stand in for each other."
    if alone > 1.2 * together and alone > 0:
        return f"{said}. Together they cost less, as links of one chain do."
    return f"{said}, about as much."


def edges_agree(*, rank: float, kept: int, of: int) -> str:
    """Whether edge attribution finds the edges that matter.

    Args:
        rank: rank correlation over all edges that were measured.
        kept: how many of the strongest exact edges are among as many strongest estimates.
        of: how many these are.
    """
    said = f"Of the {of} strongest edges the estimate has {kept} among its own {of} strongest"
    if kept >= 0.8 * of and rank >= 0.8:
        return f"{said}, and orders all of them much alike ({rank:.2f}): a good first look."
    if kept >= 0.5 * of:
        return f"{said} (rank correlation of all {rank:.2f}): most are found, and the rest is not."
    return f"{said} (rank correlation of all {rank:.2f}): it is another set of edges."


def smallest(faithful: Mapping[str, Sequence[Plain]], sizes: Sequence[int], enough: float = 0.8) -> str:
    """How many edges each way of choosing needs until the circuit is faithful.

    Args:
        faithful: by way of choosing, the share of the task that is kept, for each of ``sizes``.
        enough: the share that counts.
    """
    needs = {
        way: min(
            (size for size, share in zip(sizes, shares, strict=True) if share[0] >= enough), default=None
        )
        for way, shares in faithful.items()
    }
    reached = {way: size for way, size in needs.items() if size is not None}
    never = [way for way, size in needs.items() if size is None]
    said = [
        f"{way} with {size} edges" for way, size in sorted(reached.items(), key=lambda item: item[1])
    ]
    parts = [f"{enough:.0%} of the task is kept by {enumerated(said)}."] if said else []
    if never:
        parts.append(f"Never, at these sizes, by {enumerated(never)}.")
    return " ".join(parts)


def complete(left: Plain) -> str:
    """What is left of the task when the circuit's edges are cut and all others stay.

    Args:
        left: the share that is left, with its interval.
    """
    said = f"Without these edges {_percent(left[0])} of the task is left"
    if left[1] > 0.1:
        return f"{said}: the circuit is not complete, there are other ways."
    if left[2] < -0.1:
        return f"{said}, less than with no edge at all: what works against the answer stayed."
    if left[1] < -0.1 or left[2] > 0.1:
        return f"{said}, within wide limits: these prompts cannot tell whether there are other ways."
    return f"{said}: hardly anything goes by other ways."


def by_ablation(resampled: Plain, averaged: Plain) -> str:
    """Whether a circuit's faithfulness depends on what is put in the place of the rest."""
    said = (
        f"{_percent(resampled[0])} with corrupted prompts in the place of the rest, "
        f"{_percent(averaged[0])} with their average"
    )
    apart = resampled[2] < averaged[1] or averaged[2] < resampled[1]
    return f"{said}: the two do not agree." if apart else f"{said}: within what these prompts can tell."


def heads_in_common(shared: int, of: int, by_chance: float) -> str:
    """How many heads two circuits of equally many heads share.

    Args:
        by_chance: how many two circuits drawn by lot would share.
    """
    said = f"The two circuits share {shared} of {of} heads; by chance it would be {by_chance:.1f}"
    if shared >= 0.6 * of:
        return f"{said}. They are largely one circuit."
    if shared > 2 * by_chance:
        return f"{said}. They overlap, and differ in much."
    return f"{said}. They are different circuits: the answer depends on the question."


def definitions(values: Mapping[str, float]) -> str:
    """How far one path's effect depends on what "path patching" is taken to freeze.

    Args:
        values: by definition, the effect of the same path.
    """
    low, high = min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])
    spread = values[high] - values[low]
    said = f"The same path is {values[low]:+.3f} by one definition and {values[high]:+.3f} by another"
    if spread > 0.25 * max(abs(value) for value in values.values()):
        return f"{said}: say which one you mean."
    return f"{said}: it makes little difference here."


def _percent(share: float) -> str:
    """Never "-0%"."""
    return f"{round(100 * share)}%"
