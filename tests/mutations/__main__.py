"""`python -m tests.mutations demos` exits with 1 if damage went unseen or a harmless change not."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from helpers.notebooks.checks import read_settings
from tests.machine import workers
from tests.mutations.suite import run_suite

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path, help="folder of the demos")
parser.add_argument("--config", type=Path, default=Path("pyproject.toml"))
parser.add_argument("--places", type=int, default=2, help="at most so many per mutation and demo")
parser.add_argument("--processes", type=int, default=workers(gigabytes_each=1))
options = parser.parse_args()
settings = read_settings(options.config)
sys.exit(0 if run_suite(options.folder, settings, options.places, options.processes) else 1)
