"""What the head atlas demo shows of a model."""

from __future__ import annotations

from collections.abc import Mapping


def closer_formula(agreement: Mapping[str, float]) -> str:
    """Which formula of copying is closer to what heads do with tokens, by its correlation with that."""
    closest = max(agreement, key=lambda name: agreement[name])
    if max(agreement.values()) - min(agreement.values()) > 0.1:
        return f"Closer to what heads do with tokens here: eigenvalues {closest}."
    return "The two formulas are about equally close to what heads do with tokens here."


def mover(card: Mapping[str, float]) -> str:
    """What the head that favours the right name most does, by its scores in the atlas."""
    io, s2, copies = (
        card[name] for name in ("ioi_attention_io", "ioi_attention_s2", "copying_eigenvalue")
    )
    if copies < -0.5 and s2 > io:
        return "It looks at the repeated name and pushes it down. It does not move the right one."
    if copies > 0.5 and io > s2:
        return "It looks at the right name and copies it: a name mover in the plain sense."
    return (
        "It fits neither story: not a plain copier of the right name, nor a plain suppressor of the "
        "other."
    )
