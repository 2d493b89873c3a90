"""`pytest --nbval` compares numbers with tolerance, figures by data; `-n auto` fits the machine."""

import os

import pytest

from helpers.embedded import ModelUnavailableError
from helpers.model_folder import from_anywhere
from tests.machine import cores, workers

pytest_plugins = ["helpers.notebooks.nbval_plugin"]


def pytest_xdist_auto_num_workers() -> int:
    # A notebook's kernel with the embedded model, and what the tests hold beside it.
    return workers(gigabytes_each=4)


def pytest_configure(config: pytest.Config) -> None:
    """A model's folder was named from here; kernels work in the folders of their notebooks."""
    if os.environ.get("DEMO_MODEL"):
        try:
            os.environ["DEMO_MODEL"] = from_anywhere(os.environ["DEMO_MODEL"])
        except ModelUnavailableError as error:
            raise pytest.UsageError(f"DEMO_MODEL: {error}") from error
    side_by_side = getattr(config.option, "numprocesses", None)
    if side_by_side:  # each computes on its share of the cores, and so do the kernels it starts
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // side_by_side)))
