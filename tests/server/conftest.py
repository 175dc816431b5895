"""A tiny model behind the real server, and pictures made on the spot."""

import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from PIL import Image
from torch import Tensor, nn

from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import ModelSpec
from vimserve.model.config import VimConfig
from vimserve.model.served import Answers, MapSize
from vimserve.model.transform import Transform
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.http.server import http_server

CLASSES = 7


class TinyModel(nn.Module):
    """Scores are linear in an image's mean patch; ``gate`` holds it up, ``failure`` is raised."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = config
        self.head = nn.Linear(3 * config.patch_size**2, config.num_classes)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.failures: list[Exception] = []
        self.check: Callable[[PackedBatch], None] = lambda batch: None
        self.batches: list[PackedBatch] = []

    def num_tokens(self, grid: tuple[int, int]) -> int:
        return grid[0] * grid[1] + 1

    def warm_up(self) -> None:
        pass

    def answer(self, batch: PackedBatch, wanted: Sequence[MapSize | None]) -> Answers:
        return Answers.of_scores(self(batch))

    def forward(self, batch: PackedBatch) -> Tensor:
        self.batches.append(batch)
        self.entered.release()
        assert self.gate.wait(10)
        if self.failures:
            raise self.failures.pop()
        self.check(batch)
        ends = batch.cu_seqlens.tolist()
        images = [batch.patches[i:j] for i, j in pairwise(ends)]
        return torch.stack([self.head(patches.float()).mean(0) for patches in images])

    def wait_for_batch(self) -> None:
        assert self.entered.acquire(timeout=10)


@pytest.fixture
def spec() -> ModelSpec:
    return _spec()


def _spec(name: str = "tiny") -> ModelSpec:
    return ModelSpec(
        name=name,
        config=VimConfig(width=64, depth=1, num_classes=CLASSES),
        labels=tuple(f"class {index}" for index in range(CLASSES)),
        transform=Transform(resolution=64),
        source=Path("tiny.safetensors"),
    )


def _install(monkeypatch: pytest.MonkeyPatch) -> TinyModel:
    model = TinyModel(_spec().config)
    monkeypatch.setattr(catalog, "load", lambda spec, device, dtype: model)
    monkeypatch.setattr(ModelSpec, "parameters", property(lambda spec: 1234))
    return model


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> TinyModel:
    """The module that every spec loads from now on."""
    return _install(monkeypatch)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    """The client of a server with the default settings, which the tests of a module share."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _install(monkeypatch)
        with (
            _live(create_app(ServerConfig(), [_spec()])) as url,
            httpx2.Client(base_url=url, timeout=20) as client,
        ):
            yield client


@contextmanager
def _live(
    app: FastAPI,
    path: str = "/readyz",
    certificate: tuple[Path, Path] | None = None,
    verify: ssl.SSLContext | bool = True,
) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = http_server(app, *(certificate or ()))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    scheme = "https" if certificate else "http"
    url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    try:
        _wait_until(
            lambda: httpx2.get(f"{url}{path}", verify=verify).status_code == 200, timeout_s=60
        )
        yield url
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def serve(tiny: TinyModel) -> Iterator[Callable[..., tuple[httpx2.Client, FastAPI]]]:
    """A function that starts a server with the given settings; returns its client and app."""
    with ExitStack() as stack:

        def start(**settings: Any) -> tuple[httpx2.Client, FastAPI]:
            app = create_app(ServerConfig(**settings), [_spec()])
            url = stack.enter_context(_live(app))
            return stack.enter_context(httpx2.Client(base_url=url, timeout=20)), app

        yield start
        tiny.gate.set()


@pytest.fixture
def held(
    serve: Callable[..., tuple[httpx2.Client, FastAPI]], tiny: TinyModel
) -> Iterator[Callable[..., Any]]:
    """A function that starts a server whose device is busy with a first request until
    ``tiny.gate`` opens; returns its client, its app, the first answer's future and a pool."""
    with ThreadPoolExecutor() as pool:

        def start(data: bytes, **settings: Any) -> Any:
            client, app = serve(**settings)
            while tiny.entered.acquire(blocking=False):
                pass
            tiny.batches.clear()
            tiny.gate.clear()
            first = pool.submit(client.post, "/v1/classify", content=data)
            tiny.wait_for_batch()
            return client, app, first, pool

        yield start
        tiny.gate.set()


@pytest.fixture(scope="session")
def live() -> Callable[..., AbstractContextManager[str]]:
    """``with live(app) as url``: uvicorn on a free port of the loopback, ready when entered
    (or as soon as another path answers 200); with a certificate and its key, over TLS."""
    return _live


@pytest.fixture
def connect() -> Iterator[Callable[..., socket.socket]]:
    """``connect(client, data)``: a socket to the client's server that has sent ``data``."""
    with ExitStack() as stack:

        def make(client: httpx2.Client, data: bytes = b"") -> socket.socket:
            address = (client.base_url.host, client.base_url.port or 80)
            sock = stack.enter_context(socket.create_connection(address, timeout=10))
            sock.sendall(data)
            return sock

        yield make


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """``wait_until(condition)`` fails if it does not come true."""
    return _wait_until


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """``picture(height, width, seed=0)``: smooth coloured noise."""

    def make(height: int, width: int, seed: int = 0) -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    return make


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """``encode(image, kind="PNG", **options)``: the bytes of a file."""

    def make(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return make


def _wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)
