"""The data of the atlas page; the page itself is looked at in tests/browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from helpers.atlas.examples import build_examples
from helpers.atlas.published import STEM, published_atlas
from helpers.atlas.questions import KINDS, is_known, most_similar, rank_of
from helpers.atlas.table import Atlas, make_table
from helpers.notebooks import site
from helpers.notebooks.atlas_page import AtlasPage, Entry, contact_sheet, page_data, read_atlas_page
from tests.tiny_models import tiny_llama

ROOT = Path(__file__).parent.parent
COMMITTED = ROOT / "demos" / "atlas"

pytestmark = pytest.mark.usefixtures("one_thread")


def made_up(model: str = "tiny", revision: str | None = None, **scores: torch.Tensor) -> Atlas:
    """A measured atlas of three layers with four heads."""
    scores = scores or {"induction": torch.arange(12.0).reshape(3, 4) / 12}
    errors = {f"{name}_se": torch.full((3, 4), 0.01) for name in scores}
    about = {name: {"meaning": "m", "null_value": 0.1, "samples": 2} for name in scores}
    info = {"model": model, "revision": revision, "n_layers": 3, "n_heads": 4, "settings": {}}
    return Atlas(
        make_table(model, {**scores, **errors}, 3, 4), {**info, "scores": about, "unavailable": {}}
    )


@pytest.fixture(scope="module")
def committed() -> AtlasPage:
    page = read_atlas_page(COMMITTED)
    assert page is not None
    return page


def demo(folder: Path) -> None:
    cell = nbformat.v4.new_markdown_cell("# A title\n\nA promise.")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "One_Demo.ipynb")


def test_the_committed_atlases_are_on_the_page_the_measured_one_first(committed):
    assert [entry.stem for entry in committed.entries] == ["smollm2-135m", STEM]
    assert [entry.measured for entry in committed.entries] == [True, False]
    assert [entry.examples is None for entry in committed.entries] == [False, True]
    assert "smollm2-135m and gpt2 (published)" in committed.promise


def test_values_ranks_kinds_and_neighbours_are_those_of_the_questions(committed):
    atlas, published = (entry.atlas for entry in committed.entries)
    model = page_data(committed.entries)["models"][0]
    assert list(model["scores"]) == atlas.scores
    for index, (layer, head) in enumerate([(0, 0), (0, 1)]):
        for score, entry in model["scores"].items():
            assert entry["values"][index] == pytest.approx(atlas.score(score)[layer, head].item())
            assert entry["errors"][index] == pytest.approx(atlas.error(score)[layer, head].item())
            assert entry["ranks"][index] == rank_of(atlas, score, layer, head)
        assert model["kinds"][index] == list(is_known(atlas, layer, head))
        for other in (atlas, published):
            stem = "smollm2-135m" if other is atlas else STEM
            nearest = most_similar(atlas, other, layer, head, count=3)
            assert model["similar"][stem][index] == [[h.name, round(h.value, 3)] for h in nearest]


def test_patterns_come_back_from_their_text(committed):
    entry = committed.entries[0]
    prompts = page_data(committed.entries)["models"][0]["prompts"]
    assert [prompt["title"] for prompt in prompts] == ["The task", "Repetition", "Text"]
    for prompt, (name, entries) in zip(prompts, entry.examples.entries.items(), strict=True):
        numbers = np.frombuffer(base64.b64decode(prompt["patterns"]), dtype="<u2")
        np.testing.assert_array_equal(numbers.reshape(entries.shape), entries)
        assert prompt["tokens"] == entry.examples.tokens(name)


def test_published_scores_have_roles_and_neither_errors_nor_pictures(committed):
    model = page_data(committed.entries)["models"][1]
    assert all(entry["errors"] is None for entry in model["scores"].values())
    assert model["prompts"] == []
    assert model["roles"][model["heads"].index("L9H9")] == "name mover"
    assert not model["measured"]


def test_an_atlas_without_common_scores_has_no_neighbours_there():
    one = Entry("one", made_up("one"), None)
    other = Entry("other", made_up("other", entropy=torch.rand(3, 4)), None)
    similar = page_data([one, other])["models"][0]["similar"]
    assert similar["other"] == [[]] * 12
    assert all(len(heads) == 3 for heads in similar["one"])


def test_a_score_that_is_missing_is_named_and_left_out():
    atlas = made_up(induction=torch.rand(3, 4), entropy=torch.full((3, 4), torch.nan))
    atlas.info["unavailable"]["entropy"] = "no reason"
    model = page_data([Entry("one", atlas, None)])["models"][0]
    assert list(model["scores"]) == ["induction"]
    assert model["unavailable"] == {"entropy": "no reason"}


def test_the_page_holds_its_data_and_no_tag_from_them():
    hostile = "</script><script>alert(1)</script>"
    page = AtlasPage([Entry("one", made_up(hostile), None)])
    text = page.markdown("o/n")
    [data] = re.findall(r'id="atlas-data">(.*)</script>\n', text)
    assert "<" not in data
    assert json.loads(data)["models"][0]["model"] == hostile
    assert json.loads(data)["kinds"].keys() == KINDS.keys()
    assert "<script" not in page.promise.replace("\\<", "")


def test_patterns_of_other_weights_are_refused(tmp_path):
    examples = build_examples(tiny_llama())
    told = {key: examples.info[key] for key in ("revision", "weights", "tokenizer")}
    atlas = made_up()
    replace(atlas, info=atlas.info | told).write(tmp_path)
    examples.write(tmp_path)
    assert read_atlas_page(tmp_path).entries[0].examples is not None
    replace(atlas, info=atlas.info | told | {"weights": "sha256 other"}).write(tmp_path)
    with pytest.raises(ValueError, match=r"sha256 other.*in memory.*--examples-only"):
        read_atlas_page(tmp_path)


def test_the_contact_sheet_shows_the_strongest_heads_first():
    examples = build_examples(tiny_llama())
    examples.entries["repeated"][:] = 0
    examples.entries["repeated"][11] = 1000  # of the head with the highest score
    entry = Entry("tiny", made_up(), examples)
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(entry, rows=1, columns=2, cell=1))))
    assert sheet.shape == (3 + 28, 3 + 2 * 28, 3)
    triangle = sheet[3:28, 3:28]
    assert triangle[np.tril_indices(25)].tolist() == [[0, 70, 140]] * (25 * 26 // 2)
    assert (sheet[3:28, 31:56] == 255).all()
    assert contact_sheet(replace(entry, examples=None)) is None


def test_the_site_has_an_atlas_page_if_there_are_tables_and_none_if_not(tmp_path):
    demo(tmp_path)
    config, out = ROOT / "helpers/notebooks/web", tmp_path / "site"
    site.build(tmp_path, config, out, "o/n")
    assert not (out / "atlas.html").exists()
    assert "atlas.html" not in (out / "index.html").read_text()
    published_atlas().write(tmp_path / "atlas", STEM)
    shutil.copy(COMMITTED / "README.md", tmp_path / "atlas")
    site.build(tmp_path, config, out, "o/n")
    page = (out / "atlas.html").read_text()
    assert "atlas.js" in page
    assert "atlas.css" in page
    assert "plotly" not in page
    assert 'href="atlas.html"' in (out / "index.html").read_text()
    assert "atlas.js" not in (out / "One_Demo.html").read_text()
