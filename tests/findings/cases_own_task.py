"""Each sentence of the demo on a task of one's own with the numbers of a case in which it is right."""

from __future__ import annotations

from helpers.findings import own_task as say

SURE = (0.99, 0.97, 1.0)
EVEN = (0.52, 0.45, 0.59)
MORE = (3.4, 3.1, 3.7)
NONE = (0.1, -0.2, 0.4)


def able(accuracy: say.Plain, effect: say.Plain) -> str:
    return say.can_do(accuracy=accuracy, effect=effect, prompts=200)


def heads(chosen: say.Plain, at_random: say.Plain) -> str:
    return say.enough(chosen=chosen, at_random=at_random, count=10)


# What is said, what must be in it, what must not.
CASES = [
    (
        lambda: able(SURE, MORE),
        ["99% of 200", "costs 3.40", "something to explain"],
        ["Stop", "nothing"],
    ),
    (lambda: able(EVEN, MORE), ["52% of 200", "chance", "Stop here"], ["something to explain"]),
    (lambda: able((0.5, 0.5, 0.5), MORE), ["Stop here"], ["something to explain"]),
    (lambda: able(SURE, NONE), ["nothing to restore", "+0.10"], ["something to explain", "Stop"]),
    (lambda: say.lens(largest=3.8, whole=4.7, at="23_mid"), ["at once, at 23_mid", "81%"], ["steps"]),
    (lambda: say.lens(largest=2.0, whole=4.0, at="9_mid"), ["at once", "50%"], ["steps"]),
    (lambda: say.lens(largest=1.0, whole=4.0, at="9_mid"), ["steps", "at 9_mid", "25%"], ["at once"]),
    (lambda: say.lens(largest=1.0, whole=-0.3, at="9_mid"), ["does not rise"], ["%", "9_mid"]),
    (lambda: heads((0.68, 0.67, 0.69), (-0.002, -0.004, -0.001)), ["at random, 0%"], ["-0"]),
    (
        lambda: heads((0.82, 0.75, 0.9), (0.02, -0.03, 0.06)),
        ["restore 82%", "most of it", "at random, 2%"],
        ["no circuit", "a part"],
    ),
    (
        lambda: heads((0.4, 0.3, 0.5), (0.02, -0.03, 0.06)),
        ["restore 40%", "a part of it"],
        ["most of it", "no circuit"],
    ),
    (lambda: heads((0.2, 0.05, 0.4), (0.1, 0.0, 0.2)), ["20%", "10%", "no circuit"], ["most", "a part"]),
    (
        lambda: say.shared({"a": ["L1H2", "L3H4"], "b": ["L3H4", "L5H6"], "c": ["L5H6", "L3H4"]}),
        ["L3H4 (a, b and c); L5H6 (b and c)."],
        ["L1H2", "No head"],
    ),
    (lambda: say.shared({"a": ["L1H2"], "b": ["L3H4"]}), ["No head", "of its own"], ["L1H2"]),
]
