"""Each sentence of the demo on hundreds of prompts with the numbers of a case in which it is right.

Cases are SmolLM2's, as its notebook prints them, GPT-2 small's, as published, and made up where neither
has one.
"""

from __future__ import annotations

from helpers.findings import scale as say

PAPERS = list(say.PAPER)
HERE = [*PAPERS, "end, against it through others"]


def writers(circuit: say.Span, model: say.Span) -> str:
    name = "end, writes for it"
    return say.writers({name: circuit}, {name: model})


def times(starting: float, loading: float, shipping: float, working: float) -> dict[str, float]:
    return {"starting": starting, "loading": loading, "shipping": shipping, "working": working}


# What is said, what must be in it, what must not.
CASES = [
    (lambda: say.does_the_task((3.5, 3.2, 3.79)), ["does the task"], ["nothing"]),
    (lambda: say.does_the_task((0.2, -0.1, 0.5)), ["not clearly"], ["above zero"]),
    (lambda: say.representative(sample=(3.5, 3.2, 3.79), eight=(3.6, 3.0, 4.0)), ["inside the"], ["outside"]),
    (lambda: say.representative(sample=(3.5, 3.2, 3.79), eight=(4.72, 3.42, 6.47)), ["lies inside"], ["kind"]),
    (lambda: say.representative(sample=(3.5, 3.2, 3.79), eight=(4.72, 4.0, 6.47)), ["another kind"], ["inside"]),
    (lambda: say.order_of_names((-1.99, -2.49, -1.49)), ["BABA is easier", "-1.99"], ["no difference"]),
    (lambda: say.order_of_names((1.2, 0.4, 2.0)), ["ABBA is easier"], ["BABA is"]),
    (lambda: say.order_of_names((0.1, -0.4, 0.6)), ["no difference"], ["easier"]),
    (lambda: say.significant(clear=25, of=270), ["25 of 270", "about 13"], []),
    (lambda: say.overlooked(["L24H5"]), ["not on the eight: L24H5"], ["all among"]),
    (lambda: say.overlooked([]), ["all among"], ["not on the eight"]),
    (lambda: say.verdict(0.47, (0.57, 0.52, 0.63)), ["survives"], []),
    (lambda: say.verdict(-0.1, (-0.11, -0.15, -0.07)), ["survives"], []),
    (lambda: say.verdict(0.5, (0.2, 0.1, 0.3)), ["weaker"], []),
    (lambda: say.verdict(0.5, (0.4, -0.1, 0.9)), ["weaker"], []),
    (lambda: say.verdict(-0.5, (0.2, 0.1, 0.3)), ["reversed"], []),
    (lambda: say.tally(["survives", "weaker", "survives"]), ["Of 3", "2 survive", "1 are weaker", "0 rev"], []),
    (lambda: say.one_sided(["L24H4 writes"]), ["L24H4 writes"], ["Every"]),
    (lambda: say.one_sided([]), ["Every verdict is the same"], ["another"]),
    (lambda: say.strongest_writer("L9H9", {"IO": 0.8, "S1": 0.0, "S2": 0.1}, even=0.07), ["as in GPT-2"], ["contra"]),
    (lambda: say.strongest_writer("L23H3", {"IO": 0.05, "S1": 0.0, "S2": 0.6}, even=0.07), ["S2", "contra"], ["as in"]),
    (lambda: say.strongest_writer("L29H1", {"IO": 0.05, "S1": 0.0, "S2": 0.1}, even=0.07), ["no name"], ["contra"]),
    (
        lambda: say.circuit_size(25, 1350, 25, 270, reached=True),
        ["25 of 1350", "(9%)"],
        ["nine tenths"],
    ),
    (
        lambda: say.circuit_size(26, 26, 26, 144, reached=False),
        ["No number of parts", "26 of 144"],
        [],
    ),
    (lambda: say.helpful_alone((1.58, 1.34, 1.94)), ["more than the model itself"], []),
    (lambda: say.helpful_alone((1.05, 0.9, 1.2)), ["+1.05"], ["more than"]),
    (lambda: say.misses(by_prompt=0.37, on_average=0.09), ["37%", "9%", "cancel"], ["one direction"]),
    (lambda: say.misses(by_prompt=0.2, on_average=0.15), ["one direction"], ["cancel"]),
    (lambda: say.role((0.33, 0.28, 0.38)), ["needed"], ["not"]),
    (lambda: say.role((-0.36, -0.39, -0.33)), ["opposes"], ["little"]),
    (lambda: say.role((0.08, 0.02, 0.14)), ["helps a little"], []),
    (lambda: say.role((-0.08, -0.14, -0.02)), ["opposes a little"], []),
    (lambda: say.role((0.01, -0.05, 0.06)), ["not needed"], []),
    (lambda: say.role((0.03, -0.06, 0.11)), ["uncertain"], []),
    (lambda: say.minimal({"a": "needed", "b": "not needed"}), ["not minimal: b"], ["uncertain"]),
    (lambda: say.minimal({"a": "needed", "b": "uncertain"}), ["uncertain: b"], ["not minimal"]),
    (lambda: say.minimal({"a": "needed"}), ["Every class does something"], ["uncertain"]),
    (
        lambda: say.made_up_for({"a": (0.6, 0.5, 0.7), "b": (0.0, 0.0, 0.1)}, {"a": (0.1, 0.0, 0.2), "b": (0.0,) * 3}),
        ["made up for in the whole model: a."],
        ["No class"],
    ),
    (
        lambda: say.made_up_for({"a": (0.33, 0.28, 0.38)}, {"a": (0.18, 0.16, 0.2)}),
        ["No class"],
        ["half or more"],
    ),
    (lambda: say.beside_the_paper(HERE), ["description: none", "against it through others"], ["induction"]),
    (lambda: say.beside_the_paper(PAPERS[1:]), ["previous-token heads", "published ones: none"], []),
    (lambda: writers((0.63, 0.58, 0.69), (0.73, 0.68, 0.78)), ["no such rescue"], ["As in"]),
    (lambda: writers((0.63, 0.58, 0.69), (0.2, 0.15, 0.25)), ["As in GPT-2 small"], ["no such"]),
    (lambda: writers((0.63, 0.58, 0.69), (0.3, 0.2, 0.4)), ["not settled"], ["As in"]),
    (lambda: say.writers({}, {}), ["no class of writers"], ["GPT-2"]),
    (lambda: say.dependence(together=(2.81, 2.61, 3.07), kept=(0.91, 0.85, 0.98)), ["in series"], ["stand in"]),
    (lambda: say.dependence(together=(0.4, 0.3, 0.5), kept=(0.91, 0.85, 0.98)), ["stand in"], ["in series"]),
    (lambda: say.dependence(together=(0.9, 0.8, 1.0), kept=(0.91, 0.85, 0.98)), ["no sign"], ["in series"]),
    (lambda: say.the_same_on_workers(largest=0.0), ["to the last bit if"], ["believe"]),
    (lambda: say.the_same_on_workers(largest=1e-6), ["up to rounding"], ["believe"]),
    (lambda: say.the_same_on_workers(largest=0.2), ["2.0e-01", "believe neither"], ["last bit"]),
    (lambda: say.time_of_workers(times(10, 30, 0.1, 40)), ["Starting", "less than", "one process"], ["more"]),
    (lambda: say.time_of_workers(times(10, 30, 90, 900)), ["The sweep took longer", "more than"], ["one process"]),
]  # fmt: skip
