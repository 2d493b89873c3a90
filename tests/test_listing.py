"""The folder as a table of contents, and that general modules know no task of their own."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import helpers

HELPERS = Path(helpers.__file__).parent
# What is about IOI, asks about it among other things, or words findings on it; and what nobody imports.
ABOUT_IOI = ("ioi", "atlas", "findings", "notebooks")
GENERAL = sorted(
    path for path in HELPERS.rglob("*.py") if path.relative_to(HELPERS).parts[0] not in ABOUT_IOI
)

WITHOUT_IOI = """
import sys
from importlib import import_module

class Absent:
    def find_spec(self, name, *_):
        if name == "helpers.ioi" or name.startswith("helpers.ioi."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for name in sys.argv[1:]:
    import_module(name)
print("imported", flush=True)
import helpers.ioi.prompts
"""


def test_the_docstring_names_every_module_once():
    named = re.findall(r"^ {4}(\w+) {2,}\S", helpers.__doc__, flags=re.MULTILINE)
    assert sorted(named) == sorted(info.name for info in pkgutil.iter_modules(helpers.__path__))


@pytest.mark.slow
def test_general_modules_are_imported_where_those_about_ioi_are_absent():
    modules = [
        ".".join(("helpers", *path.relative_to(HELPERS).with_suffix("").parts)).removesuffix(".__init__")
        for path in GENERAL
    ]
    assert len(modules) > 40
    command = [sys.executable, "-c", WITHOUT_IOI, *modules]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.stdout == "imported\n", run.stderr
    assert "No module named 'helpers.ioi" in run.stderr, "it was absent"


def test_general_modules_know_no_role_of_ioi():
    found = {
        path.name: re.findall(r"\b(?:IO|S1|S2)\b", path.read_text(encoding="utf-8")) for path in GENERAL
    }
    assert {name: words for name, words in found.items() if words} == {}
