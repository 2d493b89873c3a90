"""After a fork: ``make badges`` makes every badge, link and install line follow.

The new name is that of the remote ``origin``, or REPOSITORY=owner/name.
The repository's name stands in pyproject.toml, under [tool.demos]; what repeats it is rewritten with
it: scripts, notebooks (sources and stamp, no outputs, nothing is executed) and Markdown pages.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import nbformat

from helpers.files import NotWrittenError, write_file
from helpers.notebooks.checks import link_rules
from helpers.notebooks.hygiene import read_notebook
from helpers.notebooks.provenance import text_sha256
from helpers.notebooks.render import cell_id

# GitHub's rules: an owner has letters, digits and single hyphens inside, at most 39 of them.
_REPOSITORY = re.compile(
    r"(?=[^/]{1,39}/)[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*/(?!\.{1,2}$)[\w.-]{1,100}", re.ASCII
)

_ADDRESS = re.compile(
    r"""(?: (?:https?|git|ssh|git\+ssh)://(?:[^/@]+@)?(?:www\.|ssh\.)?github\.com(?::\d+)?/
        | (?:[^/@:]+@)?(?:ssh\.)?github\.com: )
    /*(?P<repository>[^/]+/[^/]+?)(?:\.git)?/*""",
    re.VERBOSE | re.IGNORECASE,
)


def validated(repository: str) -> str:
    """The name, if it can be a repository on GitHub. Raises ValueError if not."""
    if not _REPOSITORY.fullmatch(repository) or repository.endswith(".git"):
        raise ValueError(
            f"{repository!r} is no repository; expected owner/name as in a GitHub address, "
            "such as REPOSITORY=jane-doe/ioi-demos."
        )
    return repository


def repository_of_origin(root: Path) -> str:
    """The repository on GitHub that a clone's remote ``origin`` names.

    Raises:
        ValueError: saying what to do, if there is no such remote, or it is not on GitHub.
    """
    if _git(root, "rev-parse", "--show-prefix"):
        raise _unknown(f"{root.resolve()} is not a clone, but a folder inside of one")
    return _on_github(_git(root, "remote", "get-url", "origin"))


def _git(root: Path, *command: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *command], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unknown(f"git could not be asked ({error})") from error
    if done.returncode:
        raise _unknown(f"git says: {' '.join(done.stderr.split())}")
    return done.stdout.strip()


def _on_github(address: str) -> str:
    """The owner/name in a remote's address: https, ssh, git, or ``user@host:owner/name``."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        shown = re.sub(r"(?<=://)[^/@]*@", "", address)  # perhaps with a password
        raise _unknown(f"the remote origin is {shown!r}, which is no repository on github.com")
    return validated(found["repository"])


def _unknown(why: str) -> ValueError:
    return ValueError(
        f"The repository's name is not known: {why}. Say make badges REPOSITORY=owner/name, or set "
        "the remote first: git remote add origin https://github.com/owner/name"
    )


def renamed(text: str, old: str, new: str) -> str:
    """The text with a repository's name replaced where it is a whole name, in an address or quotes."""
    return re.sub(rf"""(?<=[/"']){re.escape(old)}(?![\w-]|\.(?!git\b)\w)""", lambda _: new, text)


def renamed_notebook(path: Path, old: str, new: str) -> str:
    """A notebook's new text. Its stamp follows its script, unless it was out of date before."""
    notebook = read_notebook(path)
    for index, cell in enumerate(notebook.cells):
        source = renamed(cell.source, old, new)
        if source != cell.source:
            cell.source = source
            cell.id = cell_id(index, cell)
    stamp = notebook.metadata.get("provenance", {})
    for script in (folder / f"{path.stem}.py" for folder in path.parents[:2]):
        text = script.read_text(encoding="utf-8") if script.is_file() else None
        if text is not None and stamp.get("source_sha256") == text_sha256(text):
            stamp["source_sha256"] = text_sha256(renamed(text, old, new))
            break
    return nbformat.writes(notebook) + "\n"


def rename_repository(root: Path, new: str) -> list[Path]:
    """Write a repository's new name wherever the old one stood; the files that changed.

    All new texts are made before the first is written. The setting is written last: after an
    interruption the same command finishes the work.

    Raises:
        ValueError: if `new` is no owner/name.
    """
    validated(new)
    setting = root / "pyproject.toml"
    old = link_rules(setting).repository
    scripts = sorted((root / "demos").glob("*.py"))
    notebooks = sorted((root / "demos").glob("**/*.ipynb"))
    pages = sorted(root.glob("*.md"))
    texts = {path: renamed_notebook(path, old, new) for path in notebooks}
    texts |= {path: renamed(_text(path), old, new) for path in [*scripts, *pages, setting]}
    changed = [path for path, text in texts.items() if text != _text(path)]
    for path in changed:
        write_file(path, texts[path])
    return changed


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("repository", nargs="?", help="owner/name; origin's, if not given")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's folder")
    options = parser.parse_args()
    try:
        repository = options.repository or repository_of_origin(options.root)
        changed = rename_repository(options.root, repository)
    except (ValueError, NotWrittenError) as error:
        sys.exit(str(error))
    for path in changed:
        print(f"wrote {path}")
    print(f"{len(changed)} files changed; badges name {repository}")


if __name__ == "__main__":
    main()
