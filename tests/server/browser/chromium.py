"""A real Chromium, which Playwright drives; where there is none, tests are skipped."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """``with chromium() as browser``, in a thread that has no event loop of its own."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("there is no Chromium: apt-get install chromium, or put one on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class BrowserThread:
    """A thread for all that Playwright does.

    Its synchronous interface runs an event loop that stays the current one of its thread. In the
    main thread later tests would find it there.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "browser")

    def __call__(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What the work returns or raises, once it is done; each of its steps has its own limit."""
        return self._pool.submit(work, *arguments, **named).result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()


@dataclass
class Watched:
    """A page, and what went wrong on it.

    Attributes:
        page: the page.
        complaints: errors in its console, what its policy forbids, and requests to other hosts.
        refusals: statuses of answers that were errors.
        expected: those that a test means to get.
        asked: method and path of all requests.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    expected: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def watch(page: Page, host: str) -> Watched:
    """Watch a page that has not loaded anything yet, and may ask one host and port."""
    watched = Watched(page)

    def said(message: ConsoleMessage) -> None:
        # That an answer was an error is told by its status already.
        if message.type == "error" and "Failed to load resource" not in message.text:
            watched.complaints.append(message.text)

    def requested(request: Request) -> None:
        url = urlsplit(request.url)
        watched.asked.append(f"{request.method} {url.path}")
        if url.scheme != "blob" and url.netloc != host:
            watched.complaints.append(f"asked {request.url}")

    def answered(response: Response) -> None:
        if response.status >= HTTPStatus.BAD_REQUEST:
            watched.refusals.append(response.status)

    page.on("console", said)
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.on("request", requested)
    page.on("response", answered)
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (event) => console.error("
        "`the policy forbids ${event.violatedDirective}: ${event.blockedURI}`))"
    )
    return watched
