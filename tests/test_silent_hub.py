"""A hub that goes silent in the midst of a download is given up, and told apart from a broken one.

A server on this machine says what the hub would say, up to a request which it does not answer, or
answers by half. Limits and pauses are shortened; that there are limits is what is tested.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest

from helpers import fetch
from helpers.model_folder import HubBusyError, find_model
from tests.gpt2_shape import COMMIT

pytestmark = pytest.mark.slow

NAME = "some-org/some-model"
FILES = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"weights" * 10_000}
WEIGHTS = f"/{NAME}/resolve/{COMMIT}/model.safetensors"

# Where it may fall silent: what the request begins with, and whether the weights are in Xet storage.
SILENCES = {
    "the revision": (f"GET /api/models/{NAME}/revision/", False),
    "the list of files": (f"GET /api/models/{NAME}/tree/", False),
    "the weights": (f"GET {WEIGHTS}", False),
    "half the weights": (f"GET {WEIGHTS}", False),
    "the key to Xet": (f"GET /api/models/{NAME}/xet-read-token/", True),
    "Xet": ("GET /xet/", True),
}

# Xet's client reads them when it starts, which in these tests only one makes it do.
XET = {"READ_TIMEOUT": "300ms", "RETRY_MAX_ATTEMPTS": "2", "RETRY_BASE_DELAY": "10ms"}


class SilentHub(ThreadingHTTPServer):
    """Answers what it is asked, but for requests that begin with `silent_on`."""

    daemon_threads = True
    silent_on = "nothing"
    by_half = in_xet = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []
        self.the_end = threading.Event()

    def file_list(self) -> list[dict[str, object]]:
        entries: list[dict[str, object]] = [
            {
                "type": "file",
                "path": name,
                "size": len(content),
                "oid": hashlib.sha1(content).hexdigest(),
            }
            for name, content in FILES.items()
        ]
        if self.in_xet:
            content = FILES["model.safetensors"]
            entries[-1]["lfs"] = {"oid": _etag(content), "size": len(content), "pointerSize": 135}
            entries[-1]["xetHash"] = "b" * 64
        return entries


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: SilentHub

    def do_GET(self) -> None:
        request = f"{self.command} {self.path}"
        self.server.requests.append(request)
        silent = request.startswith(self.server.silent_on)
        if silent and not self.server.by_half:
            self.server.the_end.wait()
        elif self.path.startswith(f"/api/models/{NAME}/tree/"):
            self._answer(json.dumps(self.server.file_list()).encode())
        elif self.path.startswith(f"/api/models/{NAME}/xet-read-token/"):
            self.send_response(200)
            self.send_header("X-Xet-Cas-Url", f"http://127.0.0.1:{self.server.server_port}/xet")
            self.send_header("X-Xet-Access-Token", "a key")
            self.send_header("X-Xet-Token-Expiration", "9999999999")
            self.end_headers()
        elif self.path.startswith(f"/api/models/{NAME}"):
            self._answer(json.dumps({"id": NAME, "sha": COMMIT, "siblings": []}).encode())
        elif self.path.rpartition("/")[2] in FILES:
            self._answer(FILES[self.path.rpartition("/")[2]], silent)
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def _answer(self, content: bytes, by_half: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{_etag(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if by_half else content)
        if by_half:
            self.server.the_end.wait()

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def hub(hub_at: Callable[[int], None], monkeypatch) -> Iterator[SilentHub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client's pauses between attempts
    for setting, value in XET.items():
        monkeypatch.setenv(f"HF_XET_CLIENT_{setting}", value)
    server = SilentHub()
    hub_at(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Without a time limit this end of all answers would end the wait, as another error.
    last_resort = threading.Timer(60, server.the_end.set)
    last_resort.start()
    yield server
    last_resort.cancel()
    server.the_end.set()
    server.shutdown()
    server.server_close()


def test_it_serves_a_model(hub):
    assert sorted(file.name for file in find_model(NAME, timeout=5.0)[1].iterdir()) == sorted(FILES)


@pytest.mark.parametrize("silence", SILENCES)
def test_a_hub_that_goes_silent_is_given_up(hub, silence):
    hub.silent_on, hub.in_xet = SILENCES[silence]
    hub.by_half = silence == "half the weights"
    if hub.in_xet:
        pytest.importorskip("hf_xet")
    with pytest.raises(HubBusyError, match=r"(hub|Xet storage) could not be reached"):
        find_model(NAME, timeout=0.3)
    asked = [request for request in hub.requests if request.startswith(hub.silent_on)]
    assert 1 <= len(asked) <= 6, asked
    assert not hub.the_end.is_set()


def test_the_limit_is_taken_back(hub):
    before = huggingface_hub.get_session().event_hooks
    find_model(NAME, timeout=5.0)
    assert huggingface_hub.get_session().event_hooks == before


def test_xet_gets_a_limit(hub, monkeypatch):
    monkeypatch.delenv("HF_XET_CLIENT_READ_TIMEOUT")
    find_model(NAME, timeout=5.0)
    assert os.environ["HF_XET_CLIENT_READ_TIMEOUT"] == "30s"


def test_fetching_counts_it_as_a_temporary_failure(hub, monkeypatch, capsys):
    hub.silent_on, hub.by_half = f"GET {WEIGHTS}", True
    monkeypatch.setattr("sys.argv", ["fetch", NAME, "--attempts", "1"])
    assert fetch.main() == fetch.TEMPORARY_FAILURE
    assert "Temporary failure: the hub could not be reached (ReadTimeout)." in capsys.readouterr().err
