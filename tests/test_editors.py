"""An editor saves a demo that nobody has edited: it stays a pair, and the checks stay quiet."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class

from helpers.notebooks.checks import check_notebook, read_settings
from helpers.notebooks.opening import read_readable
from helpers.notebooks.pairing import check_pair, parse_script
from helpers.notebooks.provenance import source_sha256, text_sha256
from helpers.notebooks.render import read_source, sync
from tests.synthetic import repository

ROOT = Path(__file__).parents[1]
# What JupyterLab writes into a notebook once its kernel has answered.
KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
        "version": "3.11.7",
    },
}


def save(root: Path, name: str, **cell_metadata: object) -> None:
    """As JupyterLab with Jupytext does: load the notebook, write it back with its kernel's name."""
    manager = build_sync_jupytext_contents_manager_class(LargeFileManager)()
    manager.root_dir = str(root)
    notebook = manager.get(name)["content"]
    notebook["metadata"] |= KERNEL
    for cell in notebook["cells"]:
        cell["metadata"] |= cell_metadata
    manager.save({"type": "notebook", "content": notebook, "format": "json"}, name)


@pytest.fixture
def root(tmp_path) -> Path:
    """A repository with one demo that Jupytext pairs as it pairs ours."""
    folder = repository(tmp_path)
    sync(folder / "Small_Demo.py")
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ours = settings[settings.index("[tool.jupytext]") : settings.index("[tool.ruff]")]
    with (tmp_path / "pyproject.toml").open("a") as file:
        file.write(ours)
    return tmp_path


def problems(root: Path) -> list[str]:
    path = root / "demos" / "Small_Demo.ipynb"
    return list(map(str, check_notebook(path, read_settings(root / "pyproject.toml"), [])))


def ours() -> str:
    """The header of our demos."""
    return (ROOT / "demos" / "Head_Atlas_Demo.py").read_text(encoding="utf-8").partition("# %%")[0]


@pytest.mark.parametrize("header", ["ours", "Jupytext's", "none"])
def test_saving_without_an_edit_leaves_the_checks_green(root, header):
    script = root / "demos" / "Small_Demo.py"
    theirs, mark, body = script.read_text().partition("# %%")
    before = {"ours": ours(), "Jupytext's": theirs, "none": ""}[header] + mark + body
    script.write_text(before)
    assert problems(root) == []
    os.utime(script)  # or Jupytext takes the script for older than its notebook
    save(root, "demos/Small_Demo.ipynb", collapsed=False, jupyter={"source_hidden": True})
    assert problems(root) == []
    after = script.read_text()
    assert after.endswith(mark + body)
    assert "text_representation" not in after, "each editor's Jupytext would write another"
    if header != "Jupytext's":
        assert after.removesuffix(mark + body) == ours().replace("Python 3", "Python 3 (ipykernel)")


@pytest.mark.parametrize("header", ["ours", "none"])
def test_a_script_without_header_is_paired_as_one_with(tmp_path, header):
    """Also where Jupytext would take it for another format: with one cell, or with marks of its own."""
    script = tmp_path / "New_Demo.py"
    for body in (
        "# %%\nx = 1\n",
        "# %% [markdown]\n# Text\n\n# + not a mark\ny = 2\n",
        "x = 1\n\n\ny = 2\n",
    ):
        script.write_text((ours() if header == "ours" else "") + body)
        text = script.read_text()
        notebook = read_source(script)
        assert check_pair("a", notebook, text) == []
        assert [cell.source for cell in notebook.cells] == [c.source for c in parse_script(body).cells]
        assert text_sha256(text) == text_sha256(body)


def test_the_stamp_is_of_the_body_and_of_all_of_it():
    body = "# %%\nx = 1\n"
    others = (ours() + "# %%\nx = 2\n", "# ---\n# title: x\n# ---\n" + body, body + ours())
    assert text_sha256(body) not in [text_sha256(other) for other in others]


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "demos").glob("*.ipynb")))
def test_our_demos_can_be_saved(tmp_path, name):
    (tmp_path / "demos").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    notebook, script = (tmp_path / "demos" / f"{name}{suffix}" for suffix in (".ipynb", ".py"))
    for file in (notebook, script):
        shutil.copy(ROOT / "demos" / file.name, file)
    save(tmp_path, f"demos/{name}.ipynb")
    text = script.read_text(encoding="utf-8")
    assert check_pair(name, read_readable(notebook), text) == []
    assert text_sha256(text) == source_sha256(ROOT / "demos" / f"{name}.py")
    assert "text_representation" not in text
