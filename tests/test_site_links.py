"""Where links and pictures of the demos lead on the web pages; what others accept stops nothing."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from nbformat import NotebookNode

from helpers.notebooks import site
from helpers.notebooks.site_links import as_data, in_repository, is_relative, with_addresses

GITHUB = "https://github.com/o/n/blob/main"
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
IN_PLACE = "data:image/png;base64," + base64.b64encode(PICTURE).decode()


# --- single addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["a.md", "../a/b.py#L3", "./a", "a%20b.ipynb?plain=1"])
def test_relative(address):
    assert is_relative(address)


@pytest.mark.parametrize(
    "address", ["https://a.b/c", "//a.b/c", "#a", "?a", "", "/a", "mailto:a@b.c", "data:x"]
)
def test_not_relative(address):
    assert not is_relative(address)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("../helpers/task.py#L3", "helpers/task.py#L3"),
        ("gpt2/One_Demo.ipynb", "demos/gpt2/One_Demo.ipynb"),
        ("./One_Demo.py", "demos/One_Demo.py"),
        ("../a b.md", "a%20b.md"),
        ("../a%20b.md", "a%20b.md"),
        ("../README.md?plain=1#L3", "README.md?plain=1#L3"),
        ("../übung.md", "%C3%BCbung.md"),
    ],
)
def test_the_place_in_the_repository(address, place):
    assert in_repository(address, "o/n") == f"{GITHUB}/{place}"


def test_a_picture_as_an_address(tmp_path):
    (tmp_path / "a.png").write_bytes(PICTURE)
    assert as_data(tmp_path / "a.png") == IN_PLACE
    with pytest.raises(FileNotFoundError):
        as_data(tmp_path / "b.png")


def test_html_is_kept_to_the_letter_around_addresses():
    html = "<DIV class=a>\n<a HREF='x.md' title=\"p &amp; q\">t</a> &lt; <img alt src=y.png /> <b>"
    new = with_addresses(html, lambda kind, address: f"{kind}:{address}")
    link, picture = '<a href="link:x.md" title="p &amp; q">', '<img alt src="picture:y.png"/>'
    assert new == f"<DIV class=a>\n{link}t</a> &lt; {picture} <b>"
    for untouched in ('<script>x = "<a href=y.md>"</script>', "<!-- <a href=y.md> -->", "<a href=#y>"):
        assert with_addresses(untouched, lambda *_: "new") == untouched


# --- a site ---------------------------------------------------------------------------------------


OPENING = "# A title\n\nA promise with [a link](../README.md), ![p](pic.png), $x_1$ and a note[^1]."
LINKS = {
    "page": "[a](Other_Demo.ipynb) [b](./Other_Demo.ipynb) [c][r]\n\n[r]: Other_Demo.ipynb",
    "heading": "[a](Other_Demo.ipynb#part-two) [b](Other_Demo.ipynb#Part-Two)",
    "id": "[a](Other_Demo.ipynb#sec.1)",
    "file": "[a](../helpers/task.py#L3)\n\n| a |\n|---|\n| [b](thumbnails/One_Demo.png) |",
    "html": '<details><b><a href="Other_Demo.ipynb#Part-Two">a</a></b>\n\n[b](atlas)\n\n</details>',
    "same": '## The heading: `x`\n\n[a](#the-heading-x) [b](#The-heading:-x) [c](#own) <a id="own"></a>',
    "pictures": '![p](pic.png) ![q](pic.png#only-light "t") <img src="pic.png">',
    "linked": "[![p](pic.png)](Other_Demo.ipynb)",
    "title": '[a](Other_Demo.ipynb "a title")',
}
CODE = {
    "span": "`handlers[key](value)`",
    "fence": "```python\nhandlers[key](value)\n```",
    "braces": "```{python}\nhandlers[key](value)\n```",
    "unknown": "```foolang\nhandlers[key](value)\n```",
    "indented": "    handlers[key](value)",
    "cell": "handlers[key](value)",
}
OTHERS_ACCEPT = [
    r"$\dots$ $\frac12$",
    "$$\\begin{align} a &= b \\\\ c &= d \\end{align}$$",
    "\\begin{align} a &= b \\end{align}",
    r"$\nosuchcommand{x}$",
    "```math\na^2\n```",
    "An unknown note[^7], ~~gone~~.\n\n- [ ] to do",
    "## Twice\n\n## Twice\n\n##### Two levels left out\n\n# Another title",
    "---",
    "{role}`x` % no comment\n\n(no-target)=\n\n+++\n\n:::note\nx\n:::",
    "[a]: https://github.com/a\n\n[a]: https://github.com/b",
    "",
    "---",
]
CELLS = [
    "!ls $HOME",
    "%%bash\necho $HOME ${x[0]}",
    "name?",
    "?name",
    "%%time\nx = !ls",
    "x = (((\n$$$",
    "",
]


def markdown(name: str, source: str) -> NotebookNode:
    """A cell between two marks by which its part of the page is found."""
    return nbformat.v4.new_markdown_cell(
        f'<i id="from-{name}"></i>\n\n{source}\n\n<i id="to-{name}"></i>'
    )


def shown(**data: str) -> NotebookNode:
    kinds = {kind.replace("_", "/", 1): content for kind, content in data.items()}
    outputs = [nbformat.v4.new_output("display_data", kinds)]
    return nbformat.v4.new_code_cell("display(x)", outputs=outputs, execution_count=1)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    demos = tmp_path_factory.mktemp("demos")
    (demos / "thumbnails").mkdir()
    for file in ("pic.png", "thumbnails/One_Demo.png"):
        (demos / file).write_bytes(PICTURE)
    cells = [
        nbformat.v4.new_markdown_cell(OPENING),
        *(markdown(name, source) for name, source in (LINKS | CODE).items()),
        *map(nbformat.v4.new_markdown_cell, OTHERS_ACCEPT),
        *map(nbformat.v4.new_code_cell, [*CELLS, CODE["cell"]]),
        shown(text_html="<table><tr><td>circuitsvis</td></tr></table>"),
        shown(text_html='<p><a href="Other_Demo.ipynb">in HTML</a><img src="missing.png"></p>'),
        shown(text_markdown="[in Markdown](Other_Demo.ipynb) ![p](pic.png)"),
        shown(text_latex=r"$\displaystyle \nosuchcommand{x}$"),
        nbformat.v4.new_raw_cell("raw"),
        nbformat.v4.new_markdown_cell("Then a note.\n\n[^1]: The note.\n\n---"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), demos / "One_Demo.ipynb")
    other = [OPENING.replace("A title", "Another"), '## Part Two\n\n<a id="sec.1"></a>']
    cells = [nbformat.v4.new_markdown_cell(source) for source in other]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), demos / "Other_Demo.ipynb")
    out = tmp_path_factory.mktemp("built") / "site"
    site.build(demos, Path(__file__).parents[1] / "helpers/notebooks/web", out, "o/n")
    return out


@pytest.fixture(scope="module")
def page(built) -> Tag:
    return BeautifulSoup((built / "One_Demo.html").read_text(encoding="utf-8"), "html.parser").article


@pytest.fixture(scope="module")
def part(page) -> Callable[[str], Tag]:
    html = str(page)

    def between(name: str) -> Tag:
        [inside] = re.findall(f'<i id="from-{name}"></i>(.*?)<i id="to-{name}"></i>', html, re.DOTALL)
        return BeautifulSoup(inside, "html.parser")

    return between


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("page", ["Other_Demo.html"] * 3),
        ("heading", ["Other_Demo.html#part-two"] * 2),
        ("id", ["Other_Demo.html#sec.1"]),
        ("file", [f"{GITHUB}/helpers/task.py#L3", f"{GITHUB}/demos/thumbnails/One_Demo.png"]),
        ("html", ["Other_Demo.html#part-two", f"{GITHUB}/demos/atlas"]),
        ("linked", ["Other_Demo.html"]),
    ],
)
def test_links_stay_on_the_site_or_lead_to_the_repository(part, name, addresses):
    assert [link["href"] for link in part(name)("a")] == addresses


def test_links_within_a_page_find_their_headings(page, part):
    links = [
        link["href"][1:] for link in part("same")("a", href=True) if "headerlink" not in link["class"]
    ]
    assert len(links) == 3
    assert [page.find(id=anchor) is not None for anchor in links] == [True] * 3
    assert links[2] == "own"


def test_a_links_title_is_kept(part):
    assert part("title").a["title"] == "a title"


@pytest.mark.parametrize(("name", "count"), [("pictures", 3), ("linked", 1)])
def test_pictures_are_shown(part, name, count):
    assert [picture["src"] for picture in part(name)("img")] == [IN_PLACE] * count


@pytest.mark.parametrize("name", CODE)
def test_code_stays_as_it_is(page, part, name):
    where = page.select(".cell_input")[len(CELLS) - 1] if name == "cell" else part(name)
    assert "handlers[key](value)" in where.text
    assert not where("a")


def test_formulas_are_drawn_or_shown_as_they_are_written(page):
    drawn = {re.sub(r"\s", "", formula.text) for formula in page("math")}
    assert {"…", "12", "a=bc=d", "a=b", "a2", "x1"} <= drawn
    written = [code.text for code in page("code", "formula")]
    assert written == [r"\nosuchcommand{x}", r"\displaystyle \nosuchcommand{x}"]


def test_what_others_show_is_shown(page):
    text = page.text
    for words in ("note[^7]", "{role}x % no comment", "(no-target)=", "+++", ":::note", "circuitsvis"):
        assert words in text
    assert page.s.text == "gone"
    assert page.find("input", type="checkbox")


def test_outputs_have_the_same_addresses(page):
    links = {link.text: link["href"] for link in page.select(".cell_output a")}
    assert links == {"in HTML": "Other_Demo.html", "in Markdown": "Other_Demo.html"}
    assert [p["src"] for p in page.select(".cell_output img")] == ["missing.png", IN_PLACE]


def test_the_index_has_them_too(built):
    card = BeautifulSoup((built / "index.html").read_text(encoding="utf-8"), "html.parser").select(
        ".sd-card"
    )[0]
    assert card.select(".sd-card-body a[href^=https]")[0]["href"] == f"{GITHUB}/README.md"
    assert IN_PLACE in [picture["src"] for picture in card("img")]
    assert card.math
