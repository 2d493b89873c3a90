"""The demos as web pages: ``python -m helpers.notebooks.site``, or ``make site``, writes build/site.

Sphinx with MyST-NB makes the pages, from the committed outputs. What is prepared for it here: notebooks
whose figures run from scripts beside the page, an index, the atlas page (atlas_page.py) and the API
reference (api.py). Links and formulas are rewritten as Sphinx reads the pages (site_links.py,
formulas.py).
"""

from __future__ import annotations

import argparse
import copy
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from markdown_it import MarkdownIt
from markdown_it.token import Token
from nbformat import NotebookNode
from plotly.offline import get_plotlyjs
from sphinx.cmd.build import main as sphinx_build

from helpers.files import NotWrittenError, check_writable, writing_to
from helpers.notebooks import api as api_pages
from helpers.notebooks.atlas_page import AtlasPage, read_atlas_page
from helpers.notebooks.checks import link_rules
from helpers.notebooks.page import InteractiveOutputs, circuitsvis_script
from helpers.notebooks.render import write_notebook
from helpers.notebooks.uses import Use, uses_in

_COLUMNS = re.compile(r"\S {3,}\S")
_WIDE = 105  # letters that fit beside each other on a desk
# MyST's own syntax, which is ordinary text for GitHub and JupyterLab.
_NOT_IN_NOTEBOOKS = [
    "colon_fence",
    "front_matter",
    "myst_block_break",
    "myst_line_comment",
    "myst_role",
    "myst_target",
]
_MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Demo:
    """A committed notebook, and what an index says of it."""

    path: Path
    notebook: NotebookNode

    @property
    def title(self) -> str:
        return read_opening(self).title

    @property
    def short_title(self) -> str:
        """For menus, from the file's name."""
        return self.path.stem.removesuffix("_Demo").replace("_", " ")

    @property
    def promise(self) -> str:
        """The first paragraph, in one line."""
        return read_opening(self).promise

    @property
    def name(self) -> str:
        """Of its page."""
        return self.path.stem

    @property
    def picture(self) -> bytes | None:
        """Its thumbnail, a PNG file, if there is one."""
        thumbnail = self.path.parent / "thumbnails" / f"{self.path.stem}.png"
        return thumbnail.read_bytes() if thumbnail.is_file() else None


@dataclass(frozen=True)
class Opening:
    """The beginning of a demo's first cell.

    `body`: what follows the title, in Markdown, without the paragraphs that are badges.
    """

    title: str
    promise: str
    body: str


def read_opening(demo: Demo) -> Opening:
    """Its title, its first paragraph, and the rest.

    Raises:
        ValueError: if the notebook does not begin with a title and a paragraph.
    """
    cells = demo.notebook.cells
    lines = cells[0].source.splitlines() if cells and cells[0].cell_type == "markdown" else []
    tokens = _MARKDOWN.parse("\n".join(lines))
    blocks = [(tokens[i - 1], token) for i, token in enumerate(tokens) if token.type == "inline"]
    paragraphs = [
        inline for block, inline in blocks if block.type == "paragraph_open" and block.level == 0
    ]
    badges = [inline for inline in paragraphs if _is_badges(inline)]
    promises = [inline for inline in paragraphs if inline not in badges]
    if not promises or tokens[0].type != "heading_open" or tokens[0].tag != "h1":
        raise ValueError(f"{demo.path} must begin with a `# title` and a paragraph for the index.")
    dropped = {number for token in [tokens[0], *badges] for number in range(*(token.map or ()))}
    body = "\n".join(line for number, line in enumerate(lines) if number not in dropped)
    return Opening(blocks[0][1].content, " ".join(promises[0].content.split()), body.strip("\n"))


def _is_badges(paragraph: Token) -> bool:
    """Whether it is pictures that are links, and nothing else."""
    inside = 0
    for token in paragraph.children or []:
        inside += token.nesting if token.type in ("link_open", "link_close") else 0
        badge = token.type in ("link_open", "link_close", "softbreak") or (
            inside and token.type == "image"
        )
        if not (badge or (token.type == "text" and not token.content.strip())):
            return False
    return True


def read_demos(folder: Path, guide: str = "") -> list[Demo]:
    """The notebooks of a folder, in the order in which a text links to them; others follow by name.

    Args:
        folder: of notebooks.
        guide: the text, here the README, in which a reader meets them in a sensible order.

    Raises:
        ValueError: if there is none, or one does not begin with a title and a paragraph.
    """
    paths = sorted(folder.glob("*.ipynb"))
    linked = {path: guide.find(f"{path.name})") for path in paths}
    paths.sort(key=lambda path: linked[path] if linked[path] >= 0 else len(guide))
    demos = [Demo(path, nbformat.read(path, as_version=4)) for path in paths]
    if not demos:
        raise ValueError(f"No notebook in {folder}; run `make render` first.")
    for demo in demos:
        read_opening(demo)
    return demos


def links_line(demo: Demo, repository: str) -> str:
    """Where to run the demo, where its source is, and what its outputs were made with."""
    file = f"{repository}/blob/main/demos/{demo.path.stem}"
    links = [
        f"[Open in Colab](https://colab.research.google.com/github/{file}.ipynb)",
        f"[View source](https://github.com/{file}.py)",
    ]
    stamp = demo.notebook.metadata.get("provenance", {})
    made_with = [f"outputs of {stamp['model']}"] if "model" in stamp else []
    return " · ".join([*links, *made_with])


def line_breaks(cell: NotebookNode) -> str | None:
    """A tag by which the style sheet knows whether long lines that a code cell printed may be broken.

    Sentences may ("wrap"), columns only where there is room for them ("wrap-wide"), if at all.
    """
    lines = "".join(o.text for o in cell.get("outputs", []) if o.output_type == "stream").splitlines()
    table = [line for line in lines if _COLUMNS.search(line)]
    if not lines or any(len(line) > _WIDE for line in table):
        return None
    return "wrap-wide" if table else "wrap"


def web_notebook(demo: Demo, repository: str) -> NotebookNode:
    """The notebook for Sphinx: interactive outputs, links instead of badges, code coloured as IPython's.

    Args:
        demo: the committed notebook, which is left as it is.
        repository: owner/name.
    """
    notebook, _ = InteractiveOutputs().preprocess(copy.deepcopy(demo.notebook), {})
    opening = read_opening(demo)
    notebook.cells[0].source = f"# {opening.title}\n\n{links_line(demo, repository)}\n\n{opening.body}"
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    notebook.metadata["myst"] = {"disable_syntax": _NOT_IN_NOTEBOOKS}
    for cell in notebook.cells:
        if cell.cell_type == "code" and (tag := line_breaks(cell)):
            cell.metadata.setdefault("tags", []).append(tag)
        elif cell.cell_type == "markdown":
            cell.source = plain_fences(cell.source)
    return notebook


def plain_fences(markdown: str) -> str:
    """Blocks of code as GitHub shows them: ```math as a formula, ```{python} as code.

    MyST has a meaning of its own for braces, and drops the text where it knows none.
    """
    lines = markdown.split("\n")
    for token in _MARKDOWN.parse(markdown):
        if token.type != "fence" or token.map is None:
            continue
        language, line = token.info.strip(), token.map[0]
        if language == "math":
            lines[line] = lines[line].replace("math", "{math}")
        elif language.startswith("{"):
            lines[line] = lines[line].replace(language, language.strip("{}").partition("}")[0])
    return "\n".join(lines)


def index(pages: Sequence[Demo | AtlasPage], repository: str, api: bool = False) -> str:
    """The first page, in MyST: a card with a picture for each of the others.

    Args:
        pages: the others.
        repository: owner/name.
        api: whether there is an API reference too, to which a line leads.
    """
    cards = "\n".join(
        f":::{{grid-item-card}} {page.title}\n"
        f":link: {page.name}\n"
        ":link-type: doc\n"
        + (f":img-top: thumbnails/{page.name}.png\n" if page.picture is not None else "")
        + f"\n{page.promise}\n:::\n"
        for page in pages
    )
    contents = "\n".join(f"{page.short_title} <{page.name}>" for page in pages)
    reference = f" · {{doc}}`{api_pages.TITLE} <{api_pages.NAME}>`" if api else ""
    return (
        "# Find a circuit: exploratory interpretability, step by step\n\n"
        "Notebooks that reverse-engineer how a language model solves a small task, with a figure at "
        "every step. Hover over a figure to read it, copy a cell, or run the whole in Colab.\n\n"
        f"[Repository](https://github.com/{repository}){reference}\n\n"
        f"::::{{grid}} 1 1 2 2\n:gutter: 3\n\n{cards}\n::::\n\n"
        f"```{{toctree}}\n:hidden:\n\n{contents}\n"
        + (f"API <{api_pages.NAME}>\n" if api else "")
        + "```\n"
    )


def stage_api(demos: Sequence[Demo], source: Path) -> None:
    """Write the API reference's pages, with links to the demos."""
    uses: dict[Any, list[Use]] = {}
    for demo in demos:
        for value, sections in uses_in(demo.notebook, demo.short_title, demo.name).items():
            uses.setdefault(value, []).extend(sections)
    for page in api_pages.PAGES:
        (source / f"{page.name}.rst").write_text(api_pages.page_text(page, uses), encoding="utf-8")
    (source / f"{api_pages.NAME}.rst").write_text(api_pages.index_text(), encoding="utf-8")


def stage(
    demos: list[Demo], atlas: AtlasPage | None, repository: str, source: Path, api: bool = False
) -> None:
    """Write everything that Sphinx reads into an empty folder."""
    (source / "thumbnails").mkdir(parents=True)
    for demo in demos:
        write_notebook(source / demo.path.name, web_notebook(demo, repository))
    if atlas:
        (source / f"{atlas.name}.md").write_text(atlas.markdown(repository), encoding="utf-8")
    pages: list[Demo | AtlasPage] = [*demos, atlas] if atlas else [*demos]
    for page in pages:
        if page.picture is not None:
            (source / "thumbnails" / f"{page.name}.png").write_bytes(page.picture)
    if api:
        stage_api(demos, source)
    (source / "index.md").write_text(index(pages, repository, api), encoding="utf-8")


def build(
    demos: Path, config: Path, out: Path, repository: str, guide: str = "", *, api: bool = False
) -> None:
    """Make the site in a folder of its own, then put it in the old one's place.

    Args:
        demos: folder of notebooks, and of the head atlas.
        config: folder with Sphinx's ``conf.py`` and static files.
        out: folder to write into.
        repository: owner/name.
        guide: sets the order of the notebooks, see :func:`read_demos`.
        api: whether there is to be an API reference of the helpers too.

    Raises:
        ValueError: for a folder without notebooks, a notebook without a title, or an atlas whose files
            do not belong together.
        RuntimeError: if Sphinx reports a warning or an error.
        NotWrittenError: if the folder cannot be written to, saying why.
    """
    found, atlas = read_demos(demos, guide), read_atlas_page(demos / "atlas")
    check_writable(out.parent)
    with _work_folder(out) as work:
        stage(found, atlas, repository, work / "source", api)
        shutil.copytree(config, work / "config")
        scripts = {"plotly.min.js": get_plotlyjs(), "circuitsvis.js": circuitsvis_script()}
        for name, script in scripts.items():
            (work / "config" / "static" / name).write_text(script, encoding="utf-8")
        folders = ["-c", work / "config", "-d", work / "doctrees", work / "source", work / "html"]
        settings = {"demos_repository": repository, "demos_folder": demos.resolve()}
        defined = [f"-D{name}={value}" for name, value in settings.items()]
        if sphinx_build(["-b", "html", "-W", "--keep-going", "-q", *defined, *map(str, folders)]):
            raise RuntimeError(f"Sphinx could not make {out} without a warning; see above.")
        shutil.rmtree(out, ignore_errors=True)
        (work / "html").replace(out)


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """A folder beside the one to be made, which does not outlive the making."""
    work = out.with_name(f".{out.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    try:
        with writing_to(out.parent):
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--demos", type=Path, default=Path("demos"), help="folder of notebooks")
    parser.add_argument(
        "--config", type=Path, default=Path("helpers/notebooks/web"), help="folder with Sphinx's conf.py"
    )
    parser.add_argument("--out", type=Path, default=Path("build/site"), help="folder to write into")
    parser.add_argument("--pyproject", type=Path, default=Path("pyproject.toml"))
    parser.add_argument(
        "--readme", type=Path, default=Path("README.md"), help="its links set the order of the notebooks"
    )
    options = parser.parse_args()
    try:
        repository = link_rules(options.pyproject).repository
        guide = options.readme.read_text(encoding="utf-8")
        build(options.demos, options.config, options.out, repository, guide, api=True)
    except NotWrittenError as error:
        sys.exit(f"{error} Name another one: --out FOLDER.")
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(str(error))
    print(f"wrote {options.out / 'index.html'}")


if __name__ == "__main__":
    main()
