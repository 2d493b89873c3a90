"""`pytest --nbval` compares numbers with tolerance, figures by data; `-n auto` fits the machine."""

import os

import psutil
import pytest

from helpers.embedded import ModelUnavailableError
from helpers.model_folder import from_anywhere

pytest_plugins = ["helpers.notebooks.nbval_plugin"]

GIGABYTES_A_WORKER = 4  # a notebook's kernel with the embedded model, and what the tests hold beside it


def pytest_xdist_auto_num_workers() -> int:
    """One worker a core, as far as the memory goes."""
    memory = int(psutil.virtual_memory().available / 2**30 / GIGABYTES_A_WORKER)
    return max(1, min(_cores(), memory))


def pytest_configure(config: pytest.Config) -> None:
    """A model's folder was named from here; kernels work in the folders of their notebooks."""
    if os.environ.get("DEMO_MODEL"):
        try:
            os.environ["DEMO_MODEL"] = from_anywhere(os.environ["DEMO_MODEL"])
        except ModelUnavailableError as error:
            raise pytest.UsageError(f"DEMO_MODEL: {error}") from error
    workers = getattr(config.option, "numprocesses", None)
    if workers:  # each computes on its share of the cores, and so do the kernels it starts
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // workers)))


def _cores() -> int:
    """Those that this process may use, which in a container are fewer than there are."""
    return (
        len(psutil.Process().cpu_affinity())
        if hasattr(psutil.Process, "cpu_affinity")
        else os.cpu_count() or 1
    )
