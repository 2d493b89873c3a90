"""Each sentence of the exploratory demo with the numbers of a case in which it is right.

Cases are SmolLM2's, as its notebook prints them, GPT-2 small's, as published, and made up where neither
has one.
"""

from __future__ import annotations

from helpers.findings import exploratory as say
from helpers.ioi.record import published_heatmap, published_line, published_value

GPT2 = published_value("logit_diff_per_prompt")
EVEN = 1 / 15


def largest_rise(values: dict[str, float]) -> tuple[str, float]:
    """Label and largest reading until then."""
    names, readings = list(values), list(values.values())
    at = max(range(1, len(names)), key=lambda i: readings[i] - readings[i - 1])
    return names[at], max(map(abs, readings[:at]))


def head(**changes: float) -> dict[str, float]:
    """A row of the demo's table; by default of SmolLM2's name mover."""
    numbers = {"IO": 0.597, "S1": 0.147, "S2": 0.119, "right": 1.37, "wrong": 0.6} | changes
    right, wrong = numbers.pop("right"), numbers.pop("wrong")
    effects = {"effect on the right name": right, "on the wrong name": wrong}
    return {f"attention to {name}": value for name, value in numbers.items()} | effects


def mover(**changes: float) -> str:
    return say.looks_and_moves(head(**changes), even=EVEN)


def lost(name: str, **changes: float) -> str:
    return say.what_is_lost(name, head(**changes), even=EVEN)


def backup(by_heads: float, by_mlps: float, in_all: float) -> str:
    return say.backup({"other heads": by_heads, "MLPs": by_mlps, "in all": in_all - 1})


def acting(restores: float, directly: float) -> str:
    return say.way_of_acting({"restores": restores, "writes directly": directly})


GPT2_RISE, GPT2_BEFORE = largest_rise(published_line("logit_lens"))
GPT2_SIZES = published_heatmap("head_attribution").abs().flatten().tolist()

# What is said, what must be in it, what must not.
CASES = [
    (lambda: say.task(GPT2), ["8 of 8", "e^3.55"], ["stop"]),
    (lambda: say.task([1.0, -3.0]), ["1 of 2", "does not do the task"], ["times as likely"]),
    (lambda: say.lens(rise_at=GPT2_RISE, before=GPT2_BEFORE), ["an attention layer"], ["MLP"]),
    (lambda: say.lens(rise_at="final_post", before=0.2), ["an MLP", "±0.200"], ["attention"]),
    (lambda: say.concentration(GPT2_SIZES), ["of 144 heads"], ["spread"]),
    (lambda: say.concentration([0.5, 0.3, 0.1, 0.1]), ["2 of 4", "80.0%"], ["spread"]),
    (lambda: say.concentration([0.05, 0.1]), ["No head of 2", "spread"], ["%"]),
    (lambda: say.name_movers({"L1H3": mover(S2=0.624), "L23H0": mover()}), ["L23H0"], ["L1H3"]),
    (lambda: say.name_movers({"L1H0": mover(right=-2.0)}), ["None"], ["L1H0"]),
    (lambda: say.known_kind({"induction": 0.92, "duplicate token": 0.1}), ["induction, 0.92"], ["none"]),
    (lambda: say.known_kind({"induction": 0.5, "duplicate token": 0.1}), [say.NO_KIND], ["0.5"]),
    (lambda: say.first_layer([False, True, True]), ["L1"], ["never"]),
    (lambda: say.first_layer([False]), ["never"], ["L"]),
    (lambda: acting(0.509, 0.474), ["writes"], ["through"]),
    (lambda: acting(0.436, 0.029), ["through"], ["writes"]),
    (lambda: acting(-0.245, -0.211), ["writes"], ["through"]),
    (lambda: acting(0.116, -0.3), ["through"], ["writes"]),
    (lambda: say.early_mlps([1.0, 0.014, 0.002]), ["1.000, 0.014", "can matter"], ["next to nothing"]),
    (lambda: say.early_mlps([0.01, -0.5]), ["next to nothing"], ["can matter"]),
    (lambda: say.matters_for({"values": -0.001, "pattern": 0.327}), ["where it looks"], ["reads"]),
    (lambda: say.matters_for({"values": -0.5, "pattern": 0.1}), ["what it reads"], ["looks"]),
    (lambda: say.matters_for({"values": 0.134, "pattern": -0.248}), ["both"], ["reads"]),
    (
        lambda: say.spoken_to(receiver="L23H3", paths=[-0.013, -0.011], whole=0.509),
        ["Hardly any head speaks to L23H3"],
        ["Other heads"],
    ),
    (
        lambda: say.spoken_to(receiver="L23H0", paths=[0.175, 0.077], whole=0.116),
        ["Other heads speak to L23H0"],
        ["Hardly"],
    ),
    (lambda: say.circuit(heads=8, effects=8), ["8 heads, and 8 direct"], ["no arrow"]),
    (lambda: say.circuit(heads=8, effects=0), ["8 heads and no arrow"], ["the rest"]),
    (
        lambda: say.chain([("L17H4", "value", "L20H0"), ("L20H0", "query", "L23H0")]),
        ["L17H4 -> value of L20H0 -> query of L23H0 -> logits"],
        ["No single"],
    ),
    (lambda: say.chain([]), ["No single path"], ["->"]),
    (lambda: say.largest_writer(right=-0.268, wrong=-2.508), ["inhibition"], ["against", "raises"]),
    (lambda: say.largest_writer(right=2.5, wrong=-0.5), ["mostly raises the right"], ["inhibition of"]),
    (lambda: say.largest_writer(right=0.5, wrong=0.9), ["against the answer"], ["raises"]),
    (lambda: say.largest_writer(right=1.0, wrong=1.0), ["both names"], ["against"]),
    (
        lambda: say.captured(8, 2.22, 270, 2.99),
        ["The 8 heads", "2.22", "all 270 heads to 2.99"],
        [],
    ),
    (
        lambda: say.early_induction(at_work=["L17H4"], of_the_kind=["L17H4"]),
        ["L17H4", "question mark"],
        ["elsewhere"],
    ),
    (lambda: say.early_induction(at_work=[], of_the_kind=["L5H5"]), ["elsewhere", "L5H5"], ["question"]),
    (lambda: say.early_induction(at_work=[], of_the_kind=[]), ["no induction head"], ["elsewhere"]),
    (lambda: say.strong_but_unused(["L5H1", "L7H2"], of=5), ["2 belong", "L5H1 and L7H2"], []),
    (lambda: say.strong_but_unused([], of=5), ["All of the 5"], ["less than"]),
    (lambda: backup(0.9, 0.0, 0.787), ["+78.7%", "is backup"], ["falls"]),
    (
        lambda: backup(0.231, -0.314, -0.098),
        ["by about as much", "-31.4%"],
        ["There is backup", "larger than"],
    ),
    (lambda: backup(0.02, 0.01, 0.0), ["Nothing steps in"], ["Some parts"]),
    (lambda: backup(0.3, -0.6, -0.3), ["larger than"], ["about as much"]),
    (lambda: backup(-0.2, -0.1, -0.3), ["falls back too"], ["Some parts"]),
    (
        lambda: lost("L23H3", IO=0.05, S2=0.62, right=-0.268, wrong=-2.508),
        ["not GPT-2 small's case", "0.62"],
        ["as GPT-2 small's does"],
    ),
    (
        lambda: lost("L9H9", IO=0.8, S2=0.03, right=3.0, wrong=0.4),
        ["as GPT-2 small's does"],
        ["inhibition"],
    ),
    (
        lambda: lost("L29H1", IO=0.002, S2=0.002, right=1.7, wrong=0.46),
        ["neither"],
        ["GPT-2"],
    ),
    (lambda: mover(), [say.NAME_MOVER], ["S2"]),
    (lambda: mover(IO=0.13, S1=0.13), ["no name in particular", "raises the right"], ["most at"]),
    (lambda: mover(S2=0.624, right=-0.268, wrong=-2.5), ["most at S2", "lowers the wrong"], ["right"]),
    (lambda: mover(IO=0.05, S1=0.5, right=0.1), ["most at S1", "raises the wrong"], ["right"]),
    (lambda: mover(right=-0.981, wrong=-0.492), ["most at IO", "lowers the right"], ["wrong"]),
    (lambda: acting(0.0, 0.0), ["does nothing"], ["writes", "through"]),
    (lambda: say.matters_for({"values": 0.0, "pattern": 0.0}), ["neither"], ["both"]),
]  # fmt: skip
