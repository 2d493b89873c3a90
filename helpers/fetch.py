"""Fetch a model into the hub cache, patiently: ``python -m helpers.fetch gpt2``.

For a workflow, which must tell "the hub would not serve us now" from "something is broken". Exit
status: 0 if the model is there, 75 (temporary failure) if the hub refuses by rate limit, answers with
a server error, cannot be reached or goes silent, after several attempts; 1 for what no waiting will
mend.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from helpers.embedded import ModelUnavailableError
from helpers.model_folder import HubBusyError, find_model

TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h


def fetch(
    name: str,
    *,
    attempts: int = 5,
    first_wait: float = 15.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """The model's folder, downloaded if need be, with attempts further and further apart.

    Args:
        name: hub name, or folder.
        attempts: how often to ask.
        first_wait: seconds before the second attempt; each further wait is twice as long.
        sleep: waits; for tests.

    Raises:
        HubBusyError: if the hub could not serve it in any attempt, for a reason that may pass.
        ModelUnavailableError: at once, for any other reason.
    """
    for attempt in range(attempts - 1):
        try:
            return find_model(name, timeout=10.0)[1]
        except HubBusyError as error:
            wait = first_wait * 2**attempt
            print(
                f"Attempt {attempt + 1} of {attempts}: {error.reason}. Waiting {wait:.0f} s.", flush=True
            )
            sleep(wait)
    return find_model(name, timeout=10.0)[1]


def main() -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", help="hub name of the model")
    parser.add_argument("--attempts", type=int, default=5)
    arguments = parser.parse_args()
    try:
        folder = fetch(arguments.name, attempts=arguments.attempts)
    except HubBusyError as error:
        print(f"Temporary failure: {error.reason}.", file=sys.stderr)
        return TEMPORARY_FAILURE
    except ModelUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{arguments.name}: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
