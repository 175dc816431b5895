"""Servers that do as they are told, without a network."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.server.scenes.fake_time import now, run
from vimserve.server.scenes.remote import Servers
from vimserve.server.scenes.remote.trouble import Refused

LENGTH = "Inference-Header-Content-Length"
MODEL: dict[str, Any] = {
    "name": "coast", "status": "ready", "family": "vim-upernet", "task": "segment",
    "attention": "none", "parameters": 10, "classes": 2, "labels": ["sea", "land"],
    "palette": [[0, 0, 255], [0, 128, 0]], "cell": 4, "identity": "as trained",
    "transform": {
        "resolution": "native", "fit": "contain", "crop_ratio": 1, "multiple": 16,
        "range": "0,4095", "bands": [4, 3, 2], "mean": [0, 0, 0], "std": [1, 1, 1],
    },
    "max_resolution": 512, "dtype": "float32", "device": "cpu",
}  # fmt: skip
SIZE = (32, 48)


def window(number: int) -> Any:
    """A picture that is told from all others."""
    return np.full((*SIZE, 3), number, np.uint8)


def scores_of(number: int) -> Any:
    """What every server of the fleet makes of it."""
    grid = (SIZE[0] // 4, SIZE[1] // 4)
    return np.stack([np.full(grid, number + 0.1), np.full(grid, -number)]).astype(np.float32)


def packed(outputs: list[dict[str, Any]], *blobs: bytes) -> httpx2.Response:
    """An answer with tensors as bytes."""
    text = json.dumps({"model_name": "coast", "model_version": "1", "outputs": outputs}).encode()
    return httpx2.Response(200, content=b"".join((text, *blobs)), headers={LENGTH: str(len(text))})


def scored(scores: Any, **changes: Any) -> httpx2.Response:
    """An answer with scores."""
    output = {"name": "scores", "shape": [1, *scores.shape], "datatype": "FP32"}
    blob = scores.astype("<f4").tobytes()
    return packed([output | {"parameters": {"binary_data_size": len(blob)}} | changes], blob)


def refusal(status: int, detail: str = "no", **headers: str) -> httpx2.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, json={"error": detail}, headers=names)


Script = Callable[[int], Awaitable[httpx2.Response]]


async def fine(number: int) -> httpx2.Response:
    """Takes a second."""
    await asyncio.sleep(1)
    return scored(scores_of(number))


@dataclass
class Scripted:
    """A server.

    Attributes:
        models: what it says of its models.
        script: answers for the window of that number.
        asked: when it was asked for which window.
        listed: when it was asked for its models.
        busiest: most windows that it had at a time.
    """

    models: Any = field(default_factory=lambda: {"models": [MODEL]})
    script: Script = fine
    asked: list[tuple[float, int]] = field(default_factory=list)
    listed: list[float] = field(default_factory=list)
    headers: list[httpx2.Headers] = field(default_factory=list)
    busiest: int = 0
    _busy: int = 0

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.headers.append(request.headers)
        if request.url.path.endswith("/v1/models"):
            self.listed.append(now())
            if isinstance(self.models, Exception):
                raise self.models
            if isinstance(self.models, httpx2.Response):
                return self.models
            return httpx2.Response(200, json=self.models)
        assert request.url.path.endswith("/v2/models/coast/infer"), request.url
        body = await request.aread()
        head = json.loads(body[: int(request.headers[LENGTH])])
        (image,) = head["inputs"]
        assert (image["shape"], image["datatype"]) == ([1, *SIZE, 3], "UINT8")
        pixels = body[int(request.headers[LENGTH]) :]
        assert len(pixels) == image["parameters"]["binary_data_size"] == 3 * SIZE[0] * SIZE[1]
        self.asked.append((now(), pixels[0]))
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        try:
            return await self.script(pixels[0])
        finally:
            self._busy -= 1

    @property
    def windows(self) -> list[int]:
        return [number for _, number in self.asked]


class Fleet(dict[str, Scripted]):
    """Servers by the names of their hosts."""

    def __init__(self, *hosts: str) -> None:
        super().__init__({host: Scripted() for host in hosts})

    def servers(
        self, task: str = "segment", model: str | None = "coast", **options: Any
    ) -> Servers:
        async def answer(request: httpx2.Request) -> httpx2.Response:
            return await self[request.url.host].answer(request)

        urls = [f"http://{host}" for host in self]
        query = options.pop("query", {})
        transport = httpx2.MockTransport(answer)
        return Servers(urls, model, task, query, transport=transport, **options)

    async def answers(self, count: int, **options: Any) -> float:
        """Ask about so many windows at once, check all answers; the seconds that it took."""
        async with self.servers(**options) as servers:
            await servers.described()
            began = now()
            found = await asyncio.gather(*(servers.ask(window(i)) for i in range(count)))
            for i, scores in enumerate(found):
                np.testing.assert_array_equal(scores, scores_of(i))
                assert scores.dtype == np.float32
            return now() - began

    def times(self) -> Counter[int]:
        """How often each window was sent."""
        return Counter(number for server in self.values() for number in server.windows)


async def dead(number):
    raise httpx2.ConnectError("All connection attempts failed")


def always(answer):
    """A script that gives one answer."""

    async def script(number):
        return answer

    return script


def after(count, then, first=fine):
    """Does something else from a window on."""
    left = count

    async def script(number):
        nonlocal left
        left -= 1
        return await (first if left >= 0 else then)(number)

    return script


def changed(**members):
    return {"models": [MODEL | members]}


def refused(fleet, count=1, **options):
    with pytest.raises(Refused) as caught:
        run(fleet.answers(count, **options))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)
