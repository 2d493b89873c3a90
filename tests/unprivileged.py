"""Child processes whom folders' permissions bind: root passes them over, and tests may run as root."""

from __future__ import annotations

import functools
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(code: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a child whom permissions bind; skips, with a reason, where there can be none.

    `settings` are environment variables.
    """
    return subprocess.run(
        [*_prefix(), sys.executable, "-c", code, *arguments],
        env={**os.environ, **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder, and all below it, that only root may write to."""
    places = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in places}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def _prefix() -> list[str]:
    if os.geteuid() != 0:
        return []
    # Still root, who can read this environment wherever it is, without leave to ignore permissions.
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if shutil.which(prefix[0]) is None or not _binds(tuple(prefix)):
        pytest.skip("this is root, and setpriv cannot take root's privilege over permissions away here")
    return prefix


@functools.cache
def _binds(prefix: tuple[str, ...]) -> bool:
    return subprocess.run([*prefix, "true"], capture_output=True).returncode == 0


def run_on_a_full_disk(code: str, folder: Path, megabytes: int) -> subprocess.CompletedProcess[str]:
    """Run Python code where `folder` is a disk of that size; skips where none can be mounted.

    What is left on the disk is printed last.
    """
    mount = f"mount -t tmpfs -o size={megabytes}m none {folder}"
    unshare = ["unshare", "--mount", "--map-root-user"]
    if sys.platform != "linux" or subprocess.run([*unshare, "sh", "-c", mount]).returncode:
        pytest.skip("no file system of a given size can be mounted here")
    script = f'{mount} && "$0" -c "$1"; status=$?; ls -A {folder}; exit $status'
    return subprocess.run(
        [*unshare, "sh", "-c", script, sys.executable, code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
