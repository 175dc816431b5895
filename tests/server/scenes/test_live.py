"""Real servers answer as this process does, over real connections."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import trustme
from pydantic import SecretStr

from tests.patience import PATIENCE_S
from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import Config, ServerConfig
from vimserve.server.images.arrays import PixelArray
from vimserve.server.images.prepare import Limits, measure
from vimserve.server.scenes import local
from vimserve.server.scenes.remote import Servers
from vimserve.server.scenes.remote.trouble import Refused

LONGEST = 320
DEMOS = {spec.task: spec for spec in map(resolve, ("demo", "demo-seg", "demo-det"))}
KEY = SecretStr("correct-horse-battery")


@pytest.fixture(scope="module")
def app():
    return create_app(ServerConfig(max_resolution=LONGEST), [*DEMOS.values()])


@pytest.fixture(scope="module")
def url(app):
    with live(app) as client:
        yield str(client.base_url)


def here(app, task, query, picture):
    """What the model answers in this process, alone in a batch."""
    spec = DEMOS[task]
    runner = app.state.pipeline.engine.loaded(spec.name).runner
    plan = local.plan_of(spec, query, Config(max_resolution=LONGEST), "geojson")
    limits = Limits(50_000_000, LONGEST)
    measured = measure(PixelArray(picture), runner, plan.transform, limits, plan.views)
    outputs = runner.run(measured.prepare(plan.wanted(measured)))
    return plan.conclude(measured, outputs)


def there(url, task, query, picture, **options):
    async def ask():
        async with Servers([url], None, task, query, **options) as servers:
            return await servers.described(), await servers.ask(picture)

    return asyncio.run(ask())


@pytest.fixture(params=[(256, 320), (96, 100)], ids=str)
def seen(request, picture):
    return np.array(picture(*request.param))


@pytest.mark.parametrize("task", ["segment", "classify"])
def test_scores_are_the_same_to_the_last_bit(app, url, task, seen):
    _, scores = there(url, task, {}, seen)
    wanted = here(app, task, {}, seen)
    assert scores.dtype == wanted.dtype == np.float32
    assert scores.tobytes() == wanted.tobytes()
    assert scores.shape == wanted.shape


@pytest.fixture
def things():
    from PIL import Image

    from tests.paths import ROOT

    with Image.open(ROOT / "model/demo/detection/samples/objects-1.jpg") as image:
        return np.array(image.convert("RGB").crop((0, 0, 320, 320)))


@pytest.mark.parametrize("query", [{}, {"masks": "none"}, {"score_threshold": "0.05",
                                   "max_detections": "7", "masks": "rle"}], ids=str)  # fmt: skip
def test_objects_are_the_same(app, url, query, things):
    _, found = there(url, "detect", query, things)
    wanted = here(app, "detect", query, things)
    assert found.size == wanted.size == (320, 320)
    assert len(found.instances) == len(wanted.instances) > 0
    for one, other in zip(found.instances, wanted.instances, strict=True):
        assert (one.index, one.score, one.box) == (other.index, other.score, other.box)
        assert (one.mask is None) == (other.mask is None) == (query.get("masks") == "none")
        if one.mask is not None and other.mask is not None:
            assert one.mask.size == other.mask.size
            assert one.mask.compressed() == other.mask.compressed()


@pytest.mark.parametrize("task", DEMOS)
def test_what_is_known_of_a_model(url, task, things):
    model, _ = there(url, task, {}, things)
    wanted = local.described(DEMOS[task], Config(max_resolution=LONGEST))
    for name in ("name", "labels", "palette", "multiple", "cell", "max_resolution", "resolution"):
        assert getattr(model, name) == getattr(wanted, name), name
    assert len(model.identity) == 64


def test_what_the_server_refuses(url, things):
    with pytest.raises(Refused, match="answers 400 parameter score_threshold: "):
        there(url, "detect", {"score_threshold": "2"}, things)
    large = np.zeros((640, 640, 3), np.uint8)
    with pytest.raises(Refused, match="answers 413 the model's input would be 640x640 pixels"):
        there(url, "segment", {}, large)


def test_keys(tiny, spec, things):
    with live(create_app(ServerConfig(api_key=KEY), [spec])) as client:
        url = str(client.base_url)
        there(url, "classify", {}, things, key=KEY)
        for key in (None, SecretStr("battery-horse-correct")):
            with pytest.raises(Refused, match="answers 401 this server") as caught:
                there(url, "classify", {}, things, key=key)
            assert "battery" not in str(caught.value)


def test_certificates_are_verified(tiny, spec, tmp_path, monkeypatch, things):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    chain, key, trusted = (tmp_path / name for name in ("chain.pem", "key.pem", "ca.pem"))
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with live(create_app(ServerConfig(), [spec]), certificate=(chain, key)) as client:
        url = str(client.base_url)
        there(url, "classify", {}, things)
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(Refused, match="CERTIFICATE_VERIFY_FAILED"):
            there(url, "classify", {}, things)


@contextmanager
def raw(answer):
    """A server of one connection; ``answer(socket)`` after the head of a request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE_S)
                connection.recv(65_536)
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("sent", "words"),
    [(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "closed connection without sending"),
     (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", "closed connection"),
     (b"", "disconnected without sending a response")],
)  # fmt: skip
def test_what_breaks_off(sent, words):
    with (
        raw(lambda connection: connection.sendall(sent)) as url,
        pytest.raises(Refused) as caught,
    ):
        there(url, "segment", {}, None)
    assert words in str(caught.value)


def test_who_is_cancelled_hangs_up():
    asked, ended = threading.Event(), threading.Event()
    received = []

    def wait(connection):
        asked.set()
        received.append(connection.recv(1))
        ended.set()

    async def cancel(url):
        async with Servers([url], None, "segment", {}) as servers:
            task = asyncio.create_task(servers.described())
            await asyncio.to_thread(asked.wait, PATIENCE_S)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(ended.wait, PATIENCE_S)

    with raw(wait) as url:
        asyncio.run(cancel(url))
    assert received == [b""]
