"""Long work as a list of tasks, done in this process or by workers elsewhere.

A sweep says once how a model is made ready for its tasks (a :class:`Recipe`) and which tasks there are
(:class:`Work`); :func:`finished` has them done. Where that happens changes nothing about them: tasks
are cut by the work alone, so the result is the same however many workers there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from transformer_lens.model_bridge import TransformerBridge

from helpers.progress import progress_bar

# Does one task, and calls the second argument as its steps are done, with how many.
Run = Callable[[Any, Callable[..., object]], Any]


class Recipe(Protocol):
    """How a model is made ready for the tasks; it can be pickled, and holds all that tasks share."""

    def prepare(self, model: TransformerBridge) -> Run:
        """Runs what tasks share (such as the unpatched run), and returns what does one of them."""


@dataclass(frozen=True)
class Work:
    """Tasks of one kind.

    Attributes:
        title: in front of the progress bar.
        recipe: what the tasks share.
        tasks: what each of them needs besides.
        names: of each task, for errors.
        sizes: of each task, in steps of the progress bar.
        kept: whether results may be kept (:class:`helpers.cluster.Workers`), which are then tensors.
    """

    title: str
    recipe: Recipe
    tasks: Sequence[Any]
    names: Sequence[str]
    sizes: Sequence[int]
    kept: bool = True


class Pool(Protocol):
    """Where work can be done: :class:`helpers.cluster.Workers`."""

    def finished(self, model: TransformerBridge, work: Work) -> Iterator[tuple[int, Any]]:
        """The number of each task and its result, as they come."""


def finished(
    model: TransformerBridge,
    work: Work,
    *,
    on: Pool | None = None,
    progress: bool | None = None,
    prepare: Callable[[], Run] | None = None,
) -> Iterator[tuple[int, Any]]:
    """The number of each task and its result, in whatever order they get done.

    Args:
        model: of this process.
        work: to be done.
        on: workers that do it; ``None`` for this process.
        progress: show a bar. ``None``: in a terminal or a notebook.
        prepare: a shorter way than the recipe's to what does a task in this process.
    """
    with progress_bar(work.title, sum(work.sizes), progress) as bar:
        if on is not None:
            for index, result in on.finished(model, work):
                bar.update(work.sizes[index])
                yield index, result
            return
        run = prepare() if prepare else work.recipe.prepare(model)
        for index, task in enumerate(work.tasks):
            yield index, run(task, bar.update)


def note(error: BaseException, text: str) -> None:
    """Adds a line to what Python (from 3.11) shows of an error."""
    error.__notes__ = [*getattr(error, "__notes__", []), text]  # type: ignore[attr-defined]


@contextmanager
def noting(text: Callable[[], str]) -> Iterator[None]:
    """Adds to an error from within what was being done; the error stays what it is."""
    try:
        yield
    except Exception as error:
        note(error, text())
        raise
