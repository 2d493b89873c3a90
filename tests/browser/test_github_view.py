"""Each committed notebook as GitHub shows it: every figure there, whole, and readable in both themes."""

from __future__ import annotations

import base64
import io
import re
from functools import cache
from pathlib import Path

import nbformat
import numpy as np
import pytest
from markdown_it import MarkdownIt
from nbformat import NotebookNode
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Locator, Page

from helpers.figure_json import PLOTLY
from helpers.notebooks.pictures import PNG
from tests.browser.conftest import ROOT, photograph
from tests.browser.github import github_page, sanitised
from tests.browser.looks import picture_faults, pixels

NOTEBOOKS = sorted((ROOT / "demos").glob("*.ipynb"))
# Of a picture's own size: GitHub's column is a little narrower than our figures.
MIN_SCALE = 0.9


def data_of(notebook: NotebookNode) -> list[dict]:
    return [o.data for cell in notebook.cells for o in cell.get("outputs", []) if "data" in o]


def markdown_of(notebook: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def opened(browser: Browser, notebook: NotebookNode, theme: str) -> Page:
    """The page, without a network: what is not in the notebook is not seen."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.route("**", lambda route: route.abort())
    page.set_content(github_page(notebook, theme))
    return page


def output_pictures(page: Page) -> list[Locator]:
    return page.locator(".output_area img").all()


def figure_faults(page: Page) -> list[str]:
    """For each picture in the outputs: is it visible, inside its column, at its size, and legible?"""
    column = page.locator("main").bounding_box()
    faults = []
    for number, picture in enumerate(output_pictures(page)):
        box = picture.bounding_box()
        if not picture.is_visible() or not box or min(box["width"], box["height"]) < 100:
            faults.append(f"picture {number}: not visible")
            continue
        if box["x"] < column["x"] or box["x"] + box["width"] > column["x"] + column["width"]:
            faults.append(f"picture {number}: leaves the column")
        scale = box["width"] / picture.evaluate("image => image.naturalWidth")
        if scale < MIN_SCALE:
            faults.append(f"picture {number}: shown at {scale:.0%} of its size")
        file = base64.b64decode(picture.get_attribute("src").split(",", 1)[1])
        faults += [f"picture {number}: {fault}" for fault in faults_of(file)]
    return faults


@cache
def faults_of(picture: bytes) -> tuple[str, ...]:
    """Looked for once: both themes show the same files."""
    return tuple(picture_faults(picture))


def formulas(markdown: str) -> list[str]:
    no_code = re.sub(r"```.*?```|`[^`]*`", "", markdown, flags=re.DOTALL)
    return re.findall(r"\$\$.+?\$\$|\$[^\s$](?:[^$\n]*[^\s$])?\$", no_code, flags=re.DOTALL)


# --- the committed notebooks ----------------------------------------------------------------------


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture(scope="module")
def notebook(path: Path) -> NotebookNode:
    return nbformat.read(path, 4)


@pytest.fixture(scope="module")
def pages(browser, notebook, path, screenshots) -> dict[str, Page]:
    pages = {theme: opened(browser, notebook, theme) for theme in ("light", "dark")}
    for theme, page in pages.items():
        photograph(page, screenshots / f"github-{theme}-{path.stem}.jpg")
    return pages


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_every_figure_has_its_picture(notebook, pages):
    expected = [data[PNG] for data in data_of(notebook) if PLOTLY in data]
    shown = [
        picture.get_attribute("src").split(",", 1)[1].replace("\n", "")
        for picture in output_pictures(pages["light"])
    ]
    assert expected
    assert [picture.replace("\n", "") for picture in expected] == shown


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_picture_can_be_seen(pages, theme):
    assert figure_faults(pages[theme]) == []


def test_no_line_is_cut_off(pages):
    """But for the one that TransformerLens prints, of the tokens of a prompt."""
    blocks = (
        pages["light"]
        .locator(".input pre, .output_area pre")
        .evaluate_all("blocks => blocks.map(b => [b.textContent, b.scrollWidth > b.clientWidth])")
    )
    assert blocks
    cut = [text for text, too_wide in blocks if too_wide]
    assert [text[:80] for text in cut if not text.lstrip().startswith("Tokenized prompt: ")] == []


def test_pictures_look_the_same_in_both_themes(pages):
    pairs = zip(*(output_pictures(pages[theme]) for theme in ("light", "dark")), strict=True)
    for light, dark in pairs:
        # But for the outermost pixel, in which a picture at half a pixel mixes with the page.
        inside = [pixels(picture.screenshot())[1:-1, 1:-1] for picture in (light, dark)]
        np.testing.assert_array_equal(*inside)


def test_folds_tables_and_math_survive(notebook, pages):
    markdown, page = markdown_of(notebook), pages["light"]
    assert page.locator(".text_cell details").count() == len(re.findall("<details", markdown))
    for fold in page.locator(".text_cell details").all():
        fold.evaluate("fold => { for (let f = fold; f; f = f.parentElement) f.open = true; }")
        assert fold.locator("summary").first.inner_text().strip()
        assert fold.inner_text().strip() != fold.locator("summary").first.inner_text().strip()
    tables = [
        t for t in MarkdownIt("gfm-like", {"linkify": False}).parse(markdown) if t.type == "table_open"
    ]
    assert page.locator(".text_cell table").count() == len(tables)
    text = page.locator("main").inner_text()
    words = " ".join(text.split())  # a line break in a formula is a space on the page
    assert [formula for formula in formulas(markdown) if " ".join(formula.split()) not in words] == []


# --- the test's own eyes --------------------------------------------------------------------------


def drawing(colour: str = "black", at: int = 20, mode: str = "RGB", ground: str = "white") -> bytes:
    """A picture with a frame and a diagonal."""
    image = Image.new(mode, (400, 300), (255, 255, 255, 0) if mode == "RGBA" else ground)
    pen = ImageDraw.Draw(image)
    pen.rectangle([at, 20, 380, 280], outline=colour, width=3)
    pen.line([at, 20, 380, 280], fill=colour, width=3)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def showing(*bundles: dict) -> NotebookNode:
    outputs = [nbformat.v4.new_output("display_data", data=data) for data in bundles]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=outputs)])


@pytest.mark.parametrize(
    ("picture", "fault"),
    [
        (drawing(), None),
        (drawing(ground="#f0f0f0"), None),
        (drawing("white"), "0.0% of it is drawn on"),
        (drawing("#999999"), "contrast 2.8"),
        (drawing(at=0), "cut off at the left"),
        (drawing(mode="RGBA"), "transparent"),
    ],
)
def test_faults_of_a_picture(picture, fault):
    found = list(picture_faults(picture))
    assert found == [] if fault is None else any(fault in text for text in found), found


def test_html_is_shown_before_a_picture_and_plotly_not_at_all(browser):
    picture = {PNG: base64.b64encode(drawing()).decode()}
    hidden = {**picture, "text/html": "<div id='x'></div><script>draw('x')</script>"}
    with pytest.warns(UserWarning, match="is not able to be represented"):  # nbconvert on Plotly's
        page = opened(browser, showing(picture, hidden, {PLOTLY: {"data": []}}), "light")
    assert len(output_pictures(page)) == 1
    assert "draw" not in page.content()


def test_a_picture_too_large_is_noticed(browser):
    image = Image.open(io.BytesIO(drawing())).resize((1600, 1200))
    file = io.BytesIO()
    image.save(file, "PNG")
    page = opened(browser, showing({PNG: base64.b64encode(file.getvalue()).decode()}), "light")
    [fault] = figure_faults(page)
    assert "of its size" in fault


def test_what_sanitising_removes_and_keeps():
    html = '<p style="color:red" onclick="x()" align="left">a<script>b</script><iframe src="c"></iframe>'
    assert sanitised(html) == '<p align="left">a</p>'
    folded = "<details><summary>s</summary><table><tbody><tr><td>1</td></tr></tbody></table></details>"
    assert sanitised(folded) == folded


def test_math_and_tables_in_a_fold(browser):
    table = "| x | y |\n|---|---|\n| 1 | 2 |"
    text = f"<details><summary>Why</summary>\n\nSince $a_1 * b_2 < c$:\n\n{table}\n\n</details>"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    page = opened(browser, notebook, "light")
    assert formulas(text) == ["$a_1 * b_2 < c$"]
    test_folds_tables_and_math_survive(notebook, {"light": page})
