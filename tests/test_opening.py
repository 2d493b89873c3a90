"""Notebooks that some program cannot open: GitHub's converter, JupyterLab, a JSON reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from helpers.notebooks.checks import check_folder, read_settings
from helpers.notebooks.opening import WIDGET_STATE, check_converts, readable_notebook
from helpers.notebooks.render import sync
from tests.synthetic import repository

Notebook = dict[str, Any]


def code(notebook: Notebook) -> dict[str, Any]:
    """A code cell that printed something."""
    return next(cell for cell in notebook["cells"] if cell.get("outputs"))


def displayed(notebook: Notebook) -> dict[str, Any]:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return next(output for output in outputs if output["output_type"] == "display_data")


def problems_with(tmp_path: Path, text: str | bytes) -> list[str]:
    """What the checks say of a repository whose notebook holds this."""
    folder = repository(tmp_path)
    path = folder / "Small_Demo.ipynb"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return [
        str(problem) for problem in check_folder(folder, read_settings(tmp_path / "pyproject.toml"), [])
    ]


@pytest.fixture
def content(tmp_path) -> Notebook:
    (tmp_path / "good").mkdir()
    return json.loads((repository(tmp_path / "good") / "Small_Demo.ipynb").read_text())


def test_what_is_sound_has_no_problem(content, tmp_path):
    assert problems_with(tmp_path, json.dumps(content)) == []


def harmless(notebook: Notebook) -> None:
    notebook["metadata"] |= {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}}
    notebook["metadata"] |= {"colab": {"provenance": []}, "accelerator": "GPU"}
    code(notebook)["metadata"] |= {"colab": {"base_uri": "https://localhost:8080/"}, "outputId": "a"}
    code(notebook)["outputs"][0]["text"] = "".join(code(notebook)["outputs"][0]["text"])


def test_what_editors_add_is_harmless(content, tmp_path):
    harmless(content)
    assert problems_with(tmp_path, json.dumps(content)) == []


DAMAGES: dict[str, tuple[Callable[[Notebook], Any], str]] = {
    "minor 4 has no ids": (lambda n: n.update(nbformat_minor=4), "'id' was unexpected"),
    "an id is missing": (lambda n: n["cells"][0].pop("id"), "1 cells with id None"),
    "ids are double": (
        lambda n: n["cells"][0].update(id=n["cells"][1]["id"]),
        "2 cells with id small-1",
    ),
    "an id with a space": (lambda n: n["cells"][0].update(id="a b"), "no valid notebook: 'a b'"),
    "no cells": (lambda n: n.pop("cells"), "no list of cells"),
    "cells are no cells": (lambda n: n.update(cells=["x"]), "no list of cells"),
    "format 3": (lambda n: n.update(nbformat=3), "its `nbformat` is 3"),
    "no format": (lambda n: n.pop("nbformat"), "its `nbformat` is None"),
    "no source": (lambda n: n["cells"][0].pop("source"), "'source' is a required property"),
    "no outputs": (lambda n: code(n).pop("outputs"), "'outputs' is a required property"),
    "a count in quotes": (lambda n: code(n).update(execution_count="1"), "'1' is not of type 'integer'"),
    "no metadata of an output": (lambda n: displayed(n).pop("metadata"), "'metadata' is a required"),
    "no metadata of a cell": (lambda n: code(n).pop("metadata"), "'metadata' is a required property"),
    "an unknown output": (lambda n: displayed(n).update(output_type="x"), "no valid notebook"),
    "a stream without name": (lambda n: code(n)["outputs"][0].pop("name"), "no valid notebook"),
    "NaN": (lambda n: displayed(n)["data"].update({"application/json": [float("nan")]}), "NaN"),
    "infinity": (lambda n: n["metadata"].update(x=float("-inf")), "-Infinity"),
    "half a character": (lambda n: code(n)["outputs"][0].update(text="a\ud800"), "a surrogate"),
    "a picture that is not there": (
        lambda n: n["cells"][0].update(source="![x](attachment:x.png)"),
        "attachment",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_opened_is_refused(content, tmp_path, damage):
    change, said = DAMAGES[damage]
    change(content)
    found = problems_with(tmp_path, json.dumps(content))
    assert any(said in problem for problem in found), found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("<<<<<<< HEAD\n{}", "no JSON"),
        ("\ufeff{}", "no JSON"),
        ("[]", "no notebook of format 4"),
        (b'{"a": "\xff"}', "no text in UTF-8"),
    ],
)
def test_what_is_no_notebook_is_refused_in_a_sentence(tmp_path, text, said):
    [problem] = problems_with(tmp_path, text)
    assert problem.startswith("Small_Demo.ipynb")
    assert said in problem


WIDGETS = {
    "Colab": {WIDGET_STATE: {"0a1b": {"model_module": "@jupyter-widgets/base", "state": {}}}},
    "nothing": {},
    "null": None,
    "a list": [],
    "state in the wrong place": {"state": {}},
}


@pytest.mark.parametrize("widgets", WIDGETS)
def test_widgets_without_their_state_are_refused(content, tmp_path, widgets):
    content["metadata"]["widgets"] = WIDGETS[widgets]
    [problem] = problems_with(tmp_path, json.dumps(content))
    assert "`metadata.widgets` has no `state`" in problem
    assert "GitHub shows 'Invalid Notebook'. Run `make sync`" in problem


def test_widgets_with_their_state_are_not(content, tmp_path):
    content["metadata"]["widgets"] = {WIDGET_STATE: {"state": {}, "version_major": 2}}
    assert problems_with(tmp_path, json.dumps(content)) == []


def test_the_converter_is_asked(content):
    """Of all that it refuses, whatever its reason."""
    content["cells"][0]["source"] = "![a picture](attachment:missing.png)"
    notebook = readable_notebook(json.dumps(content))
    [problem] = check_converts("a", notebook)
    assert "the converter stops with" in problem.what


@pytest.mark.parametrize("damage", ["Colab", *DAMAGES, "no JSON"])
def test_sync_makes_a_notebook_that_can_be_opened(content, tmp_path, damage):
    folder = repository(tmp_path)
    path = folder / "Small_Demo.ipynb"
    if damage == "Colab":
        content["metadata"]["widgets"] = WIDGETS["Colab"]
    elif damage in DAMAGES:
        DAMAGES[damage][0](content)
    path.write_text("{" if damage == "no JSON" else json.dumps(content))
    sync(path.with_suffix(".py"))
    after = readable_notebook(path.read_text(encoding="utf-8"))
    assert check_converts("a", after) == []
    assert "widgets" not in after.metadata
    assert len(after.cells) == 9
    if damage in ("Colab", "an id is missing", "ids are double"):
        assert all(
            cell.outputs
            for cell in after.cells
            if cell.cell_type == "code" and "import" not in cell.source
        )


def test_nbformats_own_notebooks_can_be_opened():
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_raw_cell("x"), nbformat.v4.new_code_cell("y")]
    )
    assert check_converts("a", readable_notebook(nbformat.writes(notebook))) == []
