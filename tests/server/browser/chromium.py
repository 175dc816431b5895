"""A real Chromium, which Playwright drives; where there is none, tests are skipped."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.patience import PATIENCE_S

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
        """What the work returns or raises, once it is done."""
        return self._pool.submit(work, *arguments, **named).result(PATIENCE_S)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()
