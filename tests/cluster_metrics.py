"""Metrics that do to their worker what may happen to one, and the work they are measured in."""

from __future__ import annotations

import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from helpers.logit_diff import LogitDiff
from tests.tiny_models import VOCAB, tiny_gpt2_hf, tiny_tokenizer


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """A tiny model as a folder, for workers to load by its name."""
    tiny_gpt2_hf(seed=seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def prompts(seed: int = 0) -> tuple[Tensor, Tensor, LogitDiff]:
    """Base and source tokens that differ from position 3 on, and a metric."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randint(1, VOCAB, (3, 6), generator=generator)
    source = base.clone()
    source[:, 3:] = source[:, 3:] % (VOCAB - 1) + 1
    return base, source, LogitDiff(torch.randint(1, VOCAB, (3, 2), generator=generator))


@dataclass
class Once:
    """Goes wrong in the first worker that measures it patched, and in no other.

    Attributes:
        mark: a file that says that it has gone wrong.
        driver: the process that measures the unpatched run first, in which nothing goes wrong.
        always: go wrong every time.
    """

    mark: Path
    driver: int
    always: bool = False

    def __call__(self, logits: Tensor) -> Tensor:
        if os.getpid() != self.driver and (self.always or not self.mark.exists()):
            self.mark.touch()
            self.go_wrong()
        return logits[:, 5] - logits[:, 7]

    def go_wrong(self) -> None:
        raise NotImplementedError


class Killed(Once):
    def go_wrong(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class OutOfMemory(Once):
    """A real allocation that the system refuses."""

    def go_wrong(self) -> None:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(
            resource.RLIMIT_AS, (taken + 2**26, resource.getrlimit(resource.RLIMIT_AS)[1])
        )
        torch.ones(2**28)


class OwnError(Exception):
    """An exception that nobody else knows."""


class Unsendable(Exception):
    """One that cannot be copied from its arguments."""

    def __init__(self, one: str, other: object) -> None:
        super().__init__(one)
        self.lock = (item for item in ())  # a generator, which nobody can pickle


class Raising(Once):
    def go_wrong(self) -> None:
        raise OwnError("this metric has a fault")


class RaisingUnsendable(Once):
    def go_wrong(self) -> None:
        raise Unsendable("nobody can pickle this", None)


@dataclass
class Slow:
    """Takes its time over every patch, so that one can be interrupted."""

    seconds: float

    def __call__(self, logits: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return logits[:, 5] - logits[:, 7]
