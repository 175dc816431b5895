"""One Chromium and one server for all tests of the page."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from tests.patience import PATIENCE_S
from tests.server.browser.chromium import BrowserThread, Watched, chromium, watch
from tests.server.detector import BOXER, SPEC, loadable
from tests.server.live import live
from vimserve.loadtests.gpu_check.recipe import make_weights
from vimserve.model import catalog
from vimserve.model.catalog import resolve
from vimserve.model.families import build
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.upernet.config import UPerNetConfig
from vimserve.model.served import Answers, ServedModel
from vimserve.model.spec import ModelSpec
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig

DEIT = DeiTConfig(width=64, depth=4, heads=1, num_classes=10, grid=(4, 4))
BROWSER = pytest.StashKey[BrowserThread]()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test with pages in the thread that Playwright lives in."""
    if "open_page" not in pyfuncitem.fixturenames:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    pyfuncitem.session.stash[BROWSER](pyfuncitem.obj, **arguments)
    return True


@pytest.fixture(autouse=True)
def nothing_is_learnt() -> None:
    """Unlike elsewhere: predictions come from what has been learnt."""


@pytest.fixture(scope="package")
def browser(request: pytest.FixtureRequest) -> Iterator[tuple[BrowserThread, Browser]]:
    thread = request.session.stash[BROWSER] = BrowserThread()
    expect.set_options(timeout=PATIENCE_S * 1000)
    running = chromium()
    try:
        yield thread, thread(running.__enter__)
        thread(running.__exit__, None, None, None)
    finally:
        thread.close()


@pytest.fixture
def open_page(
    browser: tuple[BrowserThread, Browser], origin: str
) -> Iterator[Callable[..., Watched]]:
    """``open_page(address="", **options)``: a page in a context of its own, which is watched.

    After the test it has logged no error, was refused nothing that the test did not expect, and
    asked no other host.
    """
    thread, chrome = browser
    opened: list[Watched] = []

    def start(address: str = "", **options: Any) -> Watched:
        context = chrome.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(PATIENCE_S * 1000)
        url = address if "//" in address else f"{origin}/{address}"
        watched = watch(context.new_page(), urlsplit(url).netloc)
        opened.append(watched)
        watched.page.goto(url)
        return watched

    yield start
    for one in opened:
        thread(one.page.context.close)
        assert one.complaints == []
        assert one.refusals == one.expected


class Held:
    """Holds the device up while it is closed."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.batches = 0

    def around(self, model: ServedModel) -> ServedModel:
        """The same model, whose batches wait here."""
        answer = model.answer

        def wait(*arguments: Any) -> Answers:
            self.batches += 1
            self.entered.release()
            assert self.open.wait(PATIENCE_S)
            return answer(*arguments)

        model.answer = wait  # type: ignore[assignment, method-assign]
        return model

    def close(self) -> None:
        """From now on the next batch waits."""
        while self.entered.acquire(blocking=False):
            pass
        self.batches = 0
        self.open.clear()

    def wait_for_batch(self) -> None:
        """Until there is one."""
        assert self.entered.acquire(timeout=PATIENCE_S)


@pytest.fixture(scope="package")
def held() -> Held:
    return Held()


@pytest.fixture(scope="package")
def client(held: Held) -> Iterator[httpx2.Client]:
    """The demo models, a small DeiT with weights by chance that segments, and two detectors that
    find what they are told."""
    load, segments = catalog.load, resolve("demo-seg")
    small = UPerNetConfig(DEIT, (0, 1, 2, 3), 16, num_classes=len(segments.labels))
    deit = dataclasses.replace(segments, name="deit", config=small, source=Path("by chance"))

    def load_or_make(spec: ModelSpec, device: str, dtype: Any) -> ServedModel:
        if spec.name != "deit":
            return held.around(load(spec, device, dtype))
        model = build(spec.config)
        model.load_state_dict(make_weights(model))
        return model.eval()

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(catalog, "load", load_or_make)
        specs = [resolve("demo"), segments, deit, SPEC, BOXER]
        with loadable(SPEC, BOXER), live(create_app(ServerConfig(), specs)) as client:
            yield client


@pytest.fixture(scope="package")
def origin(client: httpx2.Client) -> str:
    return str(client.base_url).rstrip("/")
