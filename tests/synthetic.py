"""A small demo with everything that a real one has: texts, figures, a view, all outputs stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import circuitsvis as cv
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers.figure_json import PLOTLY
from helpers.notebooks.pictures import PNG
from tests.mutations.demo import Demo
from tests.pictures import striped

TABLE = """| head | this run | published |
|:-----|---------:|----------:|
| L9H9 |   +2.241 |    +2.190 |
| L9H6 |   -0.317 |    -0.402 |
"""
FRAME = pd.DataFrame(
    {"effect": [2.241, -0.317, 0.512], "published": [2.19, -0.402, 0.498]},
    index=pd.Index(["L9H9", "L9H6", "L0H1"], name="head"),
)
PRINTED = """Average logit difference 4.724, right in 97.3% of 8 prompts.
head    value
L9H9   +2.241
L9H6   -0.317
L0H1    0.000
"""
LAYERS, HEADS, TOKENS = 3, 4, ["When", " John", " and", " Mary"]


def show(data: dict[str, Any]) -> NotebookNode:
    return new_output("display_data", data=from_dict(data))


def printed(text: str) -> NotebookNode:
    return new_output("stream", name="stdout", text=text)


def shown(fig: go.Figure) -> dict[str, Any]:
    """The figure in Plotly's format, and a picture that passes for one of it."""
    figure = json.loads(fig.to_json())
    return {PLOTLY: figure, PNG: striped(figure)}


def heatmap(values: np.ndarray, title: str = "Contribution") -> dict[str, Any]:
    rows, columns = values.shape
    names = [[f"L{row}H{column}" for column in range(columns)] for row in range(rows)]
    fig = go.Figure(
        go.Heatmap(
            z=values,
            x=np.arange(columns),
            y=np.arange(rows),
            customdata=names,
            hovertemplate="%{customdata}<br>logits: %{z:.4f}<extra></extra>",
            coloraxis="coloraxis",
        )
    )
    fig.add_annotation(x=0, y=0, text=f"{names[0][0]} {values[0, 0]:+.2f}")
    axis = {"tickvals": list(range(columns)), "ticktext": [f"H{i}" for i in range(columns)]}
    fig.update_xaxes(title_text="head", **axis)
    fig.update_yaxes(title_text="layer")
    largest = float(np.abs(values).max())
    fig.update_layout(
        title_text=title,
        coloraxis={"colorscale": "RdBu", "cmin": -largest, "cmax": largest},
    )
    return shown(fig)


def curve(values: np.ndarray) -> dict[str, Any]:
    fig = go.Figure(go.Scatter(x=np.arange(len(values)), y=values, name="resid"))
    fig.update_xaxes(title_text="layer")
    fig.update_layout(title_text="Residual stream")
    return shown(fig)


def attention_view(weights: np.ndarray) -> dict[str, Any]:
    view = cv.attention.attention_heads(weights.round(4), TOKENS, ["L9H9"])
    return {"text/html": view.show_code(), "text/plain": "<IPython.core.display.HTML object>"}


def cells() -> list[NotebookNode]:
    random = np.random.default_rng(0)
    values = random.normal(size=(LAYERS, HEADS)).astype(np.float32)
    weights = np.tril(random.uniform(0.1, 1, size=(1, len(TOKENS), len(TOKENS))))
    weights /= weights.sum(-1, keepdims=True)
    code = {
        "import demo": [],
        "print(report)": [printed(PRINTED)],
        "display(table)": [show({"text/markdown": TABLE, "text/plain": "<Markdown object>"})],
        "FRAME": [show({"text/html": FRAME._repr_html_(), "text/plain": repr(FRAME)})],
        "head_map(values)": [show(heatmap(values))],
        "line(values)": [show(curve(values[:, 0]))],
        "attention_patterns(weights)": [
            show(attention_view(weights)),
            show(heatmap(weights[0].astype(np.float32), "Attention")),
        ],
    }
    steps = [
        new_code_cell(source, outputs=outputs, execution_count=count)
        for count, (source, outputs) in enumerate(code.items(), start=1)
    ]
    title = new_markdown_cell("# A demo\n\nSee [the start](#a-demo), [the page](../README.md).")
    return [title, steps[0], new_markdown_cell("## What two names do"), *steps[1:]]


def demo(name: str = "Small_Demo", model: str = "small") -> Demo:
    """A consistent pair, stamped."""
    notebook = new_notebook(cells=cells())
    for number, cell in enumerate(notebook.cells):
        cell.id = f"small-{number}"
    weights = [{"model": model, "dtype": "float32", "weights": "tensors sha256 " + "0" * 64}]
    notebook.metadata.provenance = from_dict(
        {"model": model, "weights": weights, "versions": {"plotly": "6.5.0"}, "source_sha256": ""}
    )
    made = Demo(name, notebook, "")
    made.resync()
    return made


def repository(root: Path) -> Path:
    """A repository with this demo, a page and settings. Returns the folder of the demos."""
    folder = root / "demos"
    folder.mkdir()
    (root / "README.md").write_text("# Demos\n\n[The demo](demos/Small_Demo.ipynb)\n")
    settings = '[tool.demos]\nrepository = "somebody/demos"\nhosts = ["github.com"]\nmodel = "small"\n'
    settings += "longest_cell = 25\n"
    (root / "pyproject.toml").write_text(settings)
    demo().write(folder)
    return folder
