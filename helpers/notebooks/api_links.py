"""Where the API reference's links lead: a Sphinx extension.

Every helper links to its source on GitHub. A reference in a docstring to a helper without an entry of
its own leads there too, and one to nothing stops the build.
"""

from __future__ import annotations

import inspect
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

import helpers

_ROOT = Path(helpers.__file__).parents[1]


def source_address(value: Any, repository: str) -> str | None:
    """The lines on GitHub that define a helper, or its whole module; None for what is none of ours.

    Args:
        value: a module, class, function, method or property; for another value there is no telling.
        repository: owner/name.
    """
    if isinstance(value, (property, cached_property)):
        value = value.fget if isinstance(value, property) else value.func
    value = inspect.unwrap(value)
    if not _says_where(value):
        return None
    try:
        file = Path(inspect.getsourcefile(value) or "")
    except TypeError:  # compiled
        return None
    if not file.is_relative_to(_ROOT / "helpers"):
        return None
    address = f"https://github.com/{repository}/blob/main/{file.relative_to(_ROOT).as_posix()}"
    if inspect.ismodule(value):
        return address
    lines, first = inspect.getsourcelines(value)
    return f"{address}#L{first}-L{first + len(lines) - 1}"


def meaning(name: str, module: str | None) -> Any:
    """What a name in a docstring means: in its module, by itself, or, if it is ours, in any of them.

    A number or a text, which cannot say where it is from, stands for the module that holds it.

    Raises:
        NameError: if it means nothing.
    """
    ours = (loaded for loaded in sys.modules if loaded.partition(".")[0] == "helpers")
    for full in (f"{module}.{name}", name, *(f"{loaded}.{name}" for loaded in ours)):
        value = _located(full)
        if value is not None:
            return value
    raise NameError(f"{name!r} means nothing in {module}.")


def _located(full: str) -> Any:
    """What a name with dots means, the longest module first; None for nothing."""
    parts = full.split(".")
    for count in range(len(parts), 0, -1):
        value: Any = sys.modules.get(".".join(parts[:count]))
        if value is None:
            continue
        for part in parts[count:]:
            owner, value = value, getattr(value, part, None)
            if inspect.ismodule(owner) and not _says_where(value):
                value = owner if value is not None else None
        if value is not None:
            return value
    return None


def _says_where(value: Any) -> bool:
    value = inspect.unwrap(value)
    return inspect.ismodule(value) or inspect.isroutine(value) or inspect.isclass(value)


def _unlisted(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """Of a name without an entry: a link to the source of a helper, plain text for what is not ours."""
    if node.get("refdomain") != "py":
        return None
    try:
        value = meaning(node["reftarget"], node.get("py:module"))
    except NameError:
        return None  # Sphinx says so
    address = source_address(value, app.config.demos_repository)
    return nodes.reference("", "", text, refuri=address, internal=False) if address else text


def _with_source(app: Sphinx, config: Config) -> None:
    def resolve(domain: str, info: dict[str, str]) -> str | None:
        if domain != "py":
            return None
        value = _located(f"{info['module']}.{info['fullname']}")
        return source_address(value, config.demos_repository)

    config.linkcode_resolve = resolve


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.linkcode")
    app.connect("config-inited", _with_source)
    app.connect("missing-reference", _unlisted)
    return {"parallel_read_safe": True}
