"""A kernel under test that is watched: if it dies, that is said at once, and why.

nbval waits for a reply until the cell's time limit, half an hour by default, and then speaks of a
timeout, also when there is nobody left to reply.
"""

from __future__ import annotations

import signal
import time
from queue import Empty
from typing import Any

from nbval.kernel import RunningKernel

_LOOK_EVERY = 0.5  # seconds


class KernelDiedError(Exception):
    """The kernel's process has ended while something was expected of it; the message says how."""


def how_it_ended(status: int | None) -> str:
    """A process's exit status in words: `killed by SIGKILL (…)`, `exit status 3`."""
    if status is None:
        return "how is not known"
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hints = {
        "SIGKILL": " (what Linux does when memory runs out)",
        "SIGSEGV": " (a fault in compiled code)",
    }
    return f"killed by {name}{hints.get(name, '')}"


class WatchedKernel(RunningKernel):  # type: ignore[misc]
    """A running kernel of nbval's, taken over.

    `executing` is the id of the last request to execute something.
    """

    def __init__(self, kernel: RunningKernel) -> None:
        self.km, self.kc = kernel.km, kernel.kc
        self.executing: str | None = None

    def execute_cell_input(self, cell_input: str, allow_stdin: bool | None = None) -> str:
        self.executing = super().execute_cell_input(cell_input, allow_stdin=allow_stdin)
        assert self.executing is not None
        return self.executing

    def get_message(self, stream: str, timeout: float | None = None) -> dict[str, Any]:
        """The next message. Raises Empty after the timeout, KernelDiedError if there will be none."""
        end = float("inf") if timeout is None else time.monotonic() + timeout
        dead = False
        while True:
            wait = max(0.0, min(_LOOK_EVERY, end - time.monotonic()))
            try:
                message: dict[str, Any] = super().get_message(stream, timeout=wait)
                return message
            except Empty:
                if dead:  # and what it had sent before is read
                    raise KernelDiedError(self.ending()) from None
                dead = not self.is_alive()
                if not dead and time.monotonic() >= end:
                    raise

    def ending(self) -> str:
        """How the kernel's process ended, in words."""
        process = getattr(getattr(self.km, "provisioner", None), "process", None)
        return how_it_ended(process.poll() if process else None)
