"""Applies each mutation to each demo and says what was found."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path

from nbformat import NotebookNode

from helpers.notebooks.checks import Settings, check_notebook
from helpers.notebooks.compare import Tolerance
from helpers.notebooks.hygiene import read_notebook
from helpers.notebooks.outputs import compare_outputs, unrun_fault
from tests.mutations.damage import DAMAGE, Damage, Edits
from tests.mutations.demo import Demo
from tests.mutations.harmless import HARMLESS, Harmless
from tests.synthetic import demo as stand_in

Examine = Callable[[Demo, Demo], Iterator[str]]


def comparison(committed: NotebookNode, run: NotebookNode) -> Iterator[str]:
    """What the nbval plugin would report, had this run been the kernel's."""
    cells = [[c for c in nb.cells if c.cell_type == "code"] for nb in (committed, run)]
    for old, new in zip(*cells, strict=False):  # a missing cell is for the pairing check
        fault = unrun_fault(old)
        if fault:
            yield fault
        for difference in compare_outputs(old.outputs, new.outputs, Tolerance()):
            yield f"{difference.where}: {difference.expected} | {difference.got} {difference.note}"


@contextmanager
def examiner(settings: Settings, folder: Path) -> Iterator[Examine]:
    """Lends a function that lists all findings on a committed demo, given a run of it.

    The files lie in a copy of the repository (links lead to the rest of it), so that the demo is
    read back from disk as a user would have it.
    """
    rules = settings.links
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "repository"
        demos = root / folder.absolute().relative_to(rules.root.absolute())
        demos.mkdir(parents=True)
        for source in (rules.root.absolute(), folder.absolute()):
            target = root if source == rules.root.absolute() else demos
            for entry in source.iterdir():
                if not (target / entry.name).exists() and entry.suffix not in (".ipynb", ".py"):
                    (target / entry.name).symlink_to(entry)
        for notebook in folder.glob("*.ipynb"):
            Demo.read(notebook).write(demos)

        copied = replace(settings, links=replace(rules, root=root))

        def examine(committed: Demo, run: Demo) -> Iterator[str]:
            path = committed.write(demos)
            yield from comparison(read_notebook(path), run.notebook)
            for problem in check_notebook(path, copied, names=()):
                yield str(problem)

        yield examine


def variants(demo: Demo, edits: Edits, limit: int) -> Iterator[Demo]:
    """Copies of the demo with one edit each, at most `limit` of them, spread over the notebook."""
    count = sum(1 for _ in edits(demo))
    for number in range(0, count, max(1, -(-count // limit))):
        changed = demo.copy()
        list(edits(changed))[number]()
        yield changed


@dataclass(frozen=True)
class Verdict:
    """`places`: how many copies were examined; `failures`: what is wrong with the machinery."""

    name: str
    places: int
    failures: list[str]
    example: str = ""

    def __str__(self) -> str:
        lines = [f"{'FAIL' if self.failures else 'ok':<5}{self.name} ({self.places}x)"]
        lines += [f"       {failure}" for failure in self.failures[:3]]
        return "\n".join([*lines, f"       {self.example}"] if self.example else lines)


def _nowhere(places: int) -> list[str]:
    return [] if places else ["applies nowhere: no demo has such a thing"]


def judge_damage(damage: Damage, demos: Iterable[Demo], examine: Examine, limit: int) -> Verdict:
    """Each damaged copy must have a finding that says `damage.by`."""
    places, failures, example = 0, [], ""
    for demo in demos:
        for number, changed in enumerate(variants(demo, damage.edits, limit)):
            places += 1
            caught = (text for text in examine(changed, demo) if re.search(damage.by, text))
            finding = next(caught, None)
            if finding is None:
                failures.append(f"NOT CAUGHT in {demo.name}, place {number}")
            example = example or (finding or "")[:150].replace("\n", " ")
    return Verdict(damage.name, places, failures + _nowhere(places), example)


def judge_harmless(harmless: Harmless, demos: Iterable[Demo], examine: Examine, limit: int) -> Verdict:
    """No changed copy may have any finding."""
    places, failures = 0, []
    for demo in demos:
        for changed in variants(demo, harmless.edits, limit):
            places += 1
            pair = (demo, changed) if harmless.in_run else (changed, demo)
            failures += [f"{demo.name}: {finding[:300]}" for finding in examine(*pair)]
    return Verdict(harmless.name, places, failures + _nowhere(places))


Mutation = tuple[bool, int]  # whether it is damage, and its number in its list


def mutations() -> list[Mutation]:
    return [(True, n) for n in range(len(DAMAGE))] + [(False, n) for n in range(len(HARMLESS))]


def judge(demos: list[Demo], examine: Examine, limit: int, model: str, mutation: Mutation) -> Verdict:
    """With a made-up demo of this model where no real one has such a thing and the damage allows it."""
    is_damage, number = mutation
    if is_damage:
        damage = DAMAGE[number]
        verdict = judge_damage(damage, demos, examine, limit)
        if damage.stand_in and not verdict.places:
            verdict = judge_damage(damage, [stand_in(model=model)], examine, limit)
            verdict = replace(verdict, name=f"{damage.name}, in a demo made up for it")
        return verdict
    return judge_harmless(HARMLESS[number], demos, examine, limit)


def read_demos(folder: Path) -> list[Demo]:
    return [Demo.read(path) for path in sorted(folder.glob("*.ipynb"))]


# What a process of the pool holds: processes share nothing, so each has demos and a copy of its own.
_in_process: dict[str, tuple[list[Demo], Examine, int, str]] = {}


def _prepare(folder: Path, settings: Settings, limit: int) -> None:
    lent = ExitStack()
    examine = lent.enter_context(examiner(settings, folder))
    Finalize(None, lent.close, exitpriority=1)  # a pool's processes run no other exit handlers
    _in_process["suite"] = (read_demos(folder), examine, limit, settings.model)


def _judge(mutation: Mutation) -> Verdict:
    return judge(*_in_process["suite"], mutation)


def run_suite(folder: Path, settings: Settings, limit: int = 5, processes: int = 1) -> bool:
    """Print a verdict for each mutation and the two closing lines. Whether all went well.

    Raises ValueError if there is no demo, or one has findings before anything was changed.
    """
    demos = read_demos(folder)
    if not demos:
        raise ValueError(f"no notebook in {folder}")
    with examiner(settings, folder) as examine, ExitStack() as pools:
        for demo in demos:
            findings = list(examine(demo, demo))
            if findings:
                raise ValueError(f"{demo.name} has findings as it is: {findings[:3]}")
        if processes > 1:
            pool = ProcessPoolExecutor(
                processes, initializer=_prepare, initargs=(folder, settings, limit)
            )
            verdicts = pools.enter_context(pool).map(_judge, mutations())
        else:
            verdicts = map(partial(judge, demos, examine, limit, settings.model), mutations())
        good = {True: 0, False: 0}
        for (is_damage, _), verdict in zip(mutations(), verdicts, strict=True):
            print(verdict, flush=True)
            good[is_damage] += not verdict.failures
    print(f"damage caught: {good[True]}/{len(DAMAGE)}")
    print(f"harmless passed: {good[False]}/{len(HARMLESS)}")
    return good[True] == len(DAMAGE) and good[False] == len(HARMLESS)
