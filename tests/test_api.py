"""The API reference: what is in it, where its links lead, what of the demos it names."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag

import helpers
from helpers import patching, plotting, replay, tables
from helpers.accounts import Account
from helpers.atlas import views
from helpers.ioi import record
from helpers.ioi.dataset import IOISample
from helpers.logit_diff import LogitDiff
from helpers.notebooks import api, site
from helpers.notebooks.api_links import meaning, source_address
from helpers.notebooks.uses import uses_in

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "helpers/notebooks/web"
# Not for research: plumbing, sentences of single demos, and what the modules of the reference share.
PLUMBING = ("helpers.notebooks", "helpers.findings")
SHARED = {
    *("helpers.embedded", "helpers.fetch", "helpers.figure_json", "helpers.files", "helpers.identity"),
    *("helpers.model_folder", "helpers.precision", "helpers.probe", "helpers.processing"),
    *("helpers.progress", "helpers.replay", "helpers.rows", "helpers.spans", "helpers.task_input"),
    *("helpers.sampling", "helpers.tokenizing"),
    *("helpers.atlas.__main__", "helpers.atlas.examples", "helpers.atlas.identity"),
    *("helpers.atlas.induction", "helpers.atlas.ioi_roles", "helpers.atlas.weights"),
    *("helpers.cluster.kept", "helpers.cluster.pool", "helpers.cluster.start", "helpers.cluster.worker"),
    "helpers.work",
}


# --- what is in it --------------------------------------------------------------------------------


def all_modules() -> Iterator[str]:
    for info in pkgutil.walk_packages(helpers.__path__, "helpers."):
        if not info.name.startswith((*PLUMBING, "helpers.plotting.")):
            yield info.name


def test_every_module_is_on_a_page_or_known_to_be_of_no_use_elsewhere():
    listed = [module for page in api.PAGES for module in page.modules]
    assert len(listed) == len(set(listed))
    packages = {"helpers.atlas", "helpers.edges", "helpers.ioi", "helpers.tasks"}
    assert {*listed} | SHARED | packages == set(all_modules())
    assert not {*listed} & SHARED


def imported_by_demos() -> Iterator[tuple[str, str, str]]:
    for path in sorted((ROOT / "demos").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers"):
                yield from ((path.stem, str(node.module), alias.name) for alias in node.names)


def test_what_the_demos_import_is_in_it():
    public = {f"{m}.{name}" for p in api.PAGES for m in p.modules for name in names_of(m)}
    wanted = {
        f"{module}.{name}"
        for _, module, name in imported_by_demos()
        if not module.startswith(PLUMBING) and callable(getattr(import_module(module), name, None))
    }
    assert len(wanted) > 40
    assert wanted <= public


def names_of(module: str) -> list[str]:
    return api.public_names(import_module(module))


def test_public_is_what_a_module_says_or_defines():
    assert api.public_names(patching) == ["patch_sweep", "patch_head_outputs"]
    assert "WIDTH" not in api.public_names(plotting)
    assert "line" in api.public_names(plotting)
    assert "published" in api.public_names(record), "with a cache"
    assert api.public_members(Account) == ["groups", "summary", "parts", "made_up"]
    assert "positions" in api.public_members(IOISample), "with a cache"


# --- where the demos use what ----------------------------------------------------------------------


def notebook(*cells: str) -> nbformat.NotebookNode:
    """Markdown where a cell begins with #, code elsewhere."""
    v4 = nbformat.v4
    made = (v4.new_markdown_cell(c) if c.startswith("#") else v4.new_code_cell(c) for c in cells)
    return v4.new_notebook(cells=list(made))


def used(*cells: str) -> dict[str, list[str]]:
    found = uses_in(notebook("# Title\n\nText.", *cells), "A demo", "A_Demo")
    return {
        f"{value.__module__}.{value.__name__}": [u.heading for u in us] for value, us in found.items()
    }


SWEEP = "helpers.patching.patch_sweep"


@pytest.mark.parametrize(
    "code",
    [
        "from helpers.patching import patch_sweep\npatch_sweep()",
        "from helpers.patching import patch_sweep as sweep\nx = [sweep(a) for a in b]",
        "from helpers import patching\npatching.patch_sweep()",
        "import helpers.patching\nhelpers.patching.patch_sweep()",
        "import helpers.patching as p\nf(p.patch_sweep)",
        "%matplotlib inline\n!ls\nfrom helpers.patching import patch_sweep\npatch_sweep?\npatch_sweep()",
        "def f():\n    from helpers.patching import patch_sweep\n    return patch_sweep()",
    ],
)
def test_a_use_is_found(code):
    assert used(code) == {SWEEP: ["Title"]}


@pytest.mark.parametrize(
    "code",
    [
        "from helpers.patching import patch_sweep",
        "patch_sweep()",
        "from helpers.patching import patch_sweep\npatch_sweep = 1\nprint(patch_sweep)",
        "from helpers.patching import patch_sweep\nfor patch_sweep in x:\n    print(patch_sweep)",
        "from helpers.patching import patch_sweep\ndef f(patch_sweep):\n    return patch_sweep",
        "from helpers.patching import BLOCK_SITES\nprint(BLOCK_SITES)",
        "x.patch_sweep()\n'patch_sweep' # patch_sweep()",
        "%%bash\npatch_sweep (",
        "x = (((\n$$$",
    ],
)
def test_what_is_none_is_none(code):
    assert used(code) == {}


def test_a_use_is_in_the_section_where_it_stands():
    load = "from helpers.patching import patch_sweep"
    assert used(
        load, "## One\n\n### Two", "patch_sweep()", "patch_sweep()", "# Three", "patch_sweep"
    ) == {SWEEP: ["Two", "Three"]}
    assert used(load, "> ## Quoted", "<details>\n\n```\n# no heading\n```", "patch_sweep()")


def test_a_name_is_what_was_imported_last():
    first, second = "from helpers.tables import head_table", "from helpers.atlas.views import head_table"
    found = uses_in(notebook(first, "head_table()", second, "head_table()"), "A demo", "A_Demo")
    assert list(found) == [tables.head_table, views.head_table]


def test_headings_that_come_twice_have_two_anchors():
    load, section = "from helpers.patching import patch_sweep", "## Same: `x`"
    [sections] = uses_in(
        notebook(load, section, "patch_sweep()", section, "patch_sweep()"), "A demo", "A_Demo"
    ).values()
    assert [(u.heading, u.anchor) for u in sections] == [("Same: x", "same-x"), ("Same: x", "same-x-1")]


# --- where its links lead ---------------------------------------------------------------------------


def test_source_is_the_lines_that_define_it():
    address = source_address(patching.patch_sweep, "o/n")
    file, first, last = re.fullmatch(
        r"https://github\.com/o/n/blob/main/(.*)#L(\d+)-L(\d+)", address or ""
    ).groups()
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()[int(first) - 1 : int(last)]
    assert lines[:2] == ["@torch.no_grad()", "def patch_sweep("]
    assert lines[-1].startswith("    return ")
    for value in (Account, Account.groups, IOISample.positions, record.published, replay):
        assert source_address(value, "o/n"), value
    assert source_address(replay, "o/n") == "https://github.com/o/n/blob/main/helpers/replay.py"
    for value in (nbformat.read, nbformat, int, 3, None):
        assert source_address(value, "o/n") is None


@pytest.mark.parametrize(
    ("name", "module", "value"),
    [
        ("patch_sweep", "helpers.patching", patching.patch_sweep),
        ("helpers.replay", "helpers.patching", replay),
        ("helpers.patching.BLOCK_SITES", None, patching),
        ("NotWrittenError", "helpers.atlas.table", site.NotWrittenError),
        ("LogitDiff", None, LogitDiff),
        ("transformer_lens.ActivationCache.ActivationCache", None, None),
    ],
)
def test_a_name_means_what_it_means_where_it_stands(name, module, value):
    found = meaning(name, module)
    assert found is value or (value is None and inspect.isclass(found))


@pytest.mark.parametrize("name", ["no_such", "helpers.no_such", "helpers.patching.no_such", "Account.x"])
def test_a_name_without_a_meaning_is_refused(name):
    with pytest.raises(NameError, match="means nothing"):
        meaning(name, "helpers.patching")


# --- the pages ------------------------------------------------------------------------------------

CELLS = (
    "# A title\n\nA promise.",
    "from helpers.patching import patch_sweep",
    "## What `patch_sweep` does: a *first* look_",
    "patch_sweep(model)",
    "## Other",
    "## Other",
    "patch_sweep(model)",
)


def build(folder: Path) -> Path:
    demos = folder / "demos"
    demos.mkdir()
    nbformat.write(notebook(*CELLS), demos / "One_Demo.ipynb")
    site.build(demos, CONFIG, folder / "site", "o/n", api=True)
    return folder / "site"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("api"))


def read(path: Path) -> Tag:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def entry(built) -> Tag:
    return read(built / "api-patching.html").find(id=SWEEP).parent


@pytest.mark.slow
def test_every_public_helper_has_an_entry(built):
    for page in api.PAGES:
        html = read(built / f"{page.name}.html")
        ids = {tag["id"] for tag in html.select("dt[id]")}
        assert {f"{module}.{name}" for module in page.modules for name in names_of(module)} <= ids
    overview = {link["href"] for link in read(built / "api.html").select("article table a")}
    assert {f"api-patching.html#{SWEEP}", "api-figures.html#helpers.plotting.line"} <= overview


@pytest.mark.slow
def test_shapes_are_to_be_read(entry, built):
    signature = " ".join(entry.dt.text.split())
    assert "base_tokens: Int[Tensor, 'batch position']" in signature
    assert "→ Float[Tensor, 'layer ...']" in signature
    for page in api.PAGES:
        text = read(built / f"{page.name}.html").article.text
        assert not re.search(r"<class|jaxtyping\.|torch\.Tensor|transformer_lens\.model_bridge", text)


@pytest.mark.slow
def test_it_links_to_source_and_to_sections_of_the_demos(entry, built):
    assert entry.dt.find("a", string=re.compile("source"))["href"] == source_address(
        patching.patch_sweep, "o/n"
    )
    links = entry("a", href=re.compile("One_Demo"))
    assert [link.text for link in links] == ["What patch_sweep does: a first look_", "Other"]
    demo = read(built / "One_Demo.html")
    for link, text in zip(links, ["What patch_sweep does", "Other"], strict=True):
        page, _, anchor = link["href"].partition("#")
        assert page == "One_Demo.html"
        assert demo.find(id=anchor).find_next("h2").text.startswith(text)
    assert links[1]["href"].endswith("-1"), "the second of two"


@pytest.mark.slow
def test_references_lead_to_entries_and_else_to_the_source(built):
    article = read(built / "api-patching.html").article
    found = {code.text: code.parent["href"] for code in article.select("a.reference > code")}
    assert found["patch_sweep()"] == f"#{SWEEP}"
    assert found["helpers.replay"] == "https://github.com/o/n/blob/main/helpers/replay.py"
    assert found["LogitDiff"] == "api-attribution.html#helpers.logit_diff.LogitDiff"


@pytest.mark.slow
def test_the_navigation_and_the_search_know_it(built):
    for name in ("index", "One_Demo", "api-patching"):
        assert read(built / f"{name}.html").header.find("a", href="api.html")
    index = (built / "searchindex.js").read_text(encoding="utf-8")
    content = json.loads(index[index.index("(") + 1 : index.rindex(")")])
    names = [entry[-1] for entry in content["objects"]["helpers.patching"]]
    assert "patch_sweep" in names


def test_a_reference_to_nothing_stops_the_build(tmp_path, monkeypatch, capfd):
    module = ModuleType("helpers.made_up")
    exec('def verb():\n    """Do as :func:`no_such` does."""', vars(module))
    module.verb.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(api, "PAGES", (api.Page("api-made-up", "Made up", (module.__name__,)),))
    with pytest.raises(RuntimeError, match="without a warning"):
        build(tmp_path)
    assert "no_such" in capfd.readouterr().err
