"""The static checks: what they find, and that they find nothing in a good pair."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nbformat import NotebookNode
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
    new_raw_cell,
)

from helpers.figure_json import PLOTLY
from helpers.notebooks.alike import check_alike
from helpers.notebooks.checks import check_folder, check_paths, read_settings
from helpers.notebooks.hygiene import (
    MAX_BYTES,
    check_figures,
    check_size,
    check_traces,
    check_width,
    local_names,
    read_notebook,
    traces,
)
from helpers.notebooks.pairing import (
    check_executed,
    check_model,
    check_pair,
    check_stamp,
    check_switches,
)
from helpers.notebooks.pictures import PNG
from helpers.notebooks.prose import LinkRules, anchors, claims, link_fault, links
from helpers.notebooks.provenance import text_sha256
from tests.pictures import blank, striped
from tests.synthetic import attention_view, demo, heatmap, repository

# --- pairs ----------------------------------------------------------------------------------------


def test_a_good_pair_has_no_problem() -> None:
    made = demo()
    assert check_pair("a", made.notebook, made.source) == []
    assert check_stamp("a", made.notebook, made.source) == []
    assert check_executed("a", made.notebook) == []


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (new_code_cell("a = 1\nb = 3"), "notebook has line 2: 'b = 3', source has line 2: 'b = 2'"),
        (new_code_cell("a = 1"), "notebook has nothing more, source has line 2: 'b = 2'"),
        (new_code_cell("a = 1\nb = 2\nc"), "notebook has line 3: 'c', source has nothing more"),
        (new_markdown_cell("a = 1\nb = 2"), "notebook has a markdown cell, source has a code cell"),
        (
            new_code_cell("a = 1\nb = 2", metadata={"tags": ["nbval-skip"]}),
            "notebook has tags: ['nbval-skip'], source has tags: []",
        ),
    ],
)
def test_says_what_tells_a_pair_apart(cell: NotebookNode, said: str) -> None:
    source = "# %%\nx\n\n# %%\na = 1\nb = 2\n"
    (problem,) = check_pair("a.ipynb", new_notebook(cells=[new_code_cell("x"), cell]), source)
    assert str(problem).startswith(f"a.ipynb, cell 1: the pair disagrees: {said}. ")


@pytest.mark.parametrize("at", [0, 3, 7])
def test_finds_a_cell_of_another_kind_or_missing(at: int) -> None:
    made = demo()
    cells = made.notebook.cells
    other = new_raw_cell(cells[at].source)
    for changed in ([*cells[:at], other, *cells[at + 1 :]], cells[:at] + cells[at + 1 :]):
        (problem,) = check_pair("a", new_notebook(cells=changed), made.source)
        assert problem.cell == at


def test_the_stamp_is_of_the_text_not_of_the_line_ends() -> None:
    assert text_sha256("a\r\nb\r\n") == text_sha256("a\nb\n") != text_sha256("a\nb")


@pytest.mark.parametrize(
    ("counts", "cells"),
    [([1, 2, 3], []), ([1, 3, 2], [1, 2]), ([1, None, 2], [1, 2]), ([2, 3, 4], [0, 1, 2])],
)
def test_counts_executions(counts: list[int | None], cells: list[int]) -> None:
    notebook = new_notebook(cells=[new_code_cell("1", execution_count=n) for n in counts])
    assert [problem.cell for problem in check_executed("a", notebook)] == cells


def test_an_empty_cell_is_not_counted() -> None:
    cells = [new_code_cell(""), new_code_cell("1", execution_count=1), new_markdown_cell("a")]
    assert check_executed("a", new_notebook(cells=cells)) == []


def stamped(model: object) -> NotebookNode:
    notebook = new_notebook()
    notebook.metadata.provenance = NotebookNode(model=model)
    return notebook


@pytest.mark.parametrize(
    ("model", "wanted", "folder", "what"),
    [
        ("small", "small", "demos", None),
        ("large", "small", "demos", "`model` under [tool.demos] is 'small'"),
        ("small/", "small", "demos", "`model` under [tool.demos] is 'small'"),
        ("gpt2", None, "gpt2", None),
        ("openai-community/gpt2", None, "openai-community--gpt2", None),
        ("openai-community/gpt2", None, "gpt2", "the folder is gpt2"),
        ("small", None, "gpt2", "the folder is gpt2"),
        ("gpt2/small", None, "gpt2", "the folder is gpt2"),
        (None, "small", "demos", "names no model"),
        ("", None, "", "names no model"),
        (["small"], "small", "demos", "names no model"),
    ],
)
def test_the_stamp_names_the_model_that_belongs_there(
    model: object, wanted: str | None, folder: str, what: str | None
) -> None:
    found = check_model("a", stamped(model), wanted, folder)
    assert [what in problem.what for problem in found] == ([True] if what else [])


def test_a_notebook_without_a_stamp_names_no_model() -> None:
    (problem,) = check_model("a", new_notebook(), "small", "demos")
    assert "names no model" in problem.what


@pytest.mark.parametrize(
    ("source", "tags", "found"),
    [
        ("# NBVAL_IGNORE_OUTPUT\n1", [], ["NBVAL_IGNORE_OUTPUT"]),
        ("if x:\n    #NBVAL_SKIP\n    1", [], ["NBVAL_SKIP"]),
        ("1\n### NBVAL_RAISES_EXCEPTION", [], ["NBVAL_RAISES_EXCEPTION"]),
        ("# PYTEST_VALIDATE_IGNORE_OUTPUT", [], ["PYTEST_VALIDATE_IGNORE_OUTPUT"]),
        ("1", ["nbval-ignore-output"], ["nbval-ignore-output"]),
        ("1", ["thumbnail", "nbval-skip"], ["nbval-skip"]),
        ("1", ["raises-exception"], ["raises-exception"]),
        ("1", ["skip-execution"], ["skip-execution"]),
        ("1  # see NBVAL_SKIP in the README", ["thumbnail"], []),
    ],
)
def test_finds_what_takes_a_cell_out_of_the_tests(
    source: str, tags: list[str], found: list[str]
) -> None:
    cells = [new_markdown_cell(source), new_code_cell(source, metadata={"tags": tags})]
    problems = check_switches("a", new_notebook(cells=cells))
    assert [(p.cell, p.what) for p in problems] == [
        (1, f"{switch} changes how the cell is tested") for switch in found
    ]


# --- hygiene --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("read /home/ann/model.bin", "an absolute path"),
        ("read '/root/.cache/x'", "an absolute path"),
        ("/Users/ann/x", "an absolute path"),
        (r"C:\Users\ann\x", "an absolute path"),
        ("/tmp/tmp1234", "an absolute path"),
        ("file:///home/ann/x", "an absolute path"),
        ("cached in /work/ann/models", "an absolute path"),
        ("/opt/conda/lib/x", "an absolute path"),
        ("/var/folders/3k/T/x.png", "an absolute path"),
        ("open('/content/drive/x')", "an absolute path"),
        ("/usr/share/x", "an absolute path"),
        ("/data/models/gpt2", "an absolute path"),
        ("/builds/group/project", "an absolute path"),
        ("path=/mnt/c/x", "an absolute path"),
        ("[/srv/x]", "an absolute path"),
        ("/Volumes/Disk/x", "an absolute path"),
        ("/kaggle/working/x", "an absolute path"),
        ("/dev/shm/x", "an absolute path"),
        ("/etc/x", "an absolute path"),
        (r"C:\Temp\x", "an absolute path"),
        (r"D:\\models", "an absolute path"),
        ("E:/models/x", "an absolute path"),
        ("lib/python3.11/site-packages/torch/x.py", "an absolute path"),
        ("at 2026-03-01T12:30:05", "a time stamp"),
        ("took 00:01:30", "a time stamp"),
        ("x.py:3: UserWarning: old", "a warning"),
        ("WARNING:root:old", "a warning"),
        ("45%|████▌     | 9/20", "a progress bar"),
        ("12.1it/s", "a progress bar"),
        ("1%\r2%", "a progress bar"),
        ("\x1b[31mred", "an ANSI escape"),
        ("<X at 0x7f8a9c001234>", "a memory address"),
        ("host kermit here", "a name of this machine"),
        ("hostname='kermit'", "a name of this machine"),
        ('{"user": "kermit"}', "a name of this machine"),
        ("kermit@pond", "a name of this machine"),
        ("pond@kermit:~$ ls", "a name of this machine"),
        ("kermit:/data", "a name of this machine"),
        ("~kermit/x", "a name of this machine"),
        ("cluster/kermit/x", "a name of this machine"),
        (r"D:kermit\\x or \\kermit", "a name of this machine"),
        ("pytest-of-kermit", "a name of this machine"),
    ],
)
def test_finds_traces(text: str, what: str) -> None:
    assert any(found.startswith(what) for found in traces(text, ["kermit"]))


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/home/page and https://example.org/tmp/x",
        "ratio a/b, 3/4, and/or",
        "and/or, L0/L1, input/output/data/loss, he/she, attention / MLP, 1/work",
        "https://data/usr/x, http://localhost/opt/x, https://github.com/work/data/blob/main/usr/x",
        "//cdn.example.org/usr/x, www.example.org/data/x",
        "../data/x, ./usr/x, ~/work/x, demos/data/x, $HOME/data/x, {root}/data/x, build/tmp/x",
        "<data>1</data> </usr> <work/>",
        "the /data, a /work of art, usr / opt, /mnt",
        "' /', '/usr', 'C:', 'C: 12', 'x:\\\\n', r'\\d/\\w'",
        "2>/dev/null",
        r"['Q:\nWhat is it?\nA:']",
        "Layer 3:/ 4",
        "| 97.3%|98%| |",
        "layer 0: 12:30",
        "a\r\nb",
        "kermits",
        "the kermit of layer 3, a kermit-like head, kermit/frog",
        "L:9",
        "exit/status, unit/second",
        "colour #0x12",
    ],
)
def test_ordinary_text_is_no_trace(text: str) -> None:
    assert list(traces(text, ["kermit"])) == []


def test_knows_this_machine() -> None:
    assert str(Path.cwd()) in local_names()


def with_output(**output: Any) -> NotebookNode:
    cell = new_code_cell("1", outputs=[new_output(**output)], execution_count=1)
    return new_notebook(cells=[cell])


@pytest.mark.parametrize(
    "demo", sorted((Path(__file__).parent.parent / "demos").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_an_account_may_be_called_as_a_word_of_the_notebooks(demo: Path) -> None:
    notebook = read_notebook(demo)
    words = ["mary", "james", "model", "head", "Mary", "John", "layer", "attention", "token", "shops"]
    assert check_traces(demo.name, notebook, words) == []


@pytest.mark.parametrize(
    "output",
    [
        {"output_type": "stream", "name": "stdout", "text": "/home/ann/x"},
        {"output_type": "stream", "name": "stderr", "text": "harmless"},
        {"output_type": "display_data", "data": {"text/html": "<b>/home/ann/x</b>"}},
        {"output_type": "display_data", "data": {PLOTLY: {"layout": {"title": "/home/ann/x"}}}},
    ],
)
def test_finds_traces_in_every_output(output: dict[str, Any]) -> None:
    (problem,) = check_traces("a.ipynb", with_output(**output), [])
    assert problem.cell == 0


def test_finds_paths_in_sources_and_metadata() -> None:
    notebook = new_notebook(cells=[new_code_cell("open('/home/ann/x')")])
    notebook.metadata.papermill = {"input_path": "/tmp/in.ipynb"}
    problems = check_traces("a", notebook, [])
    assert [problem.cell for problem in problems] == [0, None]


FIGURE: dict[str, Any] = {"data": [{"y": [1.0]}]}
EMPTY: dict[str, Any] = {"data": []}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({PLOTLY: FIGURE}, "a figure without a picture"),
        ({PLOTLY: FIGURE, PNG: striped(FIGURE), "text/html": "<div/>"}, "a figure with text/html"),
        ({PLOTLY: EMPTY, PNG: striped(EMPTY)}, "a figure without data"),
        ({PLOTLY: FIGURE, PNG: blank()}, "the picture is blank"),
        ({PNG: "broken"}, "the picture cannot be read"),
        ({PLOTLY: FIGURE, PNG: striped()}, "the picture does not name"),
        ({PLOTLY: FIGURE, PNG: striped(EMPTY)}, "the picture was drawn from another figure"),
        ({"text/html": "<div id='a'></div><script>draw()</script>"}, "HTML that GitHub"),
        ({"application/vnd.jupyter.widget-view+json": {}}, "a widget"),
    ],
)
def test_finds_what_nobody_sees(data: dict[str, Any], what: str) -> None:
    (problem,) = check_figures("a", with_output(output_type="display_data", data=data))
    assert problem.what.startswith(what)


@pytest.mark.parametrize("html", ["<b>12</b>", "<img src='x'>", "<table><td></td></table>"])
def test_static_html_is_seen(html: str) -> None:
    notebook = with_output(output_type="display_data", data={"text/html": html})
    assert check_figures("a", notebook) == []


@pytest.mark.parametrize(("near", "found"), [(1, 0), (2, 1)])
def test_a_picture_beside_a_view_must_be_next_to_it(near: int, found: int) -> None:
    weights = np.full((1, 4, 4), 0.25)
    between = [new_output("stream", name="stdout", text="x\n")] * (near - 1)
    view = new_output("display_data", data=attention_view(weights))
    picture = new_output("display_data", data=heatmap(weights[0]))
    cell = new_code_cell("1", outputs=[view, *between, picture], execution_count=1)
    assert len(check_figures("a", new_notebook(cells=[cell]))) == found


@pytest.mark.parametrize(
    ("code", "output", "found"),
    [
        ("x" * 100, "x" * 100, []),
        ("x" * 101, "", ["1 lines of code"]),
        ("", "short\n" + "x" * 101 + "\n" + "y" * 102, ["2 lines of text"]),
        ("x" * 101, "x" * 101, ["1 lines of code", "1 lines of text"]),
        ("", "Tokenized prompt: " + "x" * 100, []),
    ],
)
def test_finds_lines_that_github_cuts(code: str, output: str, found: list[str]) -> None:
    stream = new_output("stream", name="stdout", text=output)
    notebook = new_notebook(cells=[new_code_cell(code, outputs=[stream]), new_markdown_cell("x" * 101)])
    problems = check_width("a", notebook)
    assert [problem.what[: len(what)] for problem, what in zip(problems, found, strict=True)] == found
    assert all(problem.cell == 0 for problem in problems)


def test_a_figure_has_no_lines() -> None:
    """The text that stands in for a figure is shown nowhere."""
    data = {PLOTLY: FIGURE, "text/plain": "x" * 101}
    assert check_width("a", with_output(output_type="display_data", data=data)) == []


def test_limits_the_size() -> None:
    assert check_size("a", MAX_BYTES) == []
    assert len(check_size("a", MAX_BYTES + 1)) == 1


# --- prose ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a logit difference of 3.55 here", ["3.55"]),
        ("**3.55**, (−0.5), +2.24.", ["3.55", "−0.5", "+2.24"]),
        ("right in 97% or 97 % or 3.5 per cent", ["97%", "97 %", "3.5 per cent"]),
        ("L9H9 and L10.H7 and 9.6", ["L9H9", "L10.H7", "9.6"]),
        ("Layer 9 of GPT-2 small, head 6", ["Layer 9", "head 6"]),
        ("| L9H9 | 2.99 |", ["L9H9", "2.99"]),
        ("<details>it drops to 2.99</details>", ["2.99"]),
        ("if p < 0.05 and q > 0.3", ["0.05", "0.3"]),
        ("[falls to 2.99](x.md)", ["2.99"]),
        ("right on 7 of 8, and 3 out of the 12 heads", ["7 of 8", "3 out of the 12"]),
        ("20× faster, a 3-fold change", ["20×", "3-fold"]),
        ("3 times as large and 2 times more", ["3 times as", "2 times more"]),
        ("it costs 3 logits", ["3 logits"]),
    ],
)
def test_finds_claims(text: str, found: list[str]) -> None:
    assert claims(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "two names, 12 layers of 12 heads, 8 prompts, in 2022",
        "`L9H9` and `model(0.5)` and ``a ` 0.5``",
        "```python\nx = 0.5\n```",
        r"$e^2 \approx 7.4$ and $$\frac{1}{2} = 0.5$$",
        "## 3.1 The metric",
        "see section 3.1 and Figure 2.5, §4.2",
        "[paper](https://arxiv.org/abs/2211.00593) and arXiv:2211.00593v1",
        "https://example.org/0.5",
        '<img width="0.5"> <!-- 0.5 -->',
        "transformer-lens 4.3.0, Python 3.11, Apache-2.0, GPT-2, SmolLM2-135M",
        "L2 norm, 2-layer model, 1-2 minutes",
        "12 × 12 heads, 12×12 panels, run it 3 times, one of 12 layers, part 2 of the demo",
    ],
)
def test_structure_and_code_are_no_claims(text: str) -> None:
    assert claims(text) == []


def test_finds_all_links() -> None:
    text = (
        "[a](a.md) ![b](b.png) <https://c.org> https://d.org/x. `https://no.org`\n\n"
        "[e][1]\n\n[1]: e.md\n\n<a href='f.md'>x</a>\n\n<p>\nhttps://g.org\n</p>\n"
    )
    assert links(text) == [
        "a.md",
        "b.png",
        "https://c.org",
        "https://d.org/x",
        "e.md",
        "f.md",
        "https://g.org",
    ]


@pytest.fixture
def rules(tmp_path: Path) -> LinkRules:
    (tmp_path / "demos").mkdir()
    (tmp_path / "demos" / "A Demo.ipynb").write_text("")
    hosts = frozenset({"github.com", "colab.research.google.com", "mybinder.org"})
    return LinkRules(tmp_path, "ann/demos", hosts)


COLAB = "https://colab.research.google.com"


@pytest.mark.parametrize(
    "link",
    [
        "A%20Demo.ipynb",
        "../demos/",
        "#the-metric",
        "https://github.com/bob/other",
        "https://github.com/ann/demos/actions/workflows/ci.yml/badge.svg",
        f"{COLAB}/github/ann/demos/blob/main/demos/A%20Demo.ipynb",
        f"{COLAB}/assets/colab-badge.svg",
        "https://mybinder.org/v2/gh/ann/demos/main",
    ],
)
def test_accepts_links(link: str, rules: LinkRules) -> None:
    known = anchors("# Start\n\n## The metric\n")
    assert link_fault(link, rules.root / "demos", known, rules) is None


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("missing.md", "no such file"),
        ("../../outside.md", "leaves this repository"),
        ("/demos", "leaves this repository"),
        ("#nowhere", "no such heading"),
        ("http://github.com/ann/demos", "neither relative nor https"),
        ("mailto:ann@example.org", "neither relative nor https"),
        ("https://example.org", "not among the `hosts`"),
        ("https://github.com.example.org", "not among the `hosts`"),
        ("https://github.com/bob/demos/actions/workflows/ci.yml/badge.svg", "it names bob/demos"),
        (f"{COLAB}/github/bob/demos/blob/main/demos/A%20Demo.ipynb", "it names bob/demos"),
        (f"{COLAB}/github/ann/demos/blob/main/A.ipynb", "there is no A.ipynb"),
        ("https://mybinder.org/v2/gh/bob/demos/main", "it names bob/demos"),
    ],
)
def test_refuses_links(link: str, fault: str, rules: LinkRules) -> None:
    assert fault in (link_fault(link, rules.root / "demos", set(), rules) or "")


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("Made_Demo.ipynb#2-the-metric", None),
        ("Made_Demo.ipynb#2-The-Metric", None),
        ("Made_Demo.ipynb#3-the-metric", "there is no such heading in Made_Demo.ipynb"),
        ("Made_Demo.ipynb#a-comment", "there is no such heading"),
        ("gpt2/Made_Demo.ipynb#2-the-metric", None),
        ("gpt2/Made_Demo.ipynb#gone", "there is no such heading"),
        ("../README.md#how-to-%C3%BCse", None),
        ("../README.md#how-to-lose", "there is no such heading in README.md"),
        ("../README.md", None),
        ("Made_Demo.py#L3", None),
        ("../Makefile#L3", None),
    ],
)
def test_a_link_into_another_page_names_a_heading_of_it(
    link: str, fault: str | None, rules: LinkRules
) -> None:
    demos = rules.root / "demos"
    script = "# %% [markdown]\n# ## 2. The metric\n\n# %%\n# a comment\n"
    (demos / "Made_Demo.py").write_text(script)
    (rules.root / "README.md").write_text("# Read me\n\n## How to üse\n")
    (rules.root / "Makefile").write_text("all:\n")
    found = link_fault(link, demos, set(), rules)
    assert found == fault or (fault and fault in str(found))


def test_a_heading_that_was_renamed_is_not_remembered(rules: LinkRules) -> None:
    page = rules.root / "README.md"
    for heading, fault in (("One", None), ("Two", "no such heading"), ("One", None)):
        page.write_text(f"# {heading}\n")
        found = link_fault("../README.md#one", rules.root / "demos", set(), rules)
        assert found == fault or (fault and fault in str(found))


# --- what is meant to be alike --------------------------------------------------------------------


def test_demos_are_set_up_alike() -> None:
    def notebook(text: str, code: str) -> NotebookNode:
        cells = [new_markdown_cell("# Title"), new_markdown_cell(text), new_code_cell(code)]
        return new_notebook(cells=[*cells, new_code_cell("its own")])

    same = {name: notebook("## 1. Setup", "import sys") for name in "abc"}
    assert check_alike({}) == []
    assert check_alike(same) == []
    for text, code in (("## 1. Set up", "import sys"), ("## 1. Setup", "import os")):
        (problem,) = check_alike({"odd": notebook(text, code), **same})
        assert (problem.file, "not that of a" in problem.what) == ("odd", True)
    (problem,) = check_alike({**same, "bare": new_notebook(cells=[new_markdown_cell("# Title")])})
    assert problem.file == "bare"


# --- folders and the command ----------------------------------------------------------------------


def test_a_good_repository_has_no_problem(tmp_path: Path) -> None:
    folder = repository(tmp_path)
    settings = read_settings(tmp_path / "pyproject.toml")
    assert check_paths([folder, tmp_path / "README.md"], settings, []) == []


@pytest.mark.parametrize(("suffix", "what"), [(".py", "paired source"), (".ipynb", "paired note")])
def test_finds_half_a_pair(tmp_path: Path, suffix: str, what: str) -> None:
    folder = repository(tmp_path)
    demo("Other").write(folder)
    (folder / f"Other{suffix}").unlink()
    (problem,) = check_folder(folder, read_settings(tmp_path / "pyproject.toml"), [])
    assert what in problem.what


def test_another_models_outputs_are_checked_against_the_same_source(tmp_path: Path) -> None:
    folder = repository(tmp_path)
    settings = read_settings(tmp_path / "pyproject.toml")
    made = demo()
    made.notebook.cells[0].source = "# A demo"  # no links: they would be relative to another folder
    made.resync()
    made.write(folder)
    made.notebook.metadata.provenance.model = "gpt2"
    other = folder / "gpt2" / "Small_Demo.ipynb"
    other.parent.mkdir()
    other.write_text(made.encode(made.notebook))
    assert check_folder(folder, settings, []) == []
    script = folder / "Small_Demo.py"
    script.write_text(script.read_text() + "\n# %%\nprint('new')\n")
    problems = [problem for problem in check_folder(folder, settings, []) if "gpt2" in problem.file]
    assert {problem.file for problem in problems} == {"gpt2/Small_Demo.ipynb"}
    assert any("the pair disagrees" in problem.what for problem in problems)
    assert any("another version of the source" in problem.what for problem in problems)
    script.unlink()
    (problem,) = [p for p in check_paths([other], settings, []) if "source" in p.what]
    assert "no paired source" in problem.what


def test_the_model_in_the_stamp_is_checked_in_both_places(tmp_path: Path) -> None:
    folder = repository(tmp_path)
    settings = read_settings(tmp_path / "pyproject.toml")
    made = demo()
    made.notebook.cells[0].source = "# A demo"
    made.resync()
    made.notebook.metadata.provenance.model = "large"
    for place in (folder, folder / "gpt2"):
        place.mkdir(exist_ok=True)
        made.write(place)
    (folder / "gpt2" / "Small_Demo.py").unlink()
    found = [str(problem) for problem in check_folder(folder, settings, [])]
    assert [text.partition(":")[0] for text in found] == ["Small_Demo.ipynb", "gpt2/Small_Demo.ipynb"]
    assert all("the stamp names the model 'large'" in text for text in found)


def test_demos_that_link_to_each_other_can_be_rendered_one_by_one(rules: LinkRules) -> None:
    known: set[str] = set()
    for link in ("New.ipynb", f"{COLAB}/github/ann/demos/blob/main/demos/New.ipynb"):
        assert link_fault(link, rules.root / "demos", known, rules)
    (rules.root / "demos" / "New.py").write_text("")
    for link in ("New.ipynb", f"{COLAB}/github/ann/demos/blob/main/demos/New.ipynb"):
        assert link_fault(link, rules.root / "demos", known, rules) is None
    assert link_fault("New.md", rules.root / "demos", known, rules)


def test_a_folder_without_notebooks_is_a_problem(tmp_path: Path) -> None:
    repository(tmp_path)
    assert len(check_folder(tmp_path, read_settings(tmp_path / "pyproject.toml"), [])) == 1


def run(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "helpers.notebooks.checks", str(root / "demos")]
    command += [str(root / "README.md"), "--config", str(root / "pyproject.toml")]
    here = Path(__file__).parents[1]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_the_command_exits_with_1_if_there_is_a_problem(tmp_path: Path) -> None:
    repository(tmp_path)
    good = run(tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text() + "\nThe difference is 3.55.\n")
    bad = run(tmp_path)
    assert bad.returncode == 1
    assert "README.md: prose states '3.55'." in bad.stdout
