"""Each sentence of the demo on backup heads with the numbers of a case in which it is right.

Cases are SmolLM2's, as its notebook prints them, GPT-2 small's, as published, and made up where neither
has one.
"""

from __future__ import annotations

from helpers.findings import backup as say
from helpers.ioi.record import published_heatmap, published_value


def certain(value: float) -> say.Interval:
    return value, value - 0.1 * abs(value), value + 0.1 * abs(value)


def gpt2_reactions() -> str:
    """From the published heatmaps; L9H9 is the head itself, MLPs and scale are not published apart."""
    before, after = (
        published_heatmap(name) for name in ("head_attribution", "head_attribution_after_ablation")
    )
    change = after - before
    change[9, 9] = 0
    rise, fall = change.clamp(min=0).sum().item(), change.clamp(max=0).sum().item()
    lost = -published_value("top_name_mover_direct_attribution")
    return reacting(lost=lost, rise=rise, fall=fall, mlps=0, scale=0)


def gpt2_repair() -> str:
    lost = published_value("top_name_mover_direct_attribution")
    made_up = lost - (published_value("logit_diff_average") - published_value("ablation_logit_diff"))
    return say.repair(loss=certain(lost), made_up=certain(made_up))


def reacting(lost: float, rise: float, fall: float, mlps: float, scale: float) -> str:
    names = ("the head itself", "heads that rise", "heads that fall", "MLPs", "final scale")
    return say.reactions(dict(zip(names, (lost, rise, fall, mlps, scale), strict=True)))


SUPPRESSOR = {  # SmolLM2's L24H4
    "slope in prompt": -0.031,
    "slope absent": -0.006,
    "slope by chance": 0.005,
    "slope of attention": 0.018,
    "attention by chance": 0.003,
    "on the name it reads": -1.43,
    "lowest of all": 1.0,
}


def kind(**changes: float) -> str:
    return say.kind(SUPPRESSOR | {name.replace("_", " "): value for name, value in changes.items()})


def heard(**routes: float) -> str:
    direct = {"query": 0.0, "key": 0.0, "value": 0.0} | routes
    return say.route(direct | {"by way of others": direct.pop("others", 0.0)})


SMOLLM2 = {
    "L23H3": say.AS_PREDICTED,
    "L23H0": say.MADE_UP,
    "L24H5": "larger than predicted",
    "L23H1": say.MADE_UP,
}
LOOKS = {"L23H3": "S2", "L23H0": "IO", "L24H5": say.NO_NAME, "L23H1": "IO"}
GIVE, TAKE, NEITHER = (0.44, 0.38, 0.51), (-0.57, -0.61, -0.52), (-0.04, -0.06, 0.02)


def answer(verdict: str, *changes: say.Interval) -> str:
    return say.answer(
        "L23H3", verdict, dict(zip(["later heads", "later MLPs", "final scale"], changes, strict=True))
    )


def less(what: str) -> str:
    return say.why_it_matters_less("L24H4", "L23H0", what=what, io=(0.57, 0.4))


def hears(prediction: float, order: str) -> str:
    return say.what_else_it_hears("L10H7", "L9H9", prediction=prediction, order=order)


# What is said, what must be in it, what must not.
CASES = [
    (lambda: say.whom_to_ablate(largest="L9H9", name_mover="L9H9"), ["too, as in GPT-2"], ["in turn"]),
    (
        lambda: say.whom_to_ablate(largest="L23H3", name_mover="L23H0"),
        ["L23H0 is the", "in turn"],
        ["too"],
    ),
    (lambda: say.whom_to_ablate(largest="L1H1", name_mover=None), ["alone"], ["GPT-2", "in turn"]),
    (gpt2_repair, ["made up for"], ["predicted"]),
    (lambda: say.repair(loss=(2.24, 1.9, 2.6), made_up=(-0.22, -0.55, 0.15)), ["about"], ["made up"]),
    (lambda: say.repair(loss=(1.96, 1.87, 2.05), made_up=(-0.16, -0.25, -0.07)), ["about"], ["larger"]),
    (lambda: say.repair(loss=(0.53, 0.45, 0.62), made_up=(0.57, 0.49, 0.65)), ["made up"], ["larger"]),
    (lambda: say.repair(loss=(-0.45, -0.59, -0.29), made_up=(-0.36, -0.41, -0.31)), ["made up"], []),
    (
        lambda: say.repair(loss=(-0.21, -0.24, -0.18), made_up=(0.15, 0.13, 0.18)),
        ["larger"],
        ["made up"],
    ),
    (lambda: say.repair(loss=(0.1, -0.1, 0.3), made_up=(0.5, 0.4, 0.6)), ["too uncertain"], ["made up"]),
    (gpt2_reactions, ["one way", "+2.5"], ["cancels"]),
    (
        lambda: reacting(lost=-2.24, rise=1.183, fall=-0.666, mlps=-0.703, scale=-0.033),
        ["2.5", "cancels: -0.22 remains"],
        ["one way"],
    ),
    (
        lambda: reacting(lost=-0.774, rise=0.497, fall=-0.101, mlps=0.1, scale=0.239),
        ["one way", "+0.7", "of 0.94"],
        ["cancels"],
    ),
    (lambda: reacting(lost=-1, rise=0.03, fall=-0.03, mlps=0, scale=0.01), ["Hardly"], ["react "]),
    (lambda: reacting(-1, 0.3, 0, 0, 0), ["one way: +0.30 of 0.30"], ["Hardly"]),
    (lambda: reacting(-2, 0.1, -1, -0.5, -0.1), ["one way: -1.50 of 1.70"], ["cancels"]),
    (lambda: say.change_of_side(-0.2, 0.1), ["changes sides"], ["matters"]),
    (lambda: say.change_of_side(-0.995, -0.421), ["negative", "less"], ["more"]),
    (lambda: say.change_of_side(-0.4, -0.9), ["negative", "more"], ["less"]),
    (lambda: say.change_of_side(1.249, 0.725), ["positive", "back"], ["in"]),
    (lambda: say.change_of_side(0.0, 0.749), ["positive", "steps in"], ["back"]),
    (lambda: say.what_moves({"attention": 0.452, "value": 0.0}), ["attention"], ["value"]),
    (lambda: say.what_moves({"attention": -0.45, "value": 0.1}), ["attention"], ["value"]),
    (lambda: say.what_moves({"attention": -0.012, "value": 0.541}), ["value"], ["attention"]),
    (lambda: heard(query=0.4, value=-0.1), ["through its query"], ["others"]),
    (lambda: heard(key=-0.4), ["through its key"], ["query"]),
    (lambda: heard(query=0.02, others=0.03), ["in between"], ["query"]),
    (lambda: say.shared_values("L29H0", "L29H1", together=0.049), ["+0.049", "opposite"], []),
    (kind, ["copy suppression"], ["as copy suppression would"]),
    (lambda: kind(slope_in_prompt=-0.009), ["does not answer", "lowers the name"], ["raises"]),
    (
        lambda: kind(slope_in_prompt=0.007, on_the_name_it_reads=1.77),
        ["does not answer", "raises"],
        ["lowers"],
    ),
    (lambda: kind(slope_by_chance=0.02), ["does not answer"], ["copy"]),
    (lambda: kind(slope_in_prompt=0.058), ["votes for"], ["against"]),
    (
        lambda: kind(slope_in_prompt=-0.076, slope_absent=-0.072),
        ["votes against", "or not"],
        ["for what"],
    ),
    (lambda: kind(slope_of_attention=0.005), ["but not as copy suppression would"], ["votes"]),
    (lambda: kind(lowest_of_all=0.5), ["but not as copy suppression would"], ["votes"]),
    (lambda: kind(lowest_of_all=0.75), ["copy suppression"], ["would"]),
    (lambda: kind(on_the_name_it_reads=0.5), ["but not as copy suppression would"], ["votes"]),
    (
        lambda: say.negative_heads(
            {"L24H4": say.COPY_SUPPRESSION, "L29H0": say.AGAINST_ANY, "L1H1": "x"}
        ),
        ["copies: L24H4.", "prediction: L29H0."],
        ["L1H1"],
    ),
    (lambda: say.negative_heads({}), ["copies: none", "prediction: none"], []),
    (lambda: say.turns_round(-0.489, 1.261), ["turns"], ["not"]),
    (lambda: say.turns_round(1.249, -0.563), ["turns"], ["not"]),
    (lambda: say.turns_round(2.24, -0.5), ["not"], ["round"]),
    (lambda: say.turns_round(2.24, 2.357), ["not"], ["round"]),
    (
        lambda: say.by_kind_of_ablation(
            "L23H0", dict.fromkeys(("zero", "mean", "resample"), say.MADE_UP)
        ),
        ["All 3 kinds agree on L23H0", "made up for"],
        ["disagree"],
    ),
    (
        lambda: say.by_kind_of_ablation("L5H5", {"zero": say.MADE_UP, "mean": say.AS_PREDICTED}),
        ["disagree on L5H5", "zero: made up", "mean: about"],
        ["All"],
    ),
    (
        lambda: say.misses(same=(0.39, 0.33, 0.44), more=(-0.03, -0.07, 0.01), twice=(-0.4, -0.5, -0.3)),
        ["a name; of the order, nothing"],
        ["place"],
    ),
    (
        lambda: say.misses(same=certain(0.4), more=(0.04, -0.04, 0.12), twice=certain(-0.3)),
        [say.NO_ORDER],
        ["place"],
    ),
    (
        lambda: say.misses(same=certain(0.4), more=certain(0.4), twice=(0.05, -0.1, 0.2)),
        ["a name and a place"],
        [],
    ),
    (lambda: say.misses(same=certain(0.4), more=certain(-0.2), twice=certain(-0.6)), ["a name"], [";"]),
    (
        lambda: say.misses(same=(0, -0.1, 0.1), more=certain(0.4), twice=certain(0.4)),
        ["a place"],
        ["name"],
    ),
    (
        lambda: say.misses(same=certain(0.4), more=certain(0.2), twice=certain(-0.2)),
        ["a name and a place"],
        [],
    ),
    (
        lambda: say.misses(same=(0, -0.1, 0.1), more=(0, -0.1, 0.1), twice=(0, -0.1, 0.1)),
        ["no reaction"],
        ["misses"],
    ),
    (lambda: say.looked_at({"IO": 0.05, "S1": 0.1, "S2": 0.62}, even=1 / 15), ["S2"], ["no name"]),
    (lambda: say.looked_at({"IO": 0.2, "S1": 0.1, "S2": 0.02}, even=1 / 15), ["IO"], ["no name"]),
    (lambda: say.looked_at({"IO": 0.08, "S1": 0.13, "S2": 0.02}, even=1 / 15), ["no name"], ["S1"]),
    (
        lambda: say.who_is_repaired(SMOLLM2, LOOKS),
        ["Exactly the heads that look at IO", "depends on which"],
        ["but"],
    ),
    (
        lambda: say.who_is_repaired(SMOLLM2, LOOKS | {"L24H5": "IO"}),
        ["not the other way round", "depends"],
        ["Exactly"],
    ),
    (
        lambda: say.who_is_repaired(
            SMOLLM2 | {"L23H3": "larger than predicted"}, LOOKS | {"L23H1": "S1"}
        ),
        ["L23H0 and L23H1, not all of which look at IO."],
        ["Exactly", "depends"],
    ),
    (lambda: say.who_is_repaired({"L9H9": say.MADE_UP}, {"L9H9": "IO"}), ["All of these"], ["depends"]),
    (lambda: say.who_is_repaired({"L9H9": say.AS_PREDICTED}, {"L9H9": "IO"}), ["None"], ["depends"]),
    (
        lambda: answer(say.AS_PREDICTED, GIVE, TAKE, TAKE),
        ["as if little", "later heads give, and later MLPs and final scale take away"],
        ["That is a sum"],
    ),
    (
        lambda: answer(say.MADE_UP, TAKE, NEITHER, GIVE),
        ["made up for", "a sum: final scale gives, and later heads take away"],
        ["little", "MLPs"],
    ),
    (lambda: answer(say.MADE_UP, GIVE, GIVE, TAKE), ["final scale takes away"], ["little"]),
    (lambda: answer(say.MADE_UP, GIVE, GIVE, GIVE), ["What gives", "MLPs"], ["takes"]),
    (lambda: answer(say.MADE_UP, GIVE, (0.03, -0.01, 0.06), GIVE), ["What gives"], ["MLPs"]),
    (
        lambda: answer(say.AS_PREDICTED, TAKE, NEITHER, NEITHER),
        ["What takes away: later heads."],
        ["gives"],
    ),
    (lambda: answer(say.AS_PREDICTED, NEITHER, NEITHER, NEITHER), ["No group"], ["give"]),
    (lambda: less(say.COPY_SUPPRESSION), ["L24H4 without L23H0", "from 0.57 to 0.40"], ["settled"]),
    (lambda: less(say.AGAINST_ANY), ["opposes whatever"], ["settled", "IO"]),
    (lambda: less("votes for what is predicted"), ["not settled", "It votes for"], ["opposes"]),
    (lambda: hears(float("nan"), say.NO_ORDER), ["hears nothing of L9H9"], ["nan", "%"]),
    (lambda: hears(0.22, say.NO_ORDER), ["only 22%", "no mere place"], ["mostly"]),
    (lambda: hears(0.22, "misses a name"), ["only 22%"], ["mostly", "place"]),
    (lambda: hears(0.22, "misses a name and a place"), ["only 22%", "may be a place"], ["no mere"]),
    (lambda: hears(0.9, "misses a name"), ["mostly L9H9's prediction", "90%"], ["only"]),
    (lambda: hears(-0.9, "misses a name"), ["mostly L9H9's prediction"], ["only"]),
    (lambda: say.told_by(directly=4, by_way_of_others=1), ["Of 5", "4 are mostly", "1 mostly"], []),
    (lambda: say.told_by(directly=0, by_way_of_others=0), ["No head reacts"], ["0"]),
    (lambda: say.against_the_story({"a": (False, True), "b": (True, True)}), [": a."], ["b", "nothing"]),
    (lambda: say.against_the_story({"b": (True, True)}), ["nothing in this table"], ["b."]),
]
