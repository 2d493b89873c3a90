"""The mutation suite on a small synthetic demo; `python -m tests.mutations demos` has the real."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.notebooks.checks import read_settings
from tests.mutations.damage import DAMAGE, Damage
from tests.mutations.demo import Demo, Edit
from tests.mutations.harmless import HARMLESS, Harmless
from tests.mutations.suite import examiner, judge_damage, judge_harmless, run_suite
from tests.synthetic import demo, repository


@pytest.mark.parametrize("processes", [1, 2])
def test_all_damage_is_caught_and_nothing_harmless(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], processes: int
) -> None:
    folder = repository(tmp_path)
    settings = read_settings(tmp_path / "pyproject.toml")
    assert run_suite(folder, settings, limit=1, processes=processes)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        f"damage caught: {len(DAMAGE)}/{len(DAMAGE)}",
        f"harmless passed: {len(HARMLESS)}/{len(HARMLESS)}",
    ]


def nothing(demo: Demo) -> Iterator[Edit]:
    yield lambda: None


def nowhere(demo: Demo) -> Iterator[Edit]:
    yield from ()


def unstamped(demo: Demo) -> Iterator[Edit]:
    yield lambda: demo.notebook.metadata.pop("provenance")


@pytest.mark.parametrize(
    ("damage", "failure"),
    [
        (Damage("no damage", "differs", nothing), "NOT CAUGHT"),
        (Damage("caught for another reason", "differs", unstamped), "NOT CAUGHT"),
        (Damage("nowhere", "", nowhere), "applies nowhere"),
    ],
)
def test_the_suite_itself_can_fail_on_damage(tmp_path: Path, damage: Damage, failure: str) -> None:
    folder = repository(tmp_path)
    with examiner(read_settings(tmp_path / "pyproject.toml"), folder) as examine:
        verdict = judge_damage(damage, [demo()], examine, limit=1)
    assert failure in verdict.failures[0]


@pytest.mark.parametrize(
    "finding",
    [
        "output 1, application/vnd.plotly.v1+json, trace 0 (heatmap), showscale: True | False ",
        "output 1, application/vnd.plotly.v1+json, layout, width: 900 | 901 whole numbers",
        "output 1, text/html: present | (absent) ",
        "Small_Demo.ipynb, cell 1: the cell is blue. Edit the .py file, then run `make render`.",
    ],
)
def test_no_damage_is_taken_for_another(finding: str) -> None:
    assert [damage.name for damage in DAMAGE if re.search(damage.by, finding)] == []


@pytest.mark.parametrize("edits", [unstamped, nowhere])
def test_the_suite_itself_can_fail_on_harmless_changes(tmp_path: Path, edits: object) -> None:
    folder = repository(tmp_path)
    with examiner(read_settings(tmp_path / "pyproject.toml"), folder) as examine:
        verdict = judge_harmless(Harmless("x", edits), [demo()], examine, limit=1)  # type: ignore[arg-type]
    assert verdict.failures


def test_a_demo_with_findings_of_its_own_is_refused(tmp_path: Path) -> None:
    folder = repository(tmp_path)
    broken = demo()
    broken.notebook.cells[1].execution_count = None
    broken.write(folder)
    with pytest.raises(ValueError, match="has findings as it is"):
        run_suite(folder, read_settings(tmp_path / "pyproject.toml"))


def test_a_folder_without_demos_is_refused(tmp_path: Path) -> None:
    repository(tmp_path)
    with pytest.raises(ValueError, match="no notebook"):
        run_suite(tmp_path, read_settings(tmp_path / "pyproject.toml"))
