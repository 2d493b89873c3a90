"""`make new-demo NAME=My_Task`: a demo that the checks accept, from the one on a task of one's own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from helpers.notebooks.checks import check_cells, read_settings
from helpers.notebooks.new_demo import PATTERN, TASK, WORKED_EXAMPLE, demo_stem, main, new_demo
from helpers.notebooks.pairing import parse_script
from helpers.notebooks.render import sync

ROOT = Path(__file__).parents[1]
DEMOS = ROOT / "demos"


@pytest.fixture
def folder(tmp_path) -> Path:
    """The demos of a repository, with what they link to."""
    for name in ("helpers", "README.md", "LICENSE"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(DEMOS, tmp_path / "demos", ignore=shutil.ignore_patterns(".*", "__pycache__"))
    return tmp_path / "demos"


@pytest.mark.parametrize("name", ["Subject_Verb", "Subject_Verb_Demo", "Agreement2"])
def test_it_is_accepted_by_the_checks_as_it_is(folder, name):
    path = new_demo(name, folder)
    assert path == folder / f"{name.removesuffix('_Demo')}_Demo.py"
    sync(path)  # what the badge leads to
    notebook = parse_script(path.read_text())
    assert check_cells(path, notebook, read_settings(folder.parent / "pyproject.toml")) == []
    heading = path.stem.removesuffix("_Demo").replace("_", " ")
    assert notebook.cells[0].source.startswith(f"# {heading}\n")
    assert f"/demos/{path.stem}.ipynb" in notebook.cells[0].source
    assert PATTERN not in path.read_text()


def test_only_the_worked_example_is_left_out(folder):
    pattern, made = (
        [(cell.source, cell.metadata.get("tags", [])) for cell in parse_script(path.read_text()).cells]
        for path in (DEMOS / f"{PATTERN}.py", new_demo("My_Task", folder))
    )
    kept = [source for source, tags in pattern[1:] if not {WORKED_EXAMPLE, TASK} & {*tags}]
    others = [source for source, _ in made[1:] if "capitals" not in source]
    assert others == kept
    assert sum("Task.from_prompts" in source for source, _ in made) == 2, "explained, and to be edited"
    assert re.findall(r"greater.than|Hanna", (folder / "My_Task_Demo.py").read_text()) == []


def test_the_cell_to_edit_is_the_first_after_the_setup(folder):
    code = [
        cell.source
        for cell in parse_script(new_demo("My_Task", folder).read_text()).cells
        if cell.cell_type == "code"
    ]
    assert [("Task.from_prompts" in source) for source in code[:4]] == [False, False, True, False]


@pytest.mark.parametrize(
    "name", ["", "my_task", "My Task", "My-Task", "../My_Task", "My_Task.py", "Demo"]
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="expected words with a capital first") as refused:
        demo_stem(name)
    assert repr(name) in str(refused.value)


@pytest.mark.parametrize("ending", ["py", "ipynb"])
def test_nothing_is_overwritten(folder, ending, monkeypatch):
    there = folder / f"My_Task_Demo.{ending}"
    there.write_text("mine")
    before = sorted(folder.iterdir())
    monkeypatch.setattr("sys.argv", ["new_demo", "My_Task", "--folder", str(folder)])
    with pytest.raises(SystemExit, match="is there already"):
        main()
    assert there.read_text() == "mine"
    assert sorted(folder.iterdir()) == before


def test_it_prints_the_path_for_what_renders_it(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["new_demo", "My_Task", "--folder", str(folder)])
    main()
    assert capsys.readouterr().out == f"{folder / 'My_Task_Demo.py'}\n"
