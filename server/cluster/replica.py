"""A replica: the whole server of one device, behind routers."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vimserve.model.catalog import resolve
from vimserve.model.spec import ModelSpec
from vimserve.model.threads import use_threads
from vimserve.server.app import create_app
from vimserve.server.cluster.standing import EVERY_S, Standing
from vimserve.server.config import ServerConfig
from vimserve.server.engine.models import Models
from vimserve.server.http.server import Server, http_server
from vimserve.server.routes.dependencies import WAITED_S

# How long a request had waited at a router, in milliseconds.
WAITED = "X-Vimserve-Waited-Ms"
# A server that stops listens for so long, until every router knows it.
LEAVE_S = 4 * EVERY_S
START_S = 0.01

logger = logging.getLogger(__name__)


class Replica:
    """Runs the same server as ``vimserve serve``, and says again and again how it is.

    Args:
        name: tells it from others.
        group: the name of its group.
        config: the settings; its models are those of ``serve``.
        host: address of this machine at which routers reach it.
        publish: gets its standings.
    """

    def __init__(
        self,
        name: str,
        group: str,
        config: ServerConfig,
        host: str,
        publish: Callable[[Standing], Awaitable[None]],
    ) -> None:
        self._name = name
        self._group = group
        self._config = config
        self._host = host
        self._publish = publish
        self._beat = 0
        self._tally = Tally()
        self._server: Server | None = None

    async def serve(self, models: Sequence[str]) -> None:
        """Serve these models, as ``--model`` has them, instead of those before; return once ready.

        Models of the same name and architecture keep answering while their new weights are read.

        Raises:
            ValueError, OSError, ServerError: a model cannot be loaded.
        """
        specs = [await asyncio.to_thread(resolve, model) for model in models]
        if self._server is None:
            await self._start(specs)
        else:
            await _change(self._engine.models, specs)

    def check_health(self) -> None:
        """Tell whether the device still answers.

        Raises:
            RuntimeError: if it does not.
        """
        if self._server is not None and not (health := self._engine.health()).ok:
            raise RuntimeError(health.detail)

    @property
    def queued_seconds(self) -> float:
        """Until the device has run what it has to do."""
        return self._engine.work().seconds if self._server is not None else 0.0

    async def stop(self) -> None:
        """Answer what was accepted, once no router sends more."""
        if self._server is None:
            return
        self._app.state.drain.begin()
        await self._say()
        await asyncio.sleep(min(LEAVE_S, self._app.state.drain.left_s))
        self._server.should_exit = True
        await self._serving
        self._speaking.cancel()

    async def _start(self, specs: Sequence[ModelSpec]) -> None:
        use_threads(self._config.threads)
        listener = socket.create_server((self._host, 0), backlog=2048)
        self._address = f"{self._host}:{listener.getsockname()[1]}"
        self._app = create_app(self._config, specs)
        self._engine = self._app.state.engine
        self._app.add_middleware(Taken, tally=self._tally)
        server = http_server(self._app)
        self._serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                await asyncio.sleep(START_S)
            await self._engine.ready()
        except BaseException:
            server.should_exit = True
            await self._serving
            raise
        self._server = server
        self._speaking = asyncio.create_task(self._speak())

    async def _speak(self) -> None:
        while True:
            with suppress(Exception):  # who listens is away, and will hear the next word
                await self._say()
            await asyncio.sleep(EVERY_S)

    async def _say(self) -> None:
        self._beat += 1
        work = self._engine.work()
        state = self._app.state
        await self._publish(
            Standing(
                self._name,
                self._group,
                self._address,
                state.jobs.mark,
                self._beat,
                {} if state.drain.stopping else dict(work.speeds),
                work.tokens,
                work.seconds,
                self._tally.taken,
                state.drain.stopping,
                {
                    name: served.loaded.runner.identity
                    for name, served in self._engine.models.items()
                    if served.loaded is not None
                },
            )
        )


@dataclass
class Tally:
    """How many requests routers have sent."""

    taken: int = 0


class Taken:
    """ASGI middleware that counts what routers send, and knows since when it waits."""

    def __init__(self, app: ASGIApp, tally: Tally) -> None:
        self.app = app
        self.tally = tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            self.tally.taken += scope["method"] == "POST"
            waited = Headers(scope=scope).get(WAITED, "")
            if waited.isdecimal():
                scope[WAITED_S] = int(waited) / 1000
        await self.app(scope, receive, send)


async def _change(models: Models, specs: Sequence[ModelSpec]) -> None:
    """Serve these models instead of those that are served."""
    wanted = {spec.name: spec for spec in specs}
    for name in [*models]:
        if name not in wanted or models[name].spec.config != wanted[name].config:
            await models.remove(name)
    models.repository = wanted
    for name, spec in wanted.items():
        if name in models:
            await models.reload(name, spec)
        else:
            await models.add(spec)
        logger.info("model %s is as it was asked for now", name)
