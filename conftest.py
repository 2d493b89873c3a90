"""`pytest --nbval` compares numbers with tolerance, and figures by their data."""

import os
from pathlib import Path

pytest_plugins = ["helpers.notebooks.nbval_plugin"]


def pytest_configure() -> None:
    """A model's folder was named from here; kernels work in the folders of their notebooks."""
    model = os.environ.get("DEMO_MODEL", "")
    if model and Path(model).expanduser().is_dir():
        from helpers.model_folder import from_anywhere

        os.environ["DEMO_MODEL"] = from_anywhere(model)
