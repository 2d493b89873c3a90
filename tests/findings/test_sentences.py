"""Every sentence of every module of findings, with the numbers of a case in which it is right.

``cases_NAME.py`` holds, for ``helpers/findings/NAME.py``, what is said, what must be in it, and what must
not be.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

import helpers.findings
from helpers.findings.scale import PAPER
from helpers.ioi.record import published_circuit
from tests.findings.reach import unreached

NAMES = [module.name for module in pkgutil.iter_modules(helpers.findings.__path__)]
CASES = {name: import_module(f"tests.findings.cases_{name}").CASES for name in NAMES}


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name in NAMES for number in range(len(CASES[name]))]
)
def test_it_is_true_of_its_numbers(name, number):
    sentence, wanted, unwanted = CASES[name][number]
    said = sentence()
    assert all(part in said for part in wanted), said
    assert not any(part in said for part in unwanted), said


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_reached(name):
    module = import_module(f"helpers.findings.{name}")
    assert unreached(module, lambda: [sentence() for sentence, _, _ in CASES[name]]) == []


def test_the_papers_names_are_those_of_its_published_classes():
    for name in PAPER.values():
        role = name.removesuffix(" heads").removesuffix("s")
        assert role in published_circuit() or role.replace("-", " ") in published_circuit()
