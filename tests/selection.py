"""The test modules about what a demo imports: ``python -m tests.selection demos/Name_Demo.py``.

``helpers/patching.py`` is what ``tests/test_patching.py`` is about, and ``helpers/atlas/`` what
``tests/test_atlas*.py`` are. What the imported modules import counts too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def imported(source: Path) -> Iterator[Path]:
    """The modules of ``helpers`` that a file names in its imports, packages by their ``__init__.py``."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            place = ROOT / name.replace(".", "/")
            for path in (place.with_suffix(".py"), place / "__init__.py"):
                if name.startswith("helpers.") and path.exists():
                    yield path


def reached(source: Path) -> set[Path]:
    """Every module of ``helpers`` that is imported when this file is."""
    found: set[Path] = set()
    todo = list(imported(source))
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += imported(path)
    return found


def modules_about(modules: set[Path]) -> list[Path]:
    """The test modules named after these modules, or after the package that they are in."""
    parts = {path.relative_to(ROOT / "helpers").parts for path in modules}
    packages = {first for first, *rest in parts if rest}
    patterns = [
        *(f"test_{Path(first).stem}.py" for first, *rest in parts if not rest),
        *(f"test_{package}*.py" for package in packages),
    ]
    return sorted({path for pattern in patterns for path in (ROOT / "tests").glob(pattern)})


if __name__ == "__main__":
    for path in modules_about(reached(Path(sys.argv[1]))):
        print(path.relative_to(ROOT))
