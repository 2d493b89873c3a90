"""Each sentence of the demo on attribution patching with the numbers of a case in which it is right."""

from __future__ import annotations

from helpers.findings import attribution as say


def blamed(exact: float, estimate: float, own: float) -> str:
    return say.blame({"exact": exact, "estimate": estimate, "own output": own})


SOFTMAX, AFTER = "its own softmax", "what comes after"

# What is said, what must be in it, what must not.
CASES = [
    (
        lambda: say.overlooked({"L1H2": (0.4, 0.05), "L3H4": (0.3, 0.28), "L5H6": (-0.2, -0.05)}),
        ["Of the 3 heads", "2 are taken", "L1H2: it restores +0.40", "+0.05", "passes over"],
        ["L3H4", "none"],
    ),
    (
        lambda: say.overlooked({"L3H4": (0.3, 0.28)}),
        ["Of the 1 heads", "none is taken"],
        ["passes over", "L3H4"],
    ),
    (
        lambda: say.agreement({"z": 0.98, "resid_pre": 0.3}),
        ["best at z (0.98)", "no guide"],
        ["enough", "first look"],
    ),
    (
        lambda: say.agreement({"z": 0.98, "q": 0.7}),
        ["least at q (0.70)", "first look"],
        ["no guide", "enough"],
    ),
    (lambda: say.agreement({"z": 0.98, "q": 0.92}), ["enough everywhere"], ["no guide", "first look"]),
    (lambda: say.top_ten({"z": 10, "q": 10}), ["the same ten"], ["misses"]),
    (lambda: say.top_ten({"z": 10, "q": 7, "k": 9}), ["misses 3 at q", "at 1 of 3 sites"], ["same ten"]),
    (lambda: blamed(1.0, 0.9, 0.5), ["nothing much"], ["softmax"]),
    (lambda: blamed(1.0, 0.2, 0.9), [SOFTMAX], ["after"]),
    (lambda: blamed(1.0, 0.2, 0.3), [AFTER], ["softmax"]),
    (lambda: blamed(1.0, 0.7, 0.1), ["against each other"], ["after"]),
    (
        lambda: say.blamed([SOFTMAX, SOFTMAX, AFTER]),
        ["Of the 3", "2 are mended", "a choice"],
        ["no one cause"],
    ),
    (
        lambda: say.blamed([AFTER, AFTER, SOFTMAX]),
        ["1 are mended", "with 2 what comes after"],
        ["a choice"],
    ),
    (lambda: say.blamed([AFTER, SOFTMAX]), ["no one cause"], ["a choice"]),
    (
        lambda: say.bend("z 3", [0, 0.5, 1.0], 0.95),
        ["z 3", "+0.95", "+1.00", "nearly straight"],
        ["flat", "steep", "round"],
    ),
    (lambda: say.bend("z 3", [0, -0.1, 1.0], -0.5), ["turns round"], ["flat", "steep"]),
    (lambda: say.bend("z 3", [0, 0.1, 1.0], 0.2), ["begins flat", "too little"], ["steep"]),
    (lambda: say.bend("z 3", [0, 0.8, 1.0], 3.0), ["levels off", "too much"], ["flat"]),
    (lambda: say.bend("z 3", [0, 0.0, 0.0], 0.0), ["nearly straight"], ["flat"]),
    (lambda: say.mended({"q": 0.1}, {"q": 0.099}), ["changes little"], ["Nearer", "Farther"]),
    (
        lambda: say.mended({"q": 0.1, "z": 0.1}, {"q": 0.05, "z": 0.1}),
        ["way: q.", "No site is farther"],
        ["cure", "z"],
    ),
    (
        lambda: say.mended({"q": 0.1, "z": 0.1}, {"q": 0.05, "z": 0.2}),
        ["way: q.", "off: z.", "no cure"],
        ["No site"],
    ),
    (lambda: say.mended({"z": 0.1}, {"z": 0.2}), ["no site", "off: z"], ["No site"]),
    (lambda: say.one_way({"L1H2": "both"}), ["the same heads"], ["L1H2", "OR", "AND"]),
    (
        lambda: say.one_way({"L1H2": "restores", "L3H4": "both"}),
        ["hardly missed: L1H2", "OR"],
        ["L3H4", "AND"],
    ),
    (lambda: say.one_way({"L1H2": "is missed"}), ["no help alone: L1H2", "AND"], ["OR"]),
    (
        lambda: say.one_way({"L1H2": "restores", "L3H4": "is missed"}),
        ["hardly missed: L1H2", "no help alone: L3H4"],
        ["same"],
    ),
    (lambda: say.direction(0.4, 0.3), ["both"], ["restores"]),
    (lambda: say.direction(0.4, 0.1), ["restores"], ["both", "missed"]),
    (lambda: say.direction(0.1, 0.4), ["is missed"], ["both", "restores"]),
    (lambda: say.direction(-0.4, 0.3), ["restores"], ["both"]),
    (lambda: say.direction(0.4, 0.0), ["restores"], ["both"]),
    (
        lambda: say.stand_ins(alone=0.3, together=0.9, count=4),
        ["4 heads cost 0.90", "stand in"],
        ["chain", "about"],
    ),
    (
        lambda: say.stand_ins(alone=0.9, together=0.3, count=4),
        ["cost less", "one chain"],
        ["stand in", "about"],
    ),
    (lambda: say.stand_ins(alone=0.9, together=0.95, count=4), ["about as much"], ["stand in", "chain"]),
    (
        lambda: say.stand_ins(alone=-0.9, together=-0.3, count=4),
        ["about as much"],
        ["stand in", "chain"],
    ),
    (
        lambda: say.edges_agree(rank=0.9, kept=45, of=50),
        ["50 strongest", "has 45", "good first look"],
        ["another"],
    ),
    (
        lambda: say.edges_agree(rank=0.6, kept=30, of=50),
        ["has 30", "most are found"],
        ["good", "another"],
    ),
    (lambda: say.edges_agree(rank=0.2, kept=10, of=50), ["another set"], ["good", "most"]),
    (
        lambda: say.smallest(
            {"exact": [(0.3, 0, 1), (0.9, 0, 1)], "gradient": [(0.1, 0, 1), (0.2, 0, 1)]}, [10, 100]
        ),
        ["80%", "exact with 100 edges", "Never, at these sizes, by gradient"],
        ["10 edges"],
    ),
    (
        lambda: say.smallest({"exact": [(0.85, 0, 1), (0.9, 0, 1)]}, [10, 100]),
        ["exact with 10 edges"],
        ["Never"],
    ),
    (
        lambda: say.smallest({"exact": [(0.1, 0, 1)]}, [10]),
        ["Never, at these sizes, by exact"],
        ["kept by"],
    ),
    (lambda: say.complete((0.4, 0.3, 0.5)), ["40%", "not complete"], ["hardly", "less than"]),
    (
        lambda: say.complete((-0.4, -0.5, -0.3)),
        ["-40%", "less than with no edge"],
        ["hardly", "not complete"],
    ),
    (
        lambda: say.complete((-0.001, -0.05, 0.05)),
        ["0% of the task", "hardly anything"],
        ["-0%", "not complete"],
    ),
    (
        lambda: say.complete((0.0, -0.3, 0.3)),
        ["0% of", "wide limits", "cannot tell"],
        ["hardly", "less"],
    ),
    (lambda: say.complete((0.02, -0.05, 0.2)), ["cannot tell"], ["hardly", "not complete"]),
    (
        lambda: say.edges_agree(rank=0.3, kept=45, of=50),
        ["has 45", "0.30", "most are found"],
        ["much alike"],
    ),
    (
        lambda: say.by_ablation((0.9, 0.8, 1.0), (0.5, 0.4, 0.6)),
        ["90%", "50%", "do not agree"],
        ["within"],
    ),
    (lambda: say.by_ablation((0.5, 0.4, 0.6), (0.9, 0.8, 1.0)), ["do not agree"], ["within"]),
    (lambda: say.by_ablation((0.9, 0.8, 1.0), (0.85, 0.7, 0.95)), ["within"], ["do not agree"]),
    (lambda: say.heads_in_common(8, 10, 1.0), ["8 of 10", "1.0", "largely one"], ["different"]),
    (lambda: say.heads_in_common(4, 10, 1.0), ["overlap"], ["largely", "different circuits"]),
    (lambda: say.heads_in_common(1, 10, 1.0), ["different circuits"], ["largely", "overlap"]),
    (
        lambda: say.definitions({"ours": 0.1, "theirs": 0.2}),
        ["+0.100", "+0.200", "say which"],
        ["little"],
    ),
    (lambda: say.definitions({"ours": 0.1, "theirs": 0.11}), ["makes little difference"], ["say which"]),
]
