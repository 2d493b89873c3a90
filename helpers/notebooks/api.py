"""The API reference among the web pages: what is public, page by page, as Sphinx reads it.

Texts, signatures and examples come from the docstrings (Sphinx's autodoc and napoleon). What is added
to each helper is where the demos use it (uses.py); where links to source code and to what has no entry
lead is in api_links.py.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from helpers.notebooks.uses import Use

NAME = "api"
TITLE = "API reference"


@dataclass(frozen=True)
class Page:
    """Some modules with one theme.

    Attributes:
        name: of the page's file, without its ending.
        title: of the page.
        modules: whose public helpers it describes, in this order.
    """

    name: str
    title: str
    modules: tuple[str, ...]


PAGES = (
    Page(
        "api-models",
        "Models, tasks and prompts",
        (
            *("helpers.models", "helpers.task", "helpers.task_check", "helpers.padding"),
            *("helpers.ioi.prompts", "helpers.ioi.dataset", "helpers.tasks.greater_than"),
            *("helpers.tasks.docstrings", "helpers.tasks.capitals"),
        ),
    ),
    Page(
        "api-attribution",
        "Metrics and attribution",
        (
            *("helpers.logit_diff", "helpers.answers", "helpers.head_scores", "helpers.readout"),
            *("helpers.accounts", "helpers.last_token"),
        ),
    ),
    Page(
        "api-patching",
        "Patching and circuits",
        (
            *("helpers.patching", "helpers.path_patching", "helpers.circuit", "helpers.attribution"),
            *("helpers.edges.graph", "helpers.edges.writes", "helpers.edges.exact"),
            *("helpers.edges.estimated", "helpers.edges.circuit", "helpers.edges.definitions"),
            *("helpers.edges.drawing", "helpers.cluster"),
        ),
    ),
    Page(
        "api-figures",
        "Figures, tables, sentences",
        ("helpers.plotting", "helpers.display", "helpers.tables", "helpers.wording"),
    ),
    Page(
        "api-published",
        "Intervals and published values",
        ("helpers.intervals", "helpers.ioi.record", "helpers.ioi.published_run"),
    ),
    Page(
        "api-atlas",
        "Head atlas",
        (
            *("helpers.atlas.build", "helpers.atlas.table", "helpers.atlas.questions"),
            *("helpers.atlas.views", "helpers.atlas.published", "helpers.atlas.attention"),
            *("helpers.atlas.inputs", "helpers.atlas.scores"),
        ),
    ),
)


def public_names(module: ModuleType) -> list[str]:
    """Functions and classes that others import from a module: its ``__all__``, or all it defines."""
    names = getattr(module, "__all__", None)
    if names is None:
        own = [name for name, value in vars(module).items() if _defined_in(module, value)]
        names = [name for name in own if not name.startswith("_")]
    return [name for name in names if _is_code(getattr(module, name))]


def public_members(cls: type) -> list[str]:
    """Methods and properties that a class defines and describes."""
    return [
        name
        for name, value in vars(cls).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or hasattr(value, "__get__"))
        and inspect.getdoc(value)
        and name not in getattr(cls, "_fields", ())
    ]


def _is_code(value: Any) -> bool:
    """Whether it is a function, with a cache or without, or a class."""
    return inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value))


def _defined_in(module: ModuleType, value: Any) -> bool:
    return _is_code(value) and value.__module__ == module.__name__


def page_text(page: Page, uses: Mapping[Any, Sequence[Use]]) -> str:
    """The page in reStructuredText.

    Args:
        page: one of :data:`PAGES`.
        uses: where the demos use each object.
    """
    parts = [_heading(page.title, "=")]
    for name in page.modules:
        module = import_module(name)
        parts += [_heading(name, "-"), f".. automodule:: {name}\n"]
        for public in public_names(module):
            value = getattr(module, public)
            parts.append(_entry(f"{name}.{public}", value, uses.get(value, ())))
    return "\n".join(parts)


def index_text() -> str:
    """The page that lists all helpers with their first sentences, in reStructuredText."""
    parts = [
        _heading(TITLE, "="),
        "The helpers that the demos import, and that research of your own may. Shapes are "
        'jaxtyping\'s: ``Float[Tensor, "layer head"]`` is a tensor of numbers with an axis for layers '
        "and one for heads.\n",
        "In the examples, ``torch`` is imported, ``model`` is from ``load_model()``, ``prompts`` are "
        "``reference_prompts(model)``, and ``logits`` and ``cache`` are what "
        "``model.run_with_cache(prompts.tokens)`` returns.\n",
        ".. toctree::\n   :hidden:\n",
        *(f"   {page.title} <{page.name}>" for page in PAGES),
        "",
    ]
    for page in PAGES:
        parts.append(_heading(f":doc:`{page.title} <{page.name}>`", "-"))
        for name in page.modules:
            names = (f"   {public}" for public in public_names(import_module(name)))
            parts += [f"``{name}``\n", f".. currentmodule:: {name}\n"]
            parts += [".. autosummary::\n   :nosignatures:\n", *names, ""]
    return "\n".join(parts)


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def _entry(name: str, value: Any, uses: Sequence[Use]) -> str:
    if inspect.isclass(value):
        members = ", ".join(public_members(value))
        directive = f".. autoclass:: {name}\n" + f"   :members: {members}\n" * bool(members)
    else:
        directive = f".. autofunction:: {name}\n"
    return directive + (f"\n   {_used_in(uses)}\n" if uses else "")


def _used_in(uses: Sequence[Use]) -> str:
    """In one line: each demo once, with the sections that use the helper."""
    demos: dict[str, list[Use]] = {}
    for use in uses:
        demos.setdefault(use.demo, []).append(use)
    texts = (f"{demo} ({', '.join(map(_link, found))})" for demo, found in demos.items())
    return f"**Used in** {'; '.join(texts)}."


def _link(use: Use) -> str:
    address = f"{use.page}.ipynb" + (f"#{use.anchor}" if use.anchor else "")
    if address.endswith("_"):  # which would make it the name of a link
        address = rf"{address[:-1]}\_"
    return f"`{_plain(use.heading)} <{address}>`__"


def _plain(text: str) -> str:
    """What means something in reStructuredText, escaped."""
    return re.sub(r"([\\`*_<>|])", r"\\\1", text)
