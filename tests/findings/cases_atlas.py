"""Each sentence of the head atlas demo with the numbers of a case in which it is right."""

from __future__ import annotations

from helpers.findings import atlas as say


def mover(io: float, s2: float, copies: float) -> str:
    return say.mover({"ioi_attention_io": io, "ioi_attention_s2": s2, "copying_eigenvalue": copies})


def formula(plain: float, read: float) -> str:
    return say.closer_formula({"on plain embeddings": plain, "as read": read})


# What is said, what must be in it, what must not.
CASES = [
    (lambda: formula(0.3, 0.8), ["eigenvalues as read"], ["equally"]),
    (lambda: formula(0.8, 0.3), ["eigenvalues on plain embeddings"], ["equally"]),
    (lambda: formula(0.75, 0.8), ["equally"], ["Closer"]),
    (lambda: mover(0.05, 0.56, -0.98), ["pushes it down"], ["name mover"]),
    (lambda: mover(0.8, 0.03, 0.9), ["name mover"], ["pushes"]),
    (lambda: mover(0.8, 0.03, -0.9), ["neither story"], ["It looks"]),
    (lambda: mover(0.1, 0.6, 0.9), ["neither story"], ["It looks"]),
]
