"""Workers, each with a model of its own, that do the tasks of a sweep and may die of it."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any
from uuid import uuid4

import torch
from transformer_lens.model_bridge import TransformerBridge

from helpers.cluster.kept import Kept, work_key
from helpers.cluster.start import ClusterError, ray_running
from helpers.cluster.worker import (
    Described,
    Done,
    Failure,
    ModelWorker,
    Spec,
    packed,
    told,
    versions,
)
from helpers.model_folder import from_anywhere
from helpers.wording import short_identity
from helpers.work import Work, note

ATTEMPTS = 3  # at one task, before it is taken to be what workers die of


class WorkersLostError(ClusterError):
    """Workers died, and went on dying; what was finished is kept.

    Example:
        >>> issubclass(WorkersLostError, ClusterError)
        True
    """


@dataclass
class _Member:
    """A worker: the actor, and what it said of itself once it had its model."""

    actor: Any
    described: Described | None = None


@dataclass
class Times:
    """Where the time went, in seconds.

    Attributes:
        starting: Ray itself.
        loading: until all workers had their models.
        shipping: packing what tasks need and handing it to Ray.
        working: in workers, summed over them.
        waiting: of this process, while work was being done.
        tasks: how many were done; no time, but what these are divided by.
    """

    starting: float = 0.0
    loading: float = 0.0
    shipping: float = 0.0
    working: float = 0.0
    waiting: float = 0.0
    tasks: int = 0


class Workers:
    """Processes that hold a model each, for ``on=`` of the sweeps; a context manager.

    Args:
        name: of the model, as for :func:`helpers.models.load_model`. The model that a sweep is given
            must have the same weights: that is checked.
        count: how many workers.
        gpus_each: GPUs of each; 0 for the CPU, 0.5 for two workers on one.
        cpus_each: threads of each.
        device_map: as for :func:`helpers.models.load_model`, for a model larger than one device.
        dtype: of the weights.
        keep: a folder for finished tasks, so that a sweep that was interrupted, or whose process died,
            goes on from there when it is run again. Without one, they are kept in memory until the sweep
            is done. The folder is yours to remove.
        address: of a Ray cluster, or "local" for a new one on this machine. ``None`` takes
            ``RAY_ADDRESS``; without one, "local".
        timeout: seconds to wait for a cluster to answer.
        start_timeout: seconds to wait for workers to have their models.

    Attributes:
        times: a :class:`Times`.
        lost: of each worker that died, why, as far as Ray knows.

    Raises:
        ModelUnavailableError: if the name is a path, and no model is there.
        ClusterError: when it is entered, if Ray is not installed, no cluster answers, versions differ,
            there are fewer GPUs than asked for, or no worker can start.

    Example:
        >>> from helpers.patching import patch_sweep
        >>> on = None  # this process; or Workers("gpt2", count=2) in a with statement
        >>> metric = prompts.metric()
        >>> values = patch_sweep(model, prompts.corrupted_tokens, prompts.tokens, "z", metric, on=on)
        >>> values.shape == (model.cfg.n_layers, model.cfg.n_heads)
        True
    """

    def __init__(
        self,
        name: str | os.PathLike[str],
        *,
        count: int,
        gpus_each: float = 0,
        cpus_each: int = 1,
        device_map: str | dict[str, str | int] | None = None,
        dtype: torch.dtype = torch.float32,
        keep: str | os.PathLike[str] | None = None,
        address: str | None = None,
        timeout: float = 10.0,
        start_timeout: float = 600.0,
    ) -> None:
        if count < 1 or cpus_each < 1 or gpus_each < 0:
            raise ValueError(
                "Expected at least one worker, at least one thread and no negative number of GPUs each; "
                f"got count={count}, cpus_each={cpus_each}, gpus_each={gpus_each}."
            )
        device = None if device_map else ("cuda" if gpus_each else "cpu")
        self._spec = Spec(from_anywhere(os.fspath(name)), device, device_map, dtype, cpus_each)
        self.count, self._gpus, self._cpus = count, gpus_each, cpus_each
        self._address, self._timeout, self._start_timeout = address, timeout, start_timeout
        self._kept = Kept(Path(keep) if keep is not None else None)
        self._ray: ModuleType | None = None
        self._exits = ExitStack()
        self._starting: dict[Any, _Member] = {}
        self._idle: list[_Member] = []
        self._busy: dict[Any, tuple[_Member, str, int]] = {}
        self._failed: list[Failure] = []
        self._deaths = 0  # since the last task that was finished
        self._identity: str | None = None  # of the model whose work is under way
        self.times = Times()
        self.lost: list[str] = []

    def __enter__(self) -> Workers:
        begun = time.monotonic()
        cpus, gpus = self.count * self._cpus, self.count * self._gpus
        with ExitStack() as exits:
            running = ray_running(self._address, cpus=cpus, gpus=gpus, timeout=self._timeout)
            self._ray, _ = exits.enter_context(running)
            exits.callback(self._dismiss)
            self._check_room()
            self.times.starting = time.monotonic() - begun
            for _ in range(self.count):
                self._hire()
            self._await_models()
            self._exits = exits.pop_all()
        self.times.loading = time.monotonic() - begun - self.times.starting
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.close()

    def finished(self, model: TransformerBridge, work: Work) -> Iterator[tuple[int, Any]]:
        """The number of each task and its result, as they come; what ``on=`` calls.

        Raises:
            ClusterError: if the workers' model is not this one, or they were not started.
            WorkersLostError: if workers die one after another.
            Exception: what a task raised in a worker, with what was being done as a note.
        """
        if self._ray is None:
            raise ClusterError("These workers are not running: use them inside `with Workers(…) as …:`.")
        self._identity = identity = self._checked_identity(model)
        key = work_key(identity, work) if work.kept else ""
        found = self._kept.found(key, len(work.tasks)) if work.kept else {}
        yield from sorted(found.items())
        job = _Job(work, uuid4().hex, deque(i for i in range(len(work.tasks)) if i not in found))
        begun = time.monotonic()
        job.recipe = self._ray.put(packed(work.recipe))
        self.times.shipping += time.monotonic() - begun
        while job.open():
            self._hand_out(job)
            for index, done in self._collect(job):
                if work.kept:
                    self._kept.add(key, index, done.result)
                self.times.working += done.seconds
                self.times.tasks += 1
                yield index, done.result
        self._kept.complete(key)

    def _checked_identity(self, model: TransformerBridge) -> str:
        """The model's, if it is the workers' too."""
        identity = told(model)
        theirs = {member.described.identity for member in self._members() if member.described}
        if identity is None or theirs != {identity}:
            others = " and ".join(sorted(map(short_identity, theirs - {identity})))
            raise ClusterError(
                f"The workers' {self._spec.name} has other weights ({others}) than the model given "
                f"({short_identity(identity)}), so their results would not be its own. Load both by the "
                "same name and in the same dtype, and change neither."
            )
        return identity

    def _members(self) -> list[_Member]:
        busy = [member for member, _, _ in self._busy.values()]
        return [*self._idle, *busy, *self._starting.values()]

    def _check_room(self) -> None:
        assert self._ray is not None
        there = self._ray.cluster_resources()
        for what, each in {"GPU": self._gpus, "CPU": self._cpus}.items():
            wanted, have = self.count * each, there.get(what, 0)
            if wanted > have:
                raise ClusterError(
                    f"{self.count} workers of {each:g} {what}s each were asked for, which takes "
                    f"{wanted:g}; Ray has {have:g}. Ask for fewer, or add nodes to the cluster."
                )

    def _hire(self) -> None:
        """Has Ray make a worker, wherever it finds room, and load its model."""
        assert self._ray is not None
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_restarts": 0}
        actor = self._ray.remote(ModelWorker).options(**options).remote()
        self._starting[actor.load.remote(self._spec)] = _Member(actor)

    def _await_models(self) -> None:
        """Until each worker has its model or is known not to get one, or time is up."""
        end = time.monotonic() + self._start_timeout
        while self._starting and time.monotonic() < end:
            self._collect(None)
            if self._deaths >= ATTEMPTS * self.count:
                raise WorkersLostError(f"Workers die while they load {self._spec.name}: {self.lost[-1]}")
        if not self._idle and self._failed:
            raise _restored(self._failed[0])
        if not self._idle:
            raise ClusterError(
                f"No worker had {self._spec.name} loaded within {self._start_timeout:g} seconds. Either "
                "the cluster has no room for one (see `ray status`), or loading takes longer: "
                "start_timeout= gives it more time."
            )
        if self._failed:
            print(
                f"NOTE: {len(self._failed)} of {self.count} workers could not load {self._spec.name} "
                f"({self._failed[0].text}); going on with {len(self._idle)}."
            )
        elif self._starting:
            print(f"NOTE: {len(self._idle)} of {self.count} workers are ready; others join later.")

    def _hand_out(self, job: _Job) -> None:
        while job.todo and self._idle:
            member, index = self._idle.pop(), job.todo.popleft()
            begun = time.monotonic()
            task = packed(job.work.tasks[index])
            ref = member.actor.do.remote(job.name, job.recipe, task)
            self.times.shipping += time.monotonic() - begun
            self._busy[ref] = (member, job.name, index)
            job.running.add(index)

    def _collect(self, job: _Job | None) -> list[tuple[int, Done]]:
        """What has come in since the last time: workers that are ready, and tasks that are done."""
        assert self._ray is not None
        begun = time.monotonic()
        refs = [*self._busy, *self._starting]
        if not refs:
            raise WorkersLostError(
                f"No worker is left of {self.count}: "
                + "; ".join([*self.lost, *(failure.text for failure in self._failed)])
            )
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=1.0)
        self.times.waiting += time.monotonic() - begun
        done = []
        for ref in ready:
            if ref in self._starting:
                self._welcome(ref)
                continue
            member, name, index = self._busy.pop(ref)
            outcome = self._outcome(ref)
            ours = job if job is not None and job.name == name else None
            if isinstance(outcome, Done):
                self._idle.append(member)
                self._deaths = 0
            elif isinstance(outcome, Failure) and not outcome.memory:
                self._idle.append(member)
            else:
                self._replace(member, outcome)
            if ours is not None:
                done += ours.take(index, outcome)
        return done

    def _outcome(self, ref: Any) -> Any:
        """What a worker returned, or Ray's error if it died."""
        assert self._ray is not None
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return error

    def _welcome(self, ref: Any) -> None:
        """A worker that has loaded its model, or has not."""
        member = self._starting.pop(ref)
        outcome = self._outcome(ref)
        if isinstance(outcome, Described):
            _check_versions(outcome)
            self._check_weights(outcome)
            member.described = outcome
            self._idle.append(member)
        elif isinstance(outcome, Failure) and not outcome.memory:
            self._failed.append(outcome)  # another try would end the same way
            self._fire(member)
        else:
            self._replace(member, outcome)

    def _check_weights(self, late: Described) -> None:
        """Of a worker that joins the others: on its node there may be other files under that name."""
        known = {member.described.identity for member in self._members() if member.described}
        others = ({*known, self._identity} - {None}) - {late.identity}
        if others:
            raise ClusterError(
                f"A worker on {late.node} has other weights under the name {self._spec.name} "
                f"({short_identity(late.identity)}) than the rest ({short_identity(others.pop())}): its "
                "results would be another model's. Put the same files on every node."
            )

    def _replace(self, member: _Member, why: Failure | BaseException) -> None:
        """Another worker for one that died, unless nothing but dying goes on."""
        self._fire(member)
        self._deaths += 1
        self.lost.append(_reason(why))
        if self._deaths < ATTEMPTS * self.count:
            self._hire()

    def _fire(self, member: _Member) -> None:
        assert self._ray is not None
        self._ray.kill(member.actor, no_restart=True)

    def _dismiss(self) -> None:
        for member in self._members():
            self._fire(member)
        self._idle, self._busy, self._starting, self._ray = [], {}, {}, None


@dataclass
class _Job:
    """Work under way."""

    work: Work
    name: str
    todo: deque[int]
    running: set[int] = field(default_factory=set)
    attempts: Counter[int] = field(default_factory=Counter)
    recipe: Any = None

    def open(self) -> bool:
        return bool(self.todo or self.running)

    def take(self, index: int, outcome: Any) -> list[tuple[int, Done]]:
        """A task's result, if it has one; its error is raised; if its worker died, it is done again."""
        self.running.discard(index)
        if isinstance(outcome, Done):
            return [(index, outcome)]
        if isinstance(outcome, Failure) and not outcome.memory:
            raise _restored(outcome)
        self._again(index, outcome)
        return []

    def _again(self, index: int, why: Failure | BaseException) -> None:
        """First in line, unless it is what workers die of."""
        self.attempts[index] += 1
        if self.attempts[index] < ATTEMPTS:
            self.todo.appendleft(index)
            return
        task = f"{self.work.title}, task {index} ({self.work.names[index]})"
        advice = "If memory ran out, a smaller chunk= takes less at once."
        if isinstance(why, Failure):
            error = _restored(why)
            note(error, f"{ATTEMPTS} workers ran out of memory in {task}. {advice}")
            raise error
        raise WorkersLostError(
            f"{ATTEMPTS} workers died one after another in {task}; the last one: {_reason(why)} "
            f"{advice} What was finished is kept."
        )


def _restored(failed: Failure) -> BaseException:
    """The error itself, as it was raised in a worker."""
    from ray import cloudpickle

    error: BaseException = cloudpickle.loads(failed.error)
    return error


def _reason(why: Failure | BaseException) -> str:
    text = why.text if isinstance(why, Failure) else f"{type(why).__name__}: {why}"
    return " ".join(text.split())


def _check_versions(described: Described) -> None:
    ours, theirs = versions(), described.versions
    different = [
        f"{name} {theirs[name]} (here {ours[name]})" for name in ours if theirs[name] != ours[name]
    ]
    if different:
        raise ClusterError(
            f"A worker on {described.node} has other versions than this process: "
            f"{', '.join(different)}. Results could differ; install the same ones on every node."
        )
