"""Fetching: patience for what may pass, none for what will not, and the two told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import fetch
from helpers.embedded import ModelUnavailableError
from helpers.model_folder import HubBusyError


@pytest.fixture
def hub(monkeypatch):
    """Answers one after the other; an exception is raised."""
    asked = []

    def answer_with(*answers):
        def find_model(name, timeout):
            answer = answers[len(asked)]
            asked.append(name)
            if isinstance(answer, Exception):
                raise answer
            return name, answer

        monkeypatch.setattr(fetch, "find_model", find_model)
        return asked

    return answer_with


BUSY = HubBusyError("the long message", "answered 429 (rate limit: wait and try again)")
GATED = ModelUnavailableError("the model is gated")


def test_waits_longer_and_longer_until_it_is_there(hub, capsys):
    asked = hub(BUSY, BUSY, Path("there"))
    waits: list[float] = []
    assert fetch.fetch("gpt2", attempts=5, first_wait=10, sleep=waits.append) == Path("there")
    assert (len(asked), waits) == (3, [10, 20])
    assert "Attempt 2 of 5: answered 429" in capsys.readouterr().out


def test_gives_up_after_the_last_attempt(hub):
    asked = hub(BUSY, BUSY, BUSY)
    waits: list[float] = []
    with pytest.raises(HubBusyError):
        fetch.fetch("gpt2", attempts=3, sleep=waits.append)
    assert (len(asked), len(waits)) == (3, 2)


def test_does_not_wait_for_what_waiting_will_not_mend(hub):
    asked = hub(GATED)
    with pytest.raises(ModelUnavailableError, match="gated"):
        fetch.fetch("gpt2", sleep=lambda _: pytest.fail("waited"))
    assert len(asked) == 1


@pytest.mark.parametrize(("answer", "status"), [(Path("there"), 0), (BUSY, 75), (GATED, 1)])
def test_the_exit_status_tells_them_apart(hub, monkeypatch, answer, status):
    hub(answer)
    monkeypatch.setattr("sys.argv", ["fetch", "gpt2", "--attempts", "1"])
    assert fetch.main() == status
