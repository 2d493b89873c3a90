"""What `make test DEMO=name` and `-n auto` choose."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import machine
from tests.selection import ROOT, imported, modules_about, reached


def test_modules_are_found_in_every_form_of_import(tmp_path: Path) -> None:
    source = tmp_path / "Demo.py"
    source.write_text(
        "import torch, helpers.ioi.prompts\nfrom helpers import patching\n"
        "from helpers.plotting import imshow\n"
        "def f():\n    from helpers.atlas.table import Atlas\n"
    )
    assert {str(path.relative_to(ROOT / "helpers")) for path in imported(source)} == {
        *("ioi/prompts.py", "patching.py", "plotting/__init__.py", "atlas/table.py"),
    }


def test_what_is_imported_by_an_import_counts() -> None:
    demo = ROOT / "demos" / "Exploratory_Analysis_Demo.py"
    assert "helpers.replay" not in demo.read_text()
    assert ROOT / "helpers" / "replay.py" in reached(demo), "patching stands on it"


def test_tests_are_those_named_after_the_modules() -> None:
    modules = {ROOT / "helpers" / name for name in ("tables.py", "atlas/table.py", "progress.py")}
    assert [path.name for path in modules_about(modules)] == [
        *("test_atlas.py", "test_atlas_examples.py", "test_atlas_page.py", "test_atlas_scores.py"),
        "test_tables.py",
    ]
    exploratory = modules_about(reached(ROOT / "demos" / "Exploratory_Analysis_Demo.py"))
    assert ROOT / "tests" / "test_path_patching.py" in exploratory
    assert ROOT / "tests" / "test_atlas.py" not in exploratory


@pytest.mark.parametrize(
    ("cores", "gigabytes", "expected"), [(8, 64, 8), (8, 9, 2), (2, 64, 2), (8, 3, 1)]
)
def test_workers_fit_cores_and_memory(
    monkeypatch: pytest.MonkeyPatch, cores: int, gigabytes: int, expected: int
) -> None:
    memory = SimpleNamespace(available=gigabytes * 2**30)
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: memory)
    assert machine.workers(gigabytes_each=4) == expected
