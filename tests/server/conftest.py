"""A tiny model behind the real server, and pictures made on the spot."""

import io
import socket
import threading
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

from tests.patience import PATIENCE_S
from tests.server.live import live
from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.config import VimConfig
from vimserve.model.served import Answers, Wanted
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Transform
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.engine.cost import CostCurve
from vimserve.server.telemetry.tracing import Tracing

CLASSES = 7
CONFIG = VimConfig(width=64, depth=1, num_classes=CLASSES)


@pytest.fixture(autouse=True)
def nothing_is_learnt(monkeypatch):
    """Batches are filled, however long they take on this machine."""
    monkeypatch.setattr(CostCurve, "observe", lambda curve, lengths, seconds: None)


class TinyModel(nn.Module):
    """Scores are linear in an image's mean patch; ``gate`` holds it up, ``failure`` is raised."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = CONFIG
        self.head = nn.Linear(3 * CONFIG.patch_size**2, CONFIG.num_classes)
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

    image_bytes = 0

    def whole(self, size: tuple[int, int]) -> Wanted:
        return size

    costliest = whole

    def answer(self, batch: PackedBatch, wanted: Sequence[Wanted | None]) -> Answers:
        return Answers.of_scores(self(batch))

    def forward(self, batch: PackedBatch) -> Tensor:
        self.batches.append(batch)
        self.entered.release()
        assert self.gate.wait(PATIENCE_S)
        if self.failures:
            raise self.failures.pop()
        self.check(batch)
        ends = batch.cu_seqlens.tolist()
        images = [batch.patches[i:j] for i, j in pairwise(ends)]
        return torch.stack([self.head(patches.float()).mean(0) for patches in images])

    def wait_for_batch(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE_S)


@pytest.fixture(scope="session", autouse=True)
def _as_on_a_slow_machine() -> Iterator[None]:
    """Servers of this process run no more batches to warm up than on the slowest machine, one at a
    time, and drop no client for its slowness."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("vimserve.server.engine.runner.WARM_UP_ENOUGH_S", 0)
        monkeypatch.setattr("vimserve.server.engine.loading.MEASURED_ENOUGH_S", 0)
        monkeypatch.setattr("vimserve.server.engine.worker.LANES", 1)
        monkeypatch.setattr("vimserve.server.http.server.CLIENT_TIMEOUT_S", PATIENCE_S)
        yield


@pytest.fixture
def spec() -> ModelSpec:
    return _spec()


def _spec(name: str = "tiny") -> ModelSpec:
    return ModelSpec(
        name=name,
        config=CONFIG,
        labels=tuple(f"class {index}" for index in range(CLASSES)),
        transform=Transform(resolution=64),
        source=Path("tiny.safetensors"),
    )


def _install(monkeypatch: pytest.MonkeyPatch) -> TinyModel:
    model = TinyModel()
    monkeypatch.setattr(catalog, "load", lambda spec, device, dtype: model)
    monkeypatch.setattr(ModelSpec, "parameters", property(lambda spec: 1234))
    return model


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> TinyModel:
    """The module that every spec loads from now on."""
    return _install(monkeypatch)


@contextmanager
def _serve_tiny(**settings: Any) -> Iterator[httpx2.Client]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        _install(monkeypatch)
        with live(create_app(ServerConfig(**settings), [_spec()])) as client:
            yield client


@pytest.fixture(scope="session")
def serve_tiny() -> Callable[..., AbstractContextManager[httpx2.Client]]:
    """``with serve_tiny(**settings) as client``: a server for all tests of a module."""
    return _serve_tiny


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    """The client of a server with the default settings, which the tests of a module share."""
    with _serve_tiny() as client:
        yield client


@pytest.fixture
def serve(tiny: TinyModel) -> Iterator[Callable[..., tuple[httpx2.Client, FastAPI]]]:
    """A function that starts a server with the given settings; returns its client and app."""
    with ExitStack() as stack:

        def start(tracing: Tracing | None = None, **settings: Any) -> tuple[httpx2.Client, FastAPI]:
            app = create_app(ServerConfig(**settings), [_spec()], tracing=tracing)
            return stack.enter_context(live(app)), app

        yield start
        tiny.gate.set()


@pytest.fixture
def held(
    serve: Callable[..., tuple[httpx2.Client, FastAPI]], tiny: TinyModel
) -> Iterator[Callable[..., Any]]:
    """A function that starts a server whose device is busy with a first request until
    ``tiny.gate`` opens; returns its client, its app, the first answer's future and a pool.

    The first request has all the time that there is, whatever the settings say.
    """
    with ThreadPoolExecutor(8) as pool:

        def start(data: bytes, **settings: Any) -> Any:
            client, app = serve(**settings)
            while tiny.entered.acquire(blocking=False):
                pass
            tiny.batches.clear()
            tiny.gate.clear()
            patient = {"X-Request-Timeout-Ms": "3600000"}
            first = pool.submit(client.post, "/v1/classify", content=data, headers=patient)
            tiny.wait_for_batch()
            return client, app, first, pool

        yield start
        tiny.gate.set()


@pytest.fixture
def connect() -> Iterator[Callable[..., socket.socket]]:
    """``connect(client, data)``: a socket to the client's server that has sent ``data``."""
    with ExitStack() as stack:

        def make(client: httpx2.Client, data: bytes = b"") -> socket.socket:
            address = (client.base_url.host, client.base_url.port or 80)
            sock = stack.enter_context(socket.create_connection(address, PATIENCE_S))
            sock.sendall(data)
            return sock

        yield make


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
