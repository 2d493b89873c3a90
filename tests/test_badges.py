"""A fork's name: written wherever the old one stood, all or nothing, and nothing else touched."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

from helpers.notebooks import badges
from helpers.notebooks.badges import rename_repository, renamed, validated
from helpers.notebooks.checks import check_paths, link_rules, read_settings

ROOT = Path(__file__).parent.parent
FORK = "jane-doe/ioi.fork"


@pytest.fixture
def clone(tmp_path) -> Path:
    """What badges are rewritten in, and what the checks look for beside it."""
    for folder in ("demos", "helpers", ".github"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def contents(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def problems(root: Path) -> list[str]:
    settings = read_settings(root / "pyproject.toml")
    return [str(problem) for problem in check_paths([root / "demos", root / "README.md"], settings, [])]


@pytest.mark.slow
def test_everything_follows_and_the_checks_agree(clone):
    old = link_rules(clone / "pyproject.toml").repository
    before = problems(clone)
    changed = rename_repository(clone, FORK)
    assert link_rules(clone / "pyproject.toml").repository == FORK
    assert problems(clone) == before
    names = {path.name for path in changed}
    demos = {path.name for path in (ROOT / "demos").iterdir() if path.suffix in (".py", ".ipynb")}
    assert names == {"pyproject.toml", "README.md"} | demos
    for path in changed:
        text = path.read_text()
        assert old not in text
        assert FORK in text


@pytest.mark.slow
def test_only_the_setting_would_fail_the_checks(clone):
    setting = clone / "pyproject.toml"
    old = link_rules(setting).repository
    setting.write_text(setting.read_text().replace(old, FORK))
    before = len(problems(ROOT))
    assert len(problems(clone)) > before, "else the test above could not fail"


def test_outputs_stay(clone):
    path = next((clone / "demos").glob("*.ipynb"))
    before = nbformat.read(path, 4)
    rename_repository(clone, FORK)
    after = nbformat.read(path, 4)
    assert [c.get("outputs") for c in after.cells] == [c.get("outputs") for c in before.cells]
    stale = {k: v for k, v in before.metadata.provenance.items() if k != "source_sha256"}
    assert stale == {k: v for k, v in after.metadata.provenance.items() if k != "source_sha256"}


def test_there_and_back_is_the_same_to_the_byte(clone):
    old = link_rules(clone / "pyproject.toml").repository
    before = contents(clone)
    assert rename_repository(clone, old) == []
    rename_repository(clone, FORK)
    rename_repository(clone, old)
    assert contents(clone) == before


@pytest.mark.slow
def test_a_stale_stamp_stays_stale(clone):
    script = next((clone / "demos").glob("*.py"))
    script.write_text(script.read_text() + "\n# edited\n")
    before = problems(clone)
    assert any("another version" in problem for problem in before)
    rename_repository(clone, FORK)
    assert problems(clone) == before


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_an_interruption_is_repaired_by_the_same_command(clone, tmp_path_factory, monkeypatch, written):
    whole = tmp_path_factory.mktemp("whole")
    shutil.copytree(clone, whole, dirs_exist_ok=True)
    rename_repository(whole, FORK)
    calls = iter(range(100))

    def interrupted(path: Path, text: str) -> None:
        if next(calls) == written:
            raise KeyboardInterrupt
        path.write_text(text)

    with monkeypatch.context() as patch:
        patch.setattr(badges, "write_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rename_repository(clone, FORK)
    rename_repository(clone, FORK)
    assert contents(clone) == contents(whole)


@pytest.mark.parametrize(
    "name",
    ["", "name", "a/b/c", "/b", "a/", "-a/b", "a-/b", "a--b/c", "a b/c", "a/b c", "a/..", "a/b.git",
     "https://github.com/a/b", "a" * 40 + "/b", "a/b\n", 'a/b"'],
)  # fmt: skip
def test_what_is_no_repository_changes_nothing(clone, name):
    before = contents(clone)
    with pytest.raises(ValueError, match="owner/name"):
        rename_repository(clone, name)
    assert contents(clone) == before


@pytest.mark.parametrize("name", ["a/b", "Jane-Doe/ioi_demos", "a/b.c", "a1/-b", "a/..."])
def test_repositories(name):
    assert validated(name) == name


def git(folder: Path, *command: str) -> None:
    subprocess.run(["git", "-C", str(folder), *command], check=True, timeout=60)


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/jane-doe/ioi.fork",
        "https://github.com/jane-doe/ioi.fork.git",
        "https://github.com/jane-doe/ioi.fork/",
        "https://jane:s3cret@github.com/jane-doe/ioi.fork.git",
        "https://GitHub.com/jane-doe/ioi.fork",
        "http://www.github.com/jane-doe/ioi.fork",
        "git://github.com/jane-doe/ioi.fork.git",
        "ssh://git@github.com/jane-doe/ioi.fork.git",
        "ssh://git@github.com:22/jane-doe/ioi.fork",
        "ssh://git@ssh.github.com:443/jane-doe/ioi.fork.git",
        "git@github.com:jane-doe/ioi.fork.git",
        "git@github.com:jane-doe/ioi.fork",
        "git@github.com:/jane-doe/ioi.fork.git",
        "github.com:jane-doe/ioi.fork.git",
    ],
)
def test_without_a_name_it_is_origins(clone, monkeypatch, capsys, address):
    git(clone, "init", "-q")
    git(clone, "remote", "add", "origin", address)
    monkeypatch.setattr("sys.argv", ["badges", "", "--root", str(clone)])  # as make gives none
    badges.main()
    assert link_rules(clone / "pyproject.toml").repository == FORK
    said = capsys.readouterr().out
    assert f"badges name {FORK}" in said
    assert "s3cret" not in said


@pytest.mark.parametrize(
    "address",
    [
        "https://gitlab.com/jane-doe/ioi.fork.git",
        "https://jane:s3cret@git.example.org/jane-doe/ioi.fork.git",
        "https://github.com.example.org/jane-doe/ioi.fork",
        "https://notgithub.com/jane-doe/ioi.fork",
        "https://example.org/github.com/jane-doe/ioi.fork",
        "git@gitlab.com:jane-doe/ioi.fork.git",
        "git@github.com-work:jane-doe/ioi.fork.git",
        "https://github.com/jane-doe",
        "https://github.com/jane-doe/ioi.fork/tree/main",
        "../ioi.fork",
        "/srv/git/jane-doe/ioi.fork.git",
        "file:///srv/git/ioi.fork.git",
    ],
)
def test_an_origin_that_is_not_on_github_changes_nothing(clone, monkeypatch, address):
    git(clone, "init", "-q")
    git(clone, "remote", "add", "origin", address)
    before = contents(clone)
    monkeypatch.setattr("sys.argv", ["badges", "--root", str(clone)])
    with pytest.raises(
        SystemExit, match=r"no repository on github\.com.*REPOSITORY=owner/name"
    ) as error:
        badges.main()
    assert "s3cret" not in str(error.value)
    assert contents(clone) == before


@pytest.mark.parametrize("where", ["no origin", "no clone", "inside another clone", "no git"])
def test_where_there_is_no_origin_the_error_says_what_to_do(clone, monkeypatch, where):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(clone.parent))
    root = clone
    if where in ("no origin", "inside another clone"):
        git(clone, "init", "-q")
    if where == "inside another clone":
        git(clone, "remote", "add", "origin", f"https://github.com/{FORK}")
        root = clone / "demos"
    if where == "no git":
        monkeypatch.setenv("PATH", str(clone))
    before = contents(clone)
    with pytest.raises(ValueError, match="make badges REPOSITORY=owner/name"):
        badges.repository_of_origin(root)
    assert contents(clone) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://github.com/o/n", "https://github.com/x/y"),
        ("https://github.com/o/n.git", "https://github.com/x/y.git"),
        ("(https://colab.research.google.com/github/o/n/blob/main/d)",
         "(https://colab.research.google.com/github/x/y/blob/main/d)"),
        ('repository = "o/n"', 'repository = "x/y"'),
        ("see https://github.com/o/n.", "see https://github.com/x/y."),
        ("https://github.com/o/n-other", None),
        ("https://github.com/o/n.other", None),
        ("https://github.com/oo/n", None),
        ("o/n", None),
    ],
)  # fmt: skip
def test_only_the_whole_name_is_replaced(text, expected):
    assert renamed(text, "o/n", "x/y") == (expected or text)
