"""The `make` lines of the README with models in folders and in the hub's cache, by the whole line.

In a project of two small demos, in a folder whose name has a space, with this project's Makefile,
conftest.py and helpers. The models are tiny, and told apart by their weights.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from helpers.embedded import sha256
from helpers.notebooks.render import read_source, write_notebook
from tests.gpt2_shape import move_into_cache
from tests.tiny_models import tiny_gpt2_hf, tiny_tokenizer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
DEMO = """\
# %% [markdown]
# # A demo
#
# [The other](Other_Demo.ipynb)

# %%
import os
from helpers.embedded import sha256
from helpers.model_folder import find_model

name, folder = find_model(os.environ["DEMO_MODEL"], 1.0)
assert sha256(folder / "model.safetensors") == os.environ["EXPECTED"], "another model"
print(name)
"""
FOLDERS = ["models/tiny", 'my models/it\'s "one"']


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("make") / "a project"
    (root / "demos").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "conftest.py"):
        shutil.copy(ROOT / name, root)
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for ready in ("ready", "ready-dev"):  # what the Makefile takes for a finished set-up
        (root / ".venv" / ready).touch()
    for name in ("One", "Other"):
        source = root / "demos" / f"{name}_Demo.py"
        source.write_text(DEMO)
        notebook = read_source(source)
        notebook.cells[-1].execution_count = 1
        notebook.metadata["provenance"] = {"model": "another"}
        write_notebook(source.with_suffix(".ipynb"), notebook)
    (root / "tests").mkdir()
    (root / "tests" / "test_it.py").write_text("def test_it(): pass\n")
    for seed, folder in enumerate(FOLDERS):
        model(root / folder, seed)
    model(root / "download", seed=len(FOLDERS))
    move_into_cache(root / "download", root / "hub" / "models--gpt2")
    return root


def model(folder: Path, seed: int) -> None:
    tiny_gpt2_hf(n_layers=1, seed=seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def make(
    project: Path, *line: str, expected: Path | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """`settings` are environment variables; `expected` is the folder whose weights are to be loaded."""
    kept = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "DEMO_MODEL")}
    kept |= {"HF_HUB_CACHE": str(project / "hub"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    digest = sha256(expected / "model.safetensors") if expected else ""
    return subprocess.run(
        ["make", *line],
        cwd=project,
        env={**kept, "EXPECTED": digest, **settings},
        capture_output=True,
        text=True,
        timeout=300,
    )


def in_hub(project: Path) -> Path:
    [snapshot] = (project / "hub" / "models--gpt2" / "snapshots").iterdir()
    return snapshot


def printed(path: Path) -> str:
    [output] = nbformat.read(path, 4).cells[-1].outputs
    return output.text


def test_every_demo_is_rendered_with_a_model_of_the_hub(project):
    """The second too, when the first has made a folder called like the model."""
    done = make(project, "render", "DEMO_MODEL=gpt2", expected=in_hub(project))
    assert done.returncode == 0, done.stderr
    for name in ("One", "Other"):
        assert printed(project / "demos" / "gpt2" / f"{name}_Demo.ipynb") == "gpt2\n"


def test_a_demo_runs_on_a_folder_that_is_named_from_here(project):
    folder = FOLDERS[0]
    done = make(project, "demo", "DEMO=One_Demo", DEMO_MODEL=folder, expected=project / folder)
    assert done.returncode == 0, done.stderr
    assert printed(project / "build" / "One_Demo.ipynb") == f"{Path(folder).name}\n"


def test_demos_are_rendered_and_tested_with_a_folder_that_is_named_from_here(project):
    folder = FOLDERS[1]
    done = make(project, "render", f"DEMO_MODEL=./{folder}/", "DEMO=One_Demo", expected=project / folder)
    assert done.returncode == 0, done.stderr
    assert printed(project / "demos" / Path(folder).name / "One_Demo.ipynb")
    done = make(project, "test", f"DEMO_MODEL={folder}", expected=project / folder)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
    assert "run only" in done.stdout


def test_a_wrong_path_is_said_before_any_test_runs(project):
    path = "./wrong place"
    done = make(project, "test-notebooks", DEMO_MODEL=path)
    assert done.returncode != 0
    assert f"ERROR: DEMO_MODEL: The folder {path!r} holds no complete model" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr


def test_the_atlas_of_a_folder_that_is_named_from_here(project):
    folder = FOLDERS[1]
    done = make(project, "atlas", DEMO_MODEL=folder)
    assert done.returncode == 0, done.stderr
    info = json.loads((project / "demos" / "atlas" / f"{Path(folder).name}.json").read_text())
    assert info["model"] == Path(folder).name
    assert info["revision"].startswith("sha256 ")


@pytest.mark.parametrize(
    ("argument", "variable", "seen"),
    [(FOLDERS[1], None, FOLDERS[1]), (None, FOLDERS[1], FOLDERS[1]), (None, None, "gpt2")],
    ids=["argument", "variable", "neither"],
)
def test_gpt2_small_for_the_published_figures_is_a_name_or_any_path(
    project, tmp_path, argument, variable, seen
):
    """What the tests see, without running them."""
    line = ["test-published", *([f"GPT2_SMALL={argument}"] if argument else [])]
    settings = {"GPT2_SMALL": variable} if variable else {}
    assert variable_seen(project, tmp_path, "GPT2_SMALL", *line, **settings) == seen


def test_compiled_code_is_kept_whatever_the_environment_says(project, tmp_path):
    """Else each process compiles all that it imports: an empty variable is none to Python."""
    name = "PYTHONDONTWRITEBYTECODE"
    assert variable_seen(project, tmp_path, name, "test-published", **{name: "1"}) == ""


def variable_seen(project: Path, folder: Path, name: str, *line: str, **settings: str) -> str:
    """What this `make` line's Python finds in a variable, by a Python that does nothing but tell."""
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nprintf "<%s>" "${name}"\n')
    python.chmod(0o755)
    for ready in ("ready", "ready-dev"):
        (folder / ready).touch()
    done = make(project, *line, f"VENV={folder}", **settings)
    [value] = re.findall("<(.*)>", done.stdout)
    return value
