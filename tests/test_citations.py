"""A paper's number on arXiv stands beside its first author and year: a digit that slips is noticed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAPERS = {
    "1906.04341": "Clark",
    "2202.05262": "Meng",
    "2211.00593": "Wang",
    "2304.05969": "Goldowsky",
    "2304.14997": "Conmy",
    "2305.00586": "Hanna",
    "2307.15771": "McGrath",
    "2309.17453": "Xiao",
    "2310.04625": "McDougall",
    "2310.10348": "Syed",
    "2403.17806": "Hanna",
}
NUMBER = re.compile(r"(?:arxiv\.org/abs/|arXiv )(\d{4}\.\d{5})")
TEXTS = [
    ROOT / "README.md",
    *sorted((ROOT / "demos").glob("*.py")),
    *sorted((ROOT / "helpers").rglob("*.py")),
]
CITED = [(path, found) for path in TEXTS for found in NUMBER.finditer(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    ("path", "found"), CITED, ids=[f"{path.stem}-{found[1]}" for path, found in CITED]
)
def test_a_number_is_its_authors(path, found):
    assert found[1] in PAPERS, f"{path}: whose is {found[1]}?"
    beside = found.string[max(0, found.start() - 250) : found.end() + 100]
    assert PAPERS[found[1]] in beside
    assert f"20{found[1][:2]}" in beside


def test_every_paper_is_cited():
    assert {found[1] for _, found in CITED} == {*PAPERS}
