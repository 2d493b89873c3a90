"""One browser a module, a folder for its screenshots, and the web pages behind a server.

Without Chrome or Chromium these tests are skipped, with a reason; under CI they fail.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from choreographer.browsers.chromium import Chromium
from filelock import FileLock
from playwright.sync_api import Browser, Page, Response, sync_playwright

from helpers.notebooks import site
from helpers.notebooks.checks import link_rules
from tests.browser.looks import contrast, luminance

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DESK, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
LONGEST = 60_000  # side of a picture; of one beyond JPEG's 65,535 pixels a browser writes an empty file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)


# Not for the session: while Playwright's event loop runs, nothing else in this thread can start one.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The Chrome or Chromium that also draws the static pictures; nothing is downloaded."""
    path = Chromium.find_browser(skip_local=False)
    if path is None:
        reason = "no Chrome or Chromium found: what readers see was not looked at"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """To be looked at by people; CI keeps them."""
    folder = ROOT / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- the web pages --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Log:
    """What a page complained about, what it loaded, and where it tried to go outside its origin."""

    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The site, built by the first worker that needs it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of all workers of this run
    out = shared / "site"
    with FileLock(shared / "site.lock"):
        if not out.exists():
            site.build(
                ROOT / "demos",
                ROOT / "helpers/notebooks/web",
                out,
                link_rules(ROOT / "pyproject.toml").repository,
                guide=(ROOT / "README.md").read_text(encoding="utf-8"),
                api=True,
            )
    return out


@pytest.fixture(scope="session")
def origin(folder) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def opened(browser: Browser, origin: str, name: str, log: Log | None = None, **context) -> Page:
    """The page, completely loaded. Its log is complete when its own requests are."""
    log = log or Log()
    page = browser.new_context(**{"viewport": DESK, **context}).new_page()
    page.set_default_timeout(15_000)
    page.on("console", lambda said: log.errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: log.errors.append(str(error)))
    page.on("request", lambda request: _note_outside(log, request.url, origin))
    page.on("response", lambda answer: _note_size(log, answer))
    page.goto(origin + name)
    page.wait_for_load_state("networkidle")
    return page


def photograph(page: Page, path: Path) -> None:
    """The whole page, to be looked at; as JPEG in half the time.

    A page that is longer than the format allows goes on in another picture, with a number.
    """
    width, height, scale = page.evaluate(
        "[innerWidth, document.documentElement.scrollHeight, devicePixelRatio]"
    )
    longest = LONGEST // scale
    for number, top in enumerate(range(0, int(height), int(longest)), start=1):
        clip = {"x": 0, "y": top, "width": width, "height": min(longest, height - top)}
        part = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        page.screenshot(path=part, full_page=True, clip=clip, type="jpeg", quality=85)
        assert part.stat().st_size > 0, part


def _note_size(log: Log, answer: Response) -> None:
    log.sizes[answer.url] = int(answer.headers.get("content-length", 0))


def _note_outside(log: Log, url: str, origin: str) -> None:
    if not url.startswith((origin, "data:", "blob:")):
        log.outside.append(url)


def contrast_of(page: Page, selector: str) -> float:
    """Contrast between an element's text and the first ground behind it that is painted."""
    colours = page.locator(selector).first.evaluate(
        """element => {
            let behind = element;
            const ground = e => getComputedStyle(e).backgroundColor;
            while (behind.parentElement && /rgba\\(.*, 0\\)|transparent/.test(ground(behind)))
                behind = behind.parentElement;
            return [getComputedStyle(element).color, ground(behind)];
        }"""
    )
    text, ground = (np.array([float(n) for n in re.findall(r"[\d.]+", c)[:3]]) / 255 for c in colours)
    return float(contrast(luminance(text), luminance(ground)))
