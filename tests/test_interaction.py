"""What needs a live kernel is found in the source, before anything runs."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers.notebooks.interaction import check_interaction

MAKES = "h = display('a', display_id=True)"


def found(*sources: str) -> list[str]:
    cells = [new_markdown_cell("import ipywidgets"), *map(new_code_cell, sources)]
    return [str(problem) for problem in check_interaction("X.ipynb", new_notebook(cells=cells))]


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("import ipywidgets as widgets\nwidgets.Output()", "ipywidgets"),
        ("from ipywidgets import interact", "ipywidgets"),
        ("def f():\n    from ipywidgets.widgets import interactive", "ipywidgets.widgets"),
        ("%pip install x\nimport os, bqplot.pyplot", "bqplot.pyplot"),
        ("import plotly.graph_objects as go\ngo.FigureWidget()", "FigureWidget"),
        ("from plotly.graph_objects import Figure, FigureWidget", "FigureWidget"),
        ("%matplotlib widget", "%matplotlib widget"),
        ("%matplotlib notebook", "%matplotlib notebook"),
    ],
)
def test_a_widget_is_refused(source: str, named: str) -> None:
    (problem,) = found(source)
    assert problem.startswith("X.ipynb, cell 1: it makes a widget (" + named + ")")
    assert problem.endswith("(Plotly's updatemenus, sliders).")


@pytest.mark.parametrize(
    "sources",
    [
        (MAKES, "h.update('b')"),
        (f"other = {MAKES}", "x = 1", "if x:\n    other.update('b')"),
        ("display('a', display_id='i')", "update_display('b', display_id='i')"),
        ("display('a', display_id=NAME)", "display('b', display_id=NAME, update=True)"),
        ("display('a', display_id='i')", "IPython.display.update_display('b', display_id='i')"),
        ("handle = DisplayHandle()", "handle.update('b')"),
    ],
)
def test_an_update_of_another_cells_display_is_refused(sources: tuple[str, ...]) -> None:
    (problem,) = found(*sources)
    assert f"cell {len(sources)}: it updates a display that another cell has made" in problem
    assert problem.endswith("show the new state as a new output.")


@pytest.mark.parametrize(
    "sources",
    [
        (f"{MAKES}\nh.update('b')",),
        (MAKES, f"{MAKES}\nh.update('b')"),
        ("display('a', display_id='i')\nupdate_display('b', display_id='i')",),
        ("scores = {}", "scores.update(a=1)", "fig.update(layout={})"),
        ("print(1)\nclear_output(wait=True)\nprint(2)",),
        ("import tqdm.auto\nimport plotly.graph_objects as go\ngo.Figure()",),
        ("%%bash\nimport ipywidgets",),
        ("%matplotlib inline\n!pip install ipywidgets\nlen?",),
        ("this is no Python",),
    ],
)
def test_what_works_is_not_refused(sources: tuple[str, ...]) -> None:
    assert found(*sources) == []
