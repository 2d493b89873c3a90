"""What the exploratory demo tells a reader to copy works alone, on models and prompts it has not seen.

The notebook's own table says which cells are needed and what a reader brings. Exactly these cells are
taken from the committed notebook and executed in a kernel that has no name left of what ran before, and
what they compute is compared with TransformerLens's own functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from transformer_lens.model_bridge import TransformerBridge

from tests.tiny_models import bridge, random_hf

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NOTEBOOK = nbformat.read(ROOT / "demos" / "Exploratory_Analysis_Demo.ipynb", as_version=4)
ROW = re.compile(r"^ *\| (?P<what>[^|]+) \| (?P<cells>`[^|]+`) \| (?P<bring>`[^|]+`) \|$", re.MULTILINE)
ALWAYS = ("import pandas", "_ = torch.set_grad_enabled")


def recipes(text: str) -> dict[str, tuple[list[str], list[str]]]:
    """Of each row of the table: beginnings of lines in the cells to copy, and names to bring."""
    quoted = re.compile(r"`([^`]+)`").findall
    return {row["what"]: (quoted(row["cells"]), quoted(row["bring"])) for row in ROW.finditer(text)}


TABLE = recipes("\n".join(c.source for c in NOTEBOOK.cells if c.cell_type == "markdown"))


def cell_with(beginning: str) -> str:
    """The one code cell in which a line begins so."""
    found = [
        cell.source
        for cell in NOTEBOOK.cells
        if cell.cell_type == "code" and re.search(rf"^{re.escape(beginning)}", cell.source, re.MULTILINE)
    ]
    assert len(found) == 1, f"{len(found)} cells have a line that begins with {beginning!r}"
    return found[0]


def other_model(kind: str) -> TransformerBridge:
    """Random; a vocabulary that the head scores can draw from, and room for their tokens."""
    # TransformerLens's own path patching knows no shared keys and values.
    return bridge(random_hf(kind, 20_000, 256, key_value_heads=4, spread=0.2, seed=1))


BROUGHT = {
    "model": "model = other_model({kind!r})",
    "tokens": "tokens = torch.tensor([[0, 5, 9, 12, 5, 30], [0, 7, 7, 3, 41, 2], [0, 8, 1, 3, 41, 9]])",
    "corrupted_tokens": "corrupted_tokens = tokens.clone(); corrupted_tokens[:, 3] += 1",
    "answer_tokens": "answer_tokens = torch.tensor([[4, 8], [8, 4], [11, 300]])",
    "position_labels": "position_labels = list('abcdef')",
}

# What a cell leaves behind, against what TransformerLens, or a loop that cannot be misread, gives.
CHECKS = {
    "the logit difference": """
last = model(tokens)[:, -1]
pairs = enumerate(answer_tokens)
expected = torch.stack([last[i, right] - last[i, wrong] for i, (right, wrong) in pairs])
torch.testing.assert_close(logit_diff(model(tokens), answer_tokens), expected)
torch.testing.assert_close(clean_logit_diff, expected.mean())
""",
    "what each head adds to it": """
_, own = model.run_with_cache(tokens)
right, wrong = answer_tokens.unbind(1)
stack = own.stack_head_results(layer=-1, pos_slice=-1)
theirs = own.logit_attrs(stack, tokens=right, incorrect_tokens=wrong, pos_slice=-1, has_batch_dim=True)
torch.testing.assert_close(by_head.flatten(), theirs.mean(-1), atol=1e-4, rtol=1e-3)
assert by_head.abs().max() > 0.01
""",
    "head scores": """
_, own = model.run_with_cache(repeated_tokens)
for layer in range(3):
    for head in range(4):
        pattern = own["pattern", layer][:, head]
        to_after_copy = torch.stack([pattern[:, i, i - 99] for i in range(99, 200)]).mean()
        torch.testing.assert_close(scores["induction"][layer, head], to_after_copy, atol=1e-5, rtol=1e-3)
""",
    "a heatmap of activation patching": """
from transformer_lens import patching
_, clean = model.run_with_cache(tokens)
metric = lambda logits: restored(logit_diff(logits, answer_tokens).mean())
theirs = patching.get_act_patch_resid_pre(model, corrupted_tokens, clean, metric)
torch.testing.assert_close(resid_patching, theirs, atol=1e-3, rtol=1e-3)
assert resid_patching[0, 3] > 0.99
""",
    "path patching into a head": """
from transformer_lens import patching
_, clean = model.run_with_cache(tokens)
_, corrupted = model.run_with_cache(corrupted_tokens)
metric = lambda logits: restored(logit_diff(logits, answer_tokens).mean())
effects = path_effects((2, 1))
for name, values in effects.items():
    for layer in range(2):
        for head in range(4):
            theirs = patching.get_act_patch_direct_path(
                model, corrupted_tokens, clean, corrupted, metric, layer, head, name[0], verbose=False
            )
            torch.testing.assert_close(values[layer, head], theirs[2, 1], atol=1e-3, rtol=1e-2)
""",
}


def test_the_notebook_names_five_and_the_readme_the_same():
    assert list(TABLE) == list(CHECKS)
    assert recipes((ROOT / "README.md").read_text(encoding="utf-8")) == TABLE


@pytest.fixture(scope="module")
def shared_kernel() -> Iterator[NotebookClient]:
    """One for all, since most of a kernel's time goes into importing."""
    here = {"metadata": {"path": str(ROOT)}}
    limits = {"timeout": 300, "startup_timeout": 300}
    empty = nbformat.v4.new_notebook()
    client = NotebookClient(empty, kernel_name="python3", resources=here, **limits)
    with client.setup_kernel():
        yield client


# No name is left from other cells, and autograd is on again, as in a kernel that has just begun.
FORGET = """
%reset -f
import torch
_ = torch.set_grad_enabled(True)
del torch, _
"""


def execute(client: NotebookClient, *sources: str) -> None:
    """These cells and no others, as far as names go."""
    client.nb.cells = [nbformat.v4.new_code_cell(source) for source in (FORGET, *sources)]
    for index, cell in enumerate(client.nb.cells):
        client.execute_cell(cell, index)


def test_nothing_is_left_of_the_cells_before(shared_kernel):
    execute(shared_kernel, "import torch\n_ = torch.set_grad_enabled(False)\nleft = 1")
    with pytest.raises(CellExecutionError, match="name 'torch' is not defined"):
        execute(shared_kernel, "torch")
    with pytest.raises(CellExecutionError, match="name 'left' is not defined"):
        execute(shared_kernel, "import torch\nassert torch.is_grad_enabled()\nleft")


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("what", CHECKS)
def test_these_cells_are_enough_on_another_model(shared_kernel, what, kind):
    cells, bring = TABLE[what]
    prelude = ["import torch", "from tests.test_recipes import other_model"]
    prelude += [BROUGHT[name].format(kind=kind) for name in bring]
    execute(shared_kernel, "\n".join(prelude), *map(cell_with, (*ALWAYS, *cells)), CHECKS[what])
