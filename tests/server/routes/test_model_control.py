"""Models are loaded, unloaded and reloaded while clients send: none is lost, none is wrong."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import pytest
import tritonclient.http as triton
from safetensors.torch import load_file, save_file
from tritonclient.utils import InferenceServerException

from tests.paths import ROOT
from tests.patience import PATIENCE_S
from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig

CLIENTS, ROUNDS = 16, 5
DOG = (ROOT / "model" / "demo" / "samples" / "dog.jpg").read_bytes()
RAW = {"Inference-Header-Content-Length": "0", "Accept-Encoding": "identity"}


@pytest.fixture
def weights(tmp_path):
    """Two files of the same shapes that answer differently, and the one that is served."""
    demo = resolve("demo")
    assert isinstance(demo.source, Path)
    tensors = load_file(demo.source)
    other = {name: value.clone() for name, value in tensors.items()}
    head = next(name for name in tensors if name.endswith("head.weight"))
    other[head] = -other[head]
    made = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file, values in zip(made, (tensors, other), strict=True):
        save_file(values, file)
    served = tmp_path / "served.safetensors"
    served.write_bytes(made[0].read_bytes())
    return made, served


@pytest.fixture
def client(weights):
    demo = resolve("demo")
    specs = [replace(demo, name=name, source=weights[1]) for name in ("stays", "goes")]
    with live(create_app(ServerConfig(model_control=True, max_resolution=256), specs)) as client:
        yield client


@pytest.fixture
def grid(client):
    address = f"{client.base_url.host}:{client.base_url.port}"
    with triton.InferenceServerClient(address) as grid:
        yield grid


def install(file: Path, served: Path) -> None:
    """Put another file in its place, at once."""
    fresh = served.with_suffix(".new")
    fresh.write_bytes(file.read_bytes())
    fresh.rename(served)


def infer(client: httpx2.Client, model: str) -> httpx2.Response:
    return client.post(f"/v2/models/{model}/infer", content=DOG, headers=RAW)


def logits(answer):
    """The first output of an answer with 20 classes."""
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    return np.frombuffer(answer.content[length : length + 80], "<f4")


def is_like(values, known):
    return np.abs(values - known).max() < 1e-3 * np.abs(known).max()


def test_hot_swap_under_load(client, grid, weights):
    files, served = weights
    known = [logits(infer(client, "stays"))]
    install(files[1], served)
    grid.load_model("stays")
    known.append(logits(infer(client, "stays")))
    assert not is_like(known[0], known[1])

    stop, present = threading.Event(), [1]  # which file every request from now on must see
    counts = dict.fromkeys((200, 404, 503), 0)
    lock = threading.Lock()
    faults: list[object] = []

    def send(number: int) -> None:
        model = ("stays", "goes")[number % 2]
        with httpx2.Client(base_url=client.base_url, timeout=PATIENCE_S) as own:
            while not stop.is_set():
                before = list(present)
                answer = infer(own, model)
                allowed = {200} if model == "stays" else {200, 404, 503}
                if answer.status_code not in allowed:
                    faults.append((model, answer.status_code, answer.text))
                    return
                with lock:
                    counts[answer.status_code] += 1
                if answer.status_code != 200:
                    if list(answer.json()) != ["error"]:
                        faults.append((model, answer.text))
                elif model == "stays":
                    possible = {*before, *present}
                    if not any(is_like(logits(answer), known[i]) for i in possible):
                        faults.append((model, "other weights"))

    with ThreadPoolExecutor(CLIENTS) as pool:
        sending = [pool.submit(send, number) for number in range(CLIENTS)]
        try:
            for number in range(ROUNDS):
                new = number % 2
                install(files[new], served)
                present.append(new)  # while it is swapped, either is right
                grid.load_model("stays")
                present[:] = [new]
                grid.unload_model("goes")
                assert not grid.is_model_ready("goes")
                grid.load_model("goes")
                assert grid.is_model_ready("goes")
        finally:
            stop.set()
        for one in sending:
            one.result()
    assert faults == []
    assert counts[200] > CLIENTS
    assert is_like(logits(infer(client, "goes")), logits(infer(client, "stays")))


def test_the_index_and_the_default(client, grid):
    def states():
        return {one["name"]: one["state"] for one in grid.get_model_repository_index()}

    assert states() == {"stays": "READY", "goes": "READY"}
    grid.unload_model("stays")
    assert states() == {"stays": "UNAVAILABLE", "goes": "READY"}
    assert client.get("/info").json()["model_id"] == "goes"
    ready = client.post("/v2/repository/index", json={"ready": True}).json()
    assert [one["name"] for one in ready] == ["goes"]
    grid.unload_model("goes")
    for answer in (
        client.post("/", content=DOG),
        client.post("/v1/classify", content=DOG),
        client.post("/v1/compare", content=DOG),
    ):
        assert (answer.status_code, "no model is served" in answer.text) == (404, True)
    grid.load_model("goes")
    grid.load_model("stays")
    assert client.get("/info").json()["model_id"] == "stays"  # the first again


def test_weights_that_do_not_fit_leave_the_old_ones(client, grid, weights):
    _, served = weights
    before = logits(infer(client, "stays"))
    served.write_bytes(b"nonsense")
    with pytest.raises(InferenceServerException, match="'stays' cannot be loaded"):
        grid.load_model("stays")
    assert is_like(logits(infer(client, "stays")), before)
    assert grid.is_model_ready("stays")


def test_what_a_client_cannot_choose(client, grid):
    for action in (
        lambda: grid.load_model("stays", config="{}"),
        lambda: grid.load_model("demo"),
        lambda: grid.load_model("../x"),
        lambda: grid.unload_model("nobody"),
    ):
        with pytest.raises(InferenceServerException) as raised:
            action()
        assert raised.value.status() in ("400", "404")
    answer = client.post("/v2/repository/models/stays/load", content=b"{")
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
