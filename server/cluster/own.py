"""What the router answers itself: whether there are replicas, and the metrics of all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from vimserve.server.cluster.directory import Directory
from vimserve.server.cluster.metrics import ClusterMetrics, Counts, Scrape
from vimserve.server.cluster.standing import Standing
from vimserve.server.cluster.upstream import Unreachable, Upstream
from vimserve.server.engine.engine import State
from vimserve.server.errors import ServerError
from vimserve.server.http.drain import Drain

# Seconds that a replica has for its metrics.
SCRAPE_S = 5.0
_OPEN_METRICS = (b"accept", b"application/openmetrics-text; version=1.0.0")
_NOTHING = "# EOF\n"

Answers = Mapping[str, Callable[[Request], Awaitable[Response]]]
Counted = Callable[[], Awaitable[Counts]]


class Own:
    """Answers of the router, as a single server has them.

    Args:
        models: names of those that are to be served.
        directory: knows the replicas.
        upstream: connects to them.
        metrics: of the router.
        drain: tells whether the router stops.
        prefix: of all paths, as the replicas have it.
        counted: how many replicas there are, by group and state.

    Attributes:
        answers: to GET, by path.
    """

    def __init__(
        self,
        models: Sequence[str],
        directory: Directory,
        upstream: Upstream,
        metrics: ClusterMetrics,
        drain: Drain,
        prefix: str,
        counted: Counted,
    ) -> None:
        self._models = models
        self._directory = directory
        self._upstream = upstream
        self._metrics = metrics
        self._drain = drain
        self._path = f"{prefix}/metrics"
        self._counted = counted
        self.answers: Answers = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            "/metrics": self._metrics_of_all,
        }

    def _statuses(self) -> dict[str, State]:
        """Of all models but those that clients have unloaded."""
        there = {name for one in self._directory.ready for name in one.models}
        missing = {name for name in self._models if not self._directory.placed(name)}
        return {
            name: State.READY if name in there else State.LOADING
            for name in self._models
            if name in there | missing
        }

    @property
    def _state(self) -> State:
        if self._drain.stopping:
            return State.STOPPING
        return State.LOADING if State.LOADING in self._statuses().values() else State.READY

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"status": "alive", "detail": "alive"})

    async def _readyz(self, _request: Request) -> Response:
        models = {name: {"status": status} for name, status in self._statuses().items()}
        return JSONResponse({"status": self._state, "models": models}, self._code)

    async def _live(self, _request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, _request: Request) -> Response:
        return JSONResponse({"ready": self._state is State.READY}, self._code)

    @property
    def _code(self) -> int:
        return 200 if self._state is State.READY else 503

    async def _metrics_of_all(self, request: Request) -> Response:
        key = request.headers.get("authorization", "").encode("latin-1")
        standings = [*self._directory.all]
        counts, texts = await asyncio.gather(
            self._counts(), asyncio.gather(*(self._text(one, key) for one in standings))
        )
        registry = CollectorRegistry()
        of_replicas = {one.replica: text for one, text in zip(standings, texts, strict=True)}
        registry.register(Scrape(self._metrics, standings, counts, of_replicas))
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type, "Vary": "Accept"})

    async def _counts(self) -> Counts:
        with suppress(Exception):  # who counts them is away; what runs goes on
            return await self._counted()
        return {}

    async def _text(self, one: Standing, key: bytes) -> str:
        headers = [_OPEN_METRICS, *([(b"authorization", key)] if key else [])]
        with suppress(Unreachable, ServerError, TimeoutError):
            answer = await self._upstream.get(one.address, self._path, headers, SCRAPE_S)
            if answer.status == 200:
                return answer.body.decode()
        return _NOTHING
