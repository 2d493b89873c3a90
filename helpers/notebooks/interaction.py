"""What a cell asks of a live reader: widgets, and displays that another cell updates.

A committed notebook has no kernel behind it. A widget is blank there; and a display that a cell below
updates shows what its own cell never showed. Both are found in the source, before anything runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from helpers.notebooks.problem import Problem

_WIDGET_PACKAGES = {"ipywidgets", "ipympl", "ipyleaflet", "ipyvolume", "bqplot", "anywidget", "nglview"}
_WIDGET_CLASSES = {"FigureWidget"}  # of plotly.graph_objects
_WIDGET_BACKENDS = {"widget", "notebook", "nbagg", "ipympl"}  # of %matplotlib

_STATIC = (
    "Show each state as an output of its own, or give the figure its own buttons or slider "
    "(Plotly's updatemenus, sliders)"
)
_ONE_CELL = "Update a display in the cell that makes it, or show the new state as a new output"


def _parsed(source: str) -> ast.Module | None:
    """The cell's code, its magics as calls; None if it is no Python (a %%bash cell)."""
    try:
        return ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return None


def _called(node: ast.Call) -> str:
    """`display` for display(…) and for IPython.display.display(…)."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _constants(node: ast.Call) -> list[object]:
    return [argument.value for argument in node.args if isinstance(argument, ast.Constant)]


def _widgets(tree: ast.Module) -> Iterator[str]:
    """What in a cell makes a widget: `ipywidgets`, `FigureWidget`, `%matplotlib widget`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in _WIDGET_PACKAGES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in _WIDGET_PACKAGES:
                yield node.module or ""
            yield from (a.name for a in node.names if a.name in _WIDGET_CLASSES)
        elif isinstance(node, ast.Attribute) and node.attr in _WIDGET_CLASSES:
            yield node.attr
        elif isinstance(node, ast.Call) and _called(node) == "run_line_magic":
            magic, *options = [str(constant) for constant in _constants(node)]
            if magic == "matplotlib" and _WIDGET_BACKENDS & set(" ".join(options).split()):
                yield f"%matplotlib {' '.join(options)}"


def _keyword(node: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in node.keywords if keyword.arg == name), None)


def _is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _makes(node: ast.AST) -> bool:
    """Whether the expression makes a display that can be updated."""
    if not isinstance(node, ast.Call):
        return False
    named = _keyword(node, "display_id") is not None and not _is_true(_keyword(node, "update"))
    return _called(node) == "DisplayHandle" or (_called(node) == "display" and named)


def _handles(tree: ast.Module) -> set[str]:
    """Variables that a cell binds to a display that can be updated."""
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _makes(node.value):
            bound |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.NamedExpr | ast.AnnAssign) and node.value and _makes(node.value):
            bound.add(ast.unparse(node.target))
    return bound


def _ids(tree: ast.Module) -> set[str]:
    """The ids of displays that a cell makes, as they stand in the code."""
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _makes(node)]
    return {ast.unparse(key) for node in made if (key := _keyword(node, "display_id")) is not None}


def _updates(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Updates in a cell: ("handle", variable) or ("id", the id as it stands in the code)."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        key = _keyword(node, "display_id")
        again = _called(node) == "display" and _is_true(_keyword(node, "update"))
        if key is not None and (again or _called(node) == "update_display"):
            yield "id", ast.unparse(key)
        elif _called(node) == "update" and isinstance(node.func, ast.Attribute):
            yield "handle", ast.unparse(node.func.value)


def check_interaction(name: str, notebook: NotebookNode) -> list[Problem]:
    """Widgets, and updates of displays that another cell has made."""
    problems: list[Problem] = []
    elsewhere: set[str] = set()  # handles of the cells above
    for index, cell in enumerate(notebook.cells):
        tree = _parsed(cell.source) if cell.cell_type == "code" else None
        if tree is None:
            continue
        for widget in dict.fromkeys(_widgets(tree)):
            what = f"it makes a widget ({widget}), which is blank wherever no kernel runs"
            problems.append(Problem(name, what, _STATIC, index))
        handles, ids = _handles(tree), _ids(tree)
        elsewhere -= handles
        for kind, of in dict.fromkeys(_updates(tree)):
            if of in elsewhere if kind == "handle" else of not in ids:
                what = f"it updates a display that another cell has made ({of})"
                problems.append(Problem(name, what, _ONE_CELL, index))
        elsewhere |= handles
    return problems
