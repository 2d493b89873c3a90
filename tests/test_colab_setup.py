"""The setup cell as Colab runs it: installs the package, leaves torch alone, and works after a restart.

Colab is simulated: a Python that already has this environment's packages, but not this one; a package
google.colab; and a copy of the repository in GitHub's place, so that no network is needed.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.notebooks.checks import link_rules
from helpers.notebooks.render import read_source

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
DEMOS = sorted((ROOT / "demos").glob("*.py"))

SESSION = """
import sys
from IPython.core.interactiveshell import InteractiveShell
import google.colab
shell = InteractiveShell.instance()
shell.run_cell(sys.argv[1]).raise_error()
shell.run_cell("import helpers.plotting").raise_error()
print("helpers from", sys.modules["helpers"].__file__)
"""


def setup_cell(source: Path) -> str:
    [cell] = [
        c.source
        for c in read_source(source).cells
        if c.cell_type == "code" and "google.colab" in c.source
    ]
    return cell


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """What is here now, committed or not, as a git repository."""
    folder = tmp_path_factory.mktemp("github") / "repository"
    shutil.copytree(ROOT / "helpers", folder / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(folder)]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def colab(tmp_path_factory, repository) -> tuple[Path, dict[str, str]]:
    """Its Python, and its environment."""
    folder = tmp_path_factory.mktemp("colab")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "preinstalled.pth").write_text("\n".join(site.getsitepackages()))
    (packages / "google" / "colab").mkdir(parents=True)
    (packages / "google" / "colab" / "__init__.py").touch()
    address = f"https://github.com/{link_rules(ROOT / 'pyproject.toml').repository}"
    settings = {
        **{k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PLOTLY_RENDERER")},
        **{"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf"},
        **{"GIT_CONFIG_VALUE_0": address, "GIT_ALLOW_PROTOCOL": "file"},
        # Nothing may be fetched: what Colab lacks is here already, and the rest must stay.
        **{"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    }
    return folder / "bin" / "python", settings


def installed(python: Path) -> set[str]:
    """Packages in that Python's own folder, without the preinstalled ones."""
    [packages] = python.parent.parent.glob("lib/python*/site-packages")
    return {path.name.split("-")[0] for path in packages.glob("*.dist-info")}


# Each text once: with equal setup cells, one demo stands for all.
@pytest.mark.parametrize("cell", sorted({setup_cell(source) for source in DEMOS}))
def test_setup_and_setup_again_after_a_restart(cell, colab, tmp_path):
    python, settings = colab
    before = installed(python) - {"ioi_exploration_demos"}
    for _ in range(2):
        session = subprocess.run(
            [python, "-c", SESSION, cell],
            env=settings,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert session.returncode == 0, session.stdout + session.stderr
        assert f"helpers from {python.parent.parent}" in session.stdout, (
            "from the repository, not from here"
        )
        assert installed(python) - before == {"ioi_exploration_demos"}, (
            "torch and all else stay as they were"
        )


@pytest.mark.parametrize("source", DEMOS, ids=lambda source: source.stem)
def test_elsewhere_it_does_nothing(source):
    exec(setup_cell(source), {})


def test_every_demo_has_the_same():
    assert len({setup_cell(source) for source in DEMOS}) == 1


# What a reader may have beside the notebook, where Python looks first.
THEIR_OWN = {
    "file": ["helpers.py"],
    "package": ["helpers/__init__.py", "helpers/models.py"],
    "folder": ["helpers/plots.py"],
}


@pytest.mark.parametrize("own", THEIR_OWN)
def test_helpers_of_the_readers_own_are_told_apart(own, tmp_path):
    """Said before anything of it is imported, and naming it."""
    for name in THEIR_OWN[own]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemError('imported')\n")
    done = subprocess.run(
        [sys.executable, "-c", setup_cell(DEMOS[0])],
        cwd=tmp_path,  # where Python looks first, as in a notebook
        capture_output=True,
        text=True,
        timeout=60,
    )
    place = tmp_path / THEIR_OWN[own][0]
    said = done.stderr.strip().splitlines()[-1]
    if own == "folder" and not done.returncode:
        return  # an installed package comes before a folder that is none, but for an editable one
    assert said.startswith("ImportError: This notebook imports `helpers` of https://github.com/")
    assert str(place.parent if own == "folder" else place) in said
    assert "Rename a `helpers` of your own" in said
    assert "SystemError" not in done.stderr


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"Python finds None instead.* pip install git\+https://github"
    ):
        exec(setup_cell(DEMOS[0]), {})
