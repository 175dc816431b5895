"""Asks vimserve servers about the windows of a scene, over HTTP."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import httpx2
from pydantic import SecretStr

from vimserve.model.transform import Transform
from vimserve.server.config.settings import HTTP_URL
from vimserve.server.routes.native.models import ModelInfo
from vimserve.server.scenes.described import Described
from vimserve.server.scenes.join import RGB
from vimserve.server.scenes.remote.answers import ASKING, described, samples_of
from vimserve.server.scenes.remote.pool import Pool
from vimserve.server.scenes.remote.server import ANSWER_S, Server
from vimserve.server.scenes.remote.tensors import request_of
from vimserve.server.scenes.remote.trouble import Refused, Trouble

# Enough that a server has a batch to run while the next windows travel.
IN_FLIGHT = 8
# So many servers may fail at a window before it is the window that is to blame.
FAILURES = 10
CONNECT_S = 10.0
# In what models may differ, and what that is called; the first one tells most.
_SAME = {
    "name": "name",
    "labels": "classes",
    "palette": "colours of the classes",
    "identity": "weights, their precision or the preprocessing",
}


class Servers:
    """Servers that share the windows.

    One that fails or has too much to do is left alone for a while; its windows go to another. One
    that failed has to show that its model is still the same before it gets the next window.

    Args:
        urls: of the servers, ``http://`` or ``https://``, with a path if they have one.
        model: name of the model; None for the first that can do the task.
        task: one of ``TASKS``.
        query: what the model is asked, by the names of the task's query; ``range`` and ``bands``
            were chosen already.
        key: API key, which all servers get.
        in_flight: most windows that a server has at a time.
        transport: takes the place of the network.

    Attributes:
        at_once: windows that all servers together have at a time.

    Raises:
        ValueError: if a URL is none.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str | None,
        task: str,
        query: Mapping[str, Any],
        *,
        key: SecretStr | None = None,
        in_flight: int = IN_FLIGHT,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        headers = {"Accept-Encoding": "identity"}  # scores hardly get smaller
        if key is not None:
            headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(ANSWER_S, connect=CONNECT_S),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            follow_redirects=False,
            transport=transport,
        )
        self._servers = [Server(url, self._client) for url in dict.fromkeys(map(_checked, urls))]
        self._pool = Pool(self._servers, in_flight)
        self.at_once = in_flight * len(self._servers)
        self._model, self._task, self._asking = model, task, ASKING[task]
        self._query = {name: value for name, value in query.items() if value is not None}
        self._parameters = {
            "timeout": int(ANSWER_S * 1e6),
            **{k: v for k, v in self._query.items() if k not in self._asking.without},
            **self._asking.parameters,
        }
        self._known: ModelInfo  # which all servers must have, once it was asked for

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def described(self) -> Described:
        """The model, which must be the same on all servers.

        Raises:
            Refused: a server gives no answer, has no such model, or not the one of the first.
        """
        limits: list[int] = []
        for server in self._servers:
            try:
                model = await server.model(self._model, self._task)
            except Trouble as trouble:
                raise Refused(f"{server.url}: {trouble}") from trouble
            if not limits:
                self._known = model
            self._check(server, model)
            limits.append(model.max_resolution)
        return described(self._known, min(limits))

    @property
    def samples(self) -> Transform:
        """The range and the bands that the model was given; after ``described``.

        Raises:
            Refused: if the servers have other ranges than this version knows.
        """
        return samples_of(self._known)

    async def ask(self, picture: RGB) -> Any:
        """What the model makes of a picture, on whichever server; after ``described``.

        Args:
            picture: uint8 ``[H, W, 3]``.

        Returns:
            A segmenter's scores, float32 ``[classes, h, w]``; what a detector ``Detected``; or a
            classifier's probabilities, float32 ``[classes]``.

        Raises:
            Refused: the servers refuse it, or none gives an answer.
        """
        height, width, _ = picture.shape
        outputs = self._asking.outputs(self._known, self._query)
        body, headers = request_of(picture, outputs, self._parameters)
        read = partial(self._asking.read, self._known, (height, width))
        failures: list[str] = []
        while len(failures) < FAILURES:
            async with self._pool.turn() as server:
                try:
                    if server.suspect:
                        self._check(server, await server.model(self._model, self._task))
                    result = await server.infer(self._known.name, body, headers, read)
                except Trouble as trouble:
                    # Not the window's, if the server could not even name its models.
                    if trouble.failed and not server.suspect:
                        failures.append(f"{server.url}: {trouble}")
                    server.pause(trouble, asyncio.get_running_loop().time())
                else:
                    server.recover()
                    return result
        raise Refused(
            f"servers failed {FAILURES} times at one window, the last time {failures[-1]}"
        )

    def _check(self, server: Server, model: ModelInfo) -> None:
        """The server may be asked, if it has the model of the first.

        Raises:
            Refused: it has another one.
        """
        for member, words in _SAME.items():
            if getattr(model, member) != getattr(self._known, member):
                raise Refused(
                    f"{self._servers[0].url} and {server.url} do not have the same model "
                    f"{self._known.name!r}: they differ in the {words}"
                )
        server.suspect = False


def _checked(url: str) -> str:
    if not HTTP_URL.fullmatch(url):
        raise ValueError(
            "--server must be http://HOST:PORT or https://HOST:PORT, with a path if it has one, "
            f"not {url.rpartition('@')[2]!r}; an API key is in the variable VIMSERVE_API_KEY"
        )
    return url.rstrip("/")
