"""Rendering: what is written, that it repeats, and that a failure leaves the old notebook alone."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from helpers.figure_json import PLOTLY
from helpers.model_folder import EMBEDDED_MODEL
from helpers.notebooks import render
from helpers.notebooks.checks import Settings, check_text
from helpers.notebooks.hygiene import local_names
from helpers.notebooks.page import to_html
from helpers.notebooks.prose import LinkRules
from helpers.notebooks.provenance import model_name, source_sha256
from tests.test_nbval_plugin import kernel_of_no_use

pytestmark = pytest.mark.slow

SOURCE = """\
# %% [markdown]
# # A tiny demo

# %%
from helpers.progress import progress_bar
from helpers.plotting import attention_patterns, imshow

# %%
with progress_bar('counting', 3) as bar:
    for i in range(3):
        bar.update()
        print(i)

# %% tags=["thumbnail"]
imshow([[1.0, -1.0]], title="t", x="x", y="y")

# %%
attention_patterns([[[1.0, 0.0], [0.25, 0.75]]], tokens=["a", "b"], names=["L0H0"], title="t")
"""


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(LinkRules(tmp_path, "somebody/demos", frozenset()), EMBEDDED_MODEL, longest_cell=25)


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "Tiny_Demo.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> tuple[Path, str]:
    """One execution for all that is only looked at; without a browser, as `make demo` may be."""
    source = tmp_path_factory.mktemp("rendered") / "Tiny_Demo.py"
    source.write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
        _, notebook = render.render(source, source.parent, EMBEDDED_MODEL)
    return source, notebook.read_text()


def outputs(text: str) -> list:
    return [o for cell in nbformat.reads(text, 4).cells for o in cell.get("outputs", [])]


def test_every_code_cell_is_executed_and_numbered(rendered):
    cells = [c for c in nbformat.reads(rendered[1], 4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == [1, 2, 3, 4]


def test_outputs_hold_results_and_no_progress_bars(rendered):
    found = outputs(rendered[1])
    assert [o.text for o in found if o.output_type == "stream"] == ["0\n1\n2\n"]
    assert sum(PLOTLY in o.get("data", {}) for o in found) == 2, "each figure once"


def test_metadata_says_where_outputs_come_from_and_nothing_of_this_machine(rendered):
    source, text = rendered
    metadata = nbformat.reads(text, 4).metadata
    assert metadata.provenance.source_sha256 == source_sha256(source)
    assert metadata.provenance.model == EMBEDDED_MODEL
    assert metadata.language_info == {"name": "python"}
    assert str(source.parent) not in text


def test_a_second_run_changes_nothing(rendered, monkeypatch):
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
    source, text = rendered
    _, again = render.render(source, source.parent, EMBEDDED_MODEL)
    assert again.read_text() == text


def test_the_page_needs_nothing_from_elsewhere(rendered):
    page = to_html(nbformat.reads(rendered[1], 4), title="Tiny")
    body = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="https?:[^"]*\.(?:js|css)', body)
    assert "unpkg.com" not in body
    assert page.count("Plotly.newPlot(") - _plotly_js_mentions() == 2
    assert "CircuitsVis.render(" in page


def _plotly_js_mentions() -> int:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().count("Plotly.newPlot(")


def test_the_tagged_cell_gives_the_thumbnail(tmp_path):
    source = tmp_path / "Tiny_Demo.py"
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell(
            metadata={"tags": tags}, outputs=[nbformat.v4.new_output("display_data", data)]
        )
        for tags, data in [
            ([], {"image/png": base64.b64encode(b"other").decode()}),
            (["thumbnail"], {"image/png": base64.b64encode(b"picture").decode()}),
        ]
    ]
    assert render._thumbnail(notebook, source) == {tmp_path / "thumbnails" / "Tiny_Demo.png": b"picture"}
    notebook.cells.pop()
    assert render._thumbnail(notebook, source) == {}


def test_a_failing_cell_leaves_the_old_notebook(source, settings):
    notebook = source.with_suffix(".ipynb")
    notebook.write_text("old")
    source.write_text("# %%\nraise RuntimeError('on purpose')\n")
    with pytest.raises(CellExecutionError, match="on purpose"):
        render.render_in_place(source, EMBEDDED_MODEL, settings)
    assert notebook.read_text() == "old"
    assert sorted(p.name for p in source.parent.iterdir()) == ["Tiny_Demo.ipynb", "Tiny_Demo.py"]


def test_figures_without_pictures_leave_the_old_notebook(source, settings, monkeypatch):
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")  # what a machine without a browser shows
    notebook = source.with_suffix(".ipynb")
    notebook.write_text("old")
    with pytest.raises(render.RefusedError, match="a figure without a picture") as refused:
        render.render_in_place(source, EMBEDDED_MODEL, settings)
    assert f"{notebook} was not written" in str(refused.value)
    assert notebook.read_text() == "old"
    assert sorted(p.name for p in source.parent.iterdir()) == ["Tiny_Demo.ipynb", "Tiny_Demo.py"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# %% [markdown]\n# It drops to 2.99.\n", "prose states '2.99'"),
        ("# %%\n# NBVAL_SKIP\nprint(1)\n", "NBVAL_SKIP changes how"),
        ("# %%\n1\n# %% [markdown]\n# See [this](nowhere.md).\n", "no such file"),
        ("# %%\nimport ipywidgets\nipywidgets.Output()\n", "a widget .*blank wherever no kernel runs"),
        (f"# %%\nprint(1)  # {'long ' * 20}\n", "longer than 100 characters"),
        ("# %%\nh = display(1, display_id=True)\n# %%\nh.update(2)\n", "another cell has made"),
    ],
)
def test_what_can_be_seen_before_executing_is_refused_before(source, settings, text, problem):
    source.write_text(f"# %%\nraise RuntimeError('executed')\n\n{text}")
    with pytest.raises(render.RefusedError, match=problem):
        render.render_in_place(source, EMBEDDED_MODEL, settings)
    assert not source.with_suffix(".ipynb").exists()


def test_a_widget_that_the_source_does_not_show_ends_in_no_error(source, tmp_path):
    source.write_text(
        "# %%\nwidgets = __import__('ipywidgets')\nout = widgets.Output()\nwith out:\n    print(1)\n"
        "display(out)\n# %%\nwidgets.interact(lambda x: x, x=3)\nprint('after')\n"
    )
    _, notebook = render.render(source, tmp_path / "build", EMBEDDED_MODEL)
    made = nbformat.read(notebook, as_version=4)
    assert "after" in str(made.cells[1].outputs)
    assert "widgets" not in made.metadata


def test_a_styled_table_is_the_same_in_a_second_rendering(source, tmp_path):
    table = "import pandas as pd\npd.DataFrame({'a': [1.5]}).style.format('{:.2f}')\n"
    source.write_text(f"# %%\n{table}# %%\n{table}")
    made = [render.render(source, tmp_path / name, EMBEDDED_MODEL)[1] for name in "ab"]
    first, second = (nbformat.read(path, as_version=4) for path in made)
    html = [cell.outputs[0].data["text/html"] for cell in first.cells]
    assert html == [cell.outputs[0].data["text/html"] for cell in second.cells]
    ids = [re.search(r'id="(T_[0-9a-f]+)"', text)[1] for text in html]
    assert ids[0] != ids[1]  # on one page


def test_the_command_says_what_it_refused(source, tmp_path, monkeypatch):
    config = tmp_path / "settings.toml"
    config.write_text(
        '[tool.demos]\nrepository = "somebody/demos"\nhosts = []\nmodel = "smollm2-135m"\n'
        "longest_cell = 25\n"
    )
    source.write_text("# %% [markdown]\n# It drops to 2.99.\n")
    command = ["render", "--in-place", "--config", str(config), str(source)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit, match=r"was not written and is as it was(?s:.*)2\.99"):
        render.main()


def test_with_a_browser_the_pair_passes_every_check(source, settings, static_pictures, monkeypatch):
    monkeypatch.delenv("PLOTLY_RENDERER", raising=False)
    paths = render.render_in_place(source, EMBEDDED_MODEL, settings)
    assert [path.name for path in paths] == ["Tiny_Demo.ipynb", "Tiny_Demo.png"]
    pictures = [o for o in outputs(paths[0].read_text()) if "image/png" in o.get("data", {})]
    assert len(pictures) == 2
    assert base64.b64decode(pictures[0].data["image/png"]) == paths[1].read_bytes()


def test_a_model_in_a_folder_is_named_without_the_folders_place(tmp_path):
    (tmp_path / "my-gpt2").mkdir()
    assert model_name(str(tmp_path / "my-gpt2")) == "my-gpt2"
    assert model_name(str(tmp_path / "not-there")) == "not-there"
    assert model_name("EleutherAI/pythia-160m") == "EleutherAI/pythia-160m"


def test_sync_keeps_outputs_of_unchanged_cells_and_the_old_stamp(rendered, source):
    before = nbformat.reads(rendered[1], 4)
    source.with_suffix(".ipynb").write_text(rendered[1])
    source.write_text(SOURCE.replace("print(i)", "print(i + 1)").replace("tiny demo", "small demo"))
    [path] = render.sync(source)
    after = nbformat.read(path, 4)
    assert "small demo" in after.cells[0].source
    assert [bool(c.get("outputs")) for c in after.cells] == [False, False, False, True, True]
    assert after.metadata.provenance == before.metadata.provenance
    assert after.metadata.provenance.source_sha256 != source_sha256(source), "the checks will notice"


def test_sync_of_an_unchanged_demo_changes_nothing(rendered):
    source, text = rendered
    [path] = render.sync(source)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (EMBEDDED_MODEL, "demos/X.ipynb"),
        ("gpt2", "demos/gpt2/X.ipynb"),
        ("EleutherAI/pythia-160m", "demos/EleutherAI--pythia-160m/X.ipynb"),
        ("somebody/pythia-160m", "demos/somebody--pythia-160m/X.ipynb"),
        ("~/models/my-gpt2/", "demos/my-gpt2/X.ipynb"),
        ("/checkpoints/smollm2-135m", "demos/smollm2-135m/X.ipynb"),
    ],
)
def test_each_model_has_its_place(model, where):
    assert render.rendering_path(Path("demos/X.py"), model, EMBEDDED_MODEL) == Path(where)


def test_another_models_outputs_stay_out_of_the_pair(source, settings):
    source.write_text("# %%\nimport os\nprint(os.environ['DEMO_MODEL'])\n")
    [paired] = render.render_in_place(source, EMBEDDED_MODEL, settings)
    before = paired.read_text()
    [other] = render.render_in_place(source, "gpt2", settings)
    assert other == source.parent / "gpt2" / "Tiny_Demo.ipynb"
    assert paired.read_text() == before
    for path, model in ((paired, EMBEDDED_MODEL), (other, "gpt2")):
        notebook = nbformat.read(path, 4)
        assert [o.text for o in outputs(path.read_text())] == [f"{model}\n"]
        assert notebook.metadata.provenance.model == model
        assert ("jupytext" in notebook.metadata) == (path == paired), "else Jupyter would pair it"


def test_an_empty_folder_of_a_models_name_is_not_the_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one" / "model").mkdir(parents=True)
    assert model_name("one/model") == "one/model"
    (tmp_path / "one" / "model" / "config.json").write_text("{}")
    assert model_name("one/model") == "model"


def test_two_models_of_one_last_name_do_not_replace_each_other(source, settings):
    source.write_text("# %%\nimport os\nprint(os.environ['DEMO_MODEL'])\n")
    names = ("one/model", "other/model", "model")
    paths = [render.render_in_place(source, name, settings)[0] for name in names]
    for path, name in zip(paths, names, strict=True):
        assert outputs(path.read_text())[0].text == f"{name}\n"
        problems = check_text(path, path.read_text(), settings, local_names())
        assert problems == [], "a folder that the checks take for this model's"


def test_another_models_outputs_in_the_place_are_not_replaced(source, settings):
    """Of a folder that is called as a name of the hub is written."""
    source.write_text("# %%\nimport os\nprint(os.environ['DEMO_MODEL'])\n")
    [path] = render.render_in_place(source, "one/model", settings)
    before = path.read_text()
    with pytest.raises(render.RefusedError, match=r"holds the outputs of one/model, not of one--model"):
        render.render_in_place(source, "one--model", settings)
    assert path.read_text() == before
    assert render.render_in_place(source, "one/model", settings) == [path]


def test_demos_that_link_to_each_other_are_made_for_another_model(source, settings):
    """The first to be made links to one that is not there yet, and the other way round."""
    other = source.with_name("Other_Demo.py")
    source.write_text("# %% [markdown]\n# [on](Other_Demo.ipynb)\n")
    other.write_text("# %% [markdown]\n# [back](Tiny_Demo.ipynb), [none](No_Demo.ipynb)\n")
    assert render.render_in_place(source, "gpt2", settings)[0].is_file()
    with pytest.raises(
        render.RefusedError, match=r"link No_Demo\.ipynb: there is no such file"
    ) as error:
        render.render_in_place(other, "gpt2", settings)
    assert "Tiny_Demo" not in str(error.value)


@pytest.mark.parametrize(("model", "expected"), [(EMBEDDED_MODEL, "True"), ("gpt2", "False")])
def test_the_embedded_model_is_unpacked_before_the_kernel_starts(tmp_path, monkeypatch, model, expected):
    unpacked = tmp_path / "unpacked"
    monkeypatch.setattr(render, "embedded_model_folder", unpacked.touch)
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(f"import pathlib\npathlib.Path({str(unpacked)!r}).exists()")]
    )
    render.execute(notebook, tmp_path, model, title="test")
    assert notebook.cells[0].outputs[0].data["text/plain"] == expected


@pytest.mark.parametrize("command", [["sleep", "600"], ["false"]], ids=["silent", "broken"])
def test_a_kernel_that_does_not_start_is_given_up(source, monkeypatch, tmp_path, command):
    """In a process of its own, since what is left to clean up fails when it ends."""
    kernel_of_no_use(tmp_path, command, monkeypatch)
    monkeypatch.setenv("DEMO_MODEL", "no/model")
    code = "from helpers.notebooks import render; render.KERNEL_SECONDS = 2.0; render.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--out", str(tmp_path / "build"), str(source)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "No kernel for Tiny_Demo answered within 2 seconds" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "build").exists()


def test_a_kernel_that_dies_is_said_and_leaves_the_old_notebook(source, monkeypatch, tmp_path):
    source.write_text("# %%\nx = 1\n# %%\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    notebook = tmp_path / "Tiny_Demo.ipynb"
    notebook.write_text("old")
    monkeypatch.setattr("sys.argv", ["render", "--out", str(tmp_path), str(source)])
    monkeypatch.setenv("DEMO_MODEL", "no/model")
    with pytest.raises(SystemExit, match=r"The kernel of Tiny_Demo ended while it ran code cell 2 of 2"):
        render.main()
    assert notebook.read_text() == "old"
