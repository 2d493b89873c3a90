"""What is prepared for the web pages; the pages themselves are looked at in tests/browser."""

from __future__ import annotations

from pathlib import Path

import circuitsvis
import nbformat
import numpy as np
import pytest

from helpers.notebooks import site
from helpers.notebooks.page import InteractiveOutputs, circuitsvis_script

BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://x.y/z)"
OPENING = f"# A title\n\n{BADGE}\n\nA promise\nin two lines.\n\nMore."


def write(folder: Path, name: str, *cells: str) -> Path:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(cell) for cell in cells])
    notebook.metadata["provenance"] = {"model": "some-model"}
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def demos(tmp_path) -> list[site.Demo]:
    write(tmp_path, "One_Demo", OPENING)
    write(tmp_path, "Other_Demo", OPENING)
    (tmp_path / "thumbnails").mkdir()
    (tmp_path / "thumbnails" / "One_Demo.png").write_bytes(b"")
    return site.read_demos(tmp_path)


def test_title_and_promise_are_the_first_cells(demos):
    assert (demos[0].title, demos[0].promise) == ("A title", "A promise in two lines.")
    assert demos[0].short_title == "One"


def test_the_order_is_the_readmes(tmp_path):
    for name in ("A_Demo", "B_Demo", "C_Demo", "D_Demo"):
        write(tmp_path, name, OPENING)
    guide = "![a picture](demos/A_Demo.png) [third](demos/C_Demo.ipynb), [first](demos/B_Demo.ipynb)"
    order = [demo.name for demo in site.read_demos(tmp_path, guide)]
    assert order == ["C_Demo", "B_Demo", "A_Demo", "D_Demo"]
    assert [demo.name for demo in site.read_demos(tmp_path)] == ["A_Demo", "B_Demo", "C_Demo", "D_Demo"]


def test_our_readme_begins_with_the_exploratory_analysis():
    root = Path(__file__).parents[1]
    order = site.read_demos(root / "demos", (root / "README.md").read_text(encoding="utf-8"))
    assert order[0].name == "Exploratory_Analysis_Demo"


def test_links_replace_the_badge_and_say_whose_outputs_these_are(demos):
    first = site.web_notebook(demos[0], "o/n").cells[0].source
    assert "![" not in first
    assert "https://colab.research.google.com/github/o/n/blob/main/demos/One_Demo.ipynb" in first
    assert "https://github.com/o/n/blob/main/demos/One_Demo.py" in first
    assert "outputs of some-model" in first
    assert first.startswith("# A title\n")
    assert first.endswith("More.")


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("A long sentence about a finding. " * 6, "wrap"),
        ("  indented: it is still a sentence\n", "wrap"),
        ("head      score\nL0H1      0.25\n" + "And a sentence. " * 9, "wrap-wide"),
        ("head      score" + 30 * "      0.25", None),
        ("", None),
    ],
)
def test_sentences_may_be_broken_and_columns_not(text, tag):
    outputs = [nbformat.v4.new_output("stream", text=text)] if text else []
    assert site.line_breaks(nbformat.v4.new_code_cell(outputs=outputs)) == tag


def test_the_committed_notebook_is_left_alone(demos):
    before = nbformat.writes(demos[0].notebook)
    site.web_notebook(demos[0], "o/n")
    assert nbformat.writes(demos[0].notebook) == before


@pytest.mark.parametrize(
    ("written", "staged"),
    [
        ("```math\na^2\n```", "```{math}\na^2\n```"),
        ("```{python}\nx\n```", "```python\nx\n```"),
        ("- ```{r foo, echo=FALSE}\n  x\n  ```", "- ```r foo, echo=FALSE\n  x\n  ```"),
        ("> ~~~{note}\n> x\n> ~~~", "> ~~~note\n> x\n> ~~~"),
        ("```python\nx\n```", "```python\nx\n```"),
        ("````\n```{python}\n```\n````", "````\n```{python}\n```\n````"),
        ("Text {python} and `{math}`", "Text {python} and `{math}`"),
    ],
)
def test_blocks_of_code_are_no_directives(written, staged):
    assert site.plain_fences(written) == staged


def test_the_index_has_a_card_for_each_and_pictures_where_there_are_some(demos):
    text = site.index(demos, "o/n")
    assert text.count("{grid-item-card} A title") == 2
    assert text.count(":img-top:") == 1
    assert "One <One_Demo>" in text


def test_a_folder_without_notebooks_or_a_demo_without_title_is_refused(tmp_path):
    with pytest.raises(ValueError, match="make render"):
        site.read_demos(tmp_path)
    write(tmp_path, "Untitled", "No heading.\n\nText.")
    with pytest.raises(ValueError, match=r"Untitled\.ipynb must begin"):
        site.read_demos(tmp_path)


def test_a_warning_of_sphinx_leaves_the_old_pages(tmp_path):
    write(tmp_path, "Broken_Demo", OPENING, "[nowhere](#no-such-heading)")
    out = tmp_path / "site"
    out.mkdir()
    (out / "index.html").write_text("old")
    with pytest.raises(RuntimeError, match="without a warning"):
        site.build(tmp_path, Path(__file__).parent.parent / "helpers/notebooks/web", out, "o/n")
    assert (out / "index.html").read_text() == "old"


def in_page(html: str) -> str:
    """What the page of a notebook gets for an HTML output."""
    output = nbformat.v4.new_output("display_data", {"text/html": html})
    cell, _ = InteractiveOutputs().preprocess_cell(nbformat.v4.new_code_cell(outputs=[output]), {}, 0)
    return cell.outputs[0]["data"]["text/html"]


VIEW = (
    '<div id="circuits-vis-1" style="margin: 15px 0;"/>\n<script crossorigin type="module">\n'
    'import { render, AttentionHeads } from "https://unpkg.com/circuitsvis@1/dist/cdn/esm.js";\n'
    'render(\n"circuits-vis-1",\nAttentionHeads,\n{}\n)\n</script>'
)


def test_an_attention_view_is_closed_and_asks_no_other_server():
    html = in_page(VIEW)
    assert html.startswith('<div id="circuits-vis-1" style="margin: 15px 0;"></div>')
    assert 'CircuitsVis.render("circuits-vis-1", CircuitsVis.AttentionHeads,' in html
    assert "https:" not in html
    assert "CircuitsVis" in circuitsvis_script()


def test_each_of_several_views_does():
    html = in_page(f"<p>two</p>{VIEW}{VIEW.replace('vis-1', 'vis-2')}")
    assert html.count("CircuitsVis.render(") == html.count("></div>") == 2
    assert "https:" not in html


def test_the_packages_own_views_do():
    view = circuitsvis.attention.attention_heads(np.ones((1, 2, 2)), ["a", "b"])
    assert "https:" in view.cdn_src
    assert "https:" not in in_page(view.cdn_src)
    assert "CircuitsVis.AttentionHeads" in in_page(view.local_src), "it brings its script itself"


@pytest.mark.parametrize(
    "html",
    [
        "<table><tr><td>circuitsvis</td><td>1.43</td></tr></table>",
        '<p>See <a href="https://github.com/TransformerLensOrg/CircuitsVis">circuitsvis</a>.</p>',
        '<pre>import { render } from "https://unpkg.com/circuitsvis@1/dist/cdn/esm.js";</pre>',
        '<script type="module">log("circuitsvis")</script>',
    ],
)
def test_html_that_names_circuitsvis_stays_as_it_is(html):
    assert in_page(html) == html


def test_a_view_in_an_unknown_form_is_said_and_kept(capsys):
    html = (
        """<script type="module">import * as v from 'https://unpkg.com/circuitsvis@9/x.js';</script>"""
    )
    assert in_page(html) == html
    assert "needs a network" in capsys.readouterr().err
