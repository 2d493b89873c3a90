"""What this machine lends to a test run."""

from __future__ import annotations

import os

import psutil


def cores() -> int:
    """Those that this process may use: in a container, fewer than there are."""
    if hasattr(psutil.Process, "cpu_affinity"):  # not on macOS
        return len(psutil.Process().cpu_affinity())
    return os.cpu_count() or 1


def workers(gigabytes_each: float) -> int:
    """One a core, as far as the memory goes."""
    memory = psutil.virtual_memory().available / 2**30
    return max(1, min(cores(), int(memory / gigabytes_each)))
