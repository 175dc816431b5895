"""Builds the application at the address of a cluster, which ``server.cluster.ingress`` answers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI

from vimserve.model.spec import ModelSpec
from vimserve.server.app import add_middleware
from vimserve.server.cluster.directory import Directory
from vimserve.server.cluster.ingress import Ingress
from vimserve.server.cluster.metrics import ClusterMetrics
from vimserve.server.cluster.own import Counted, Own
from vimserve.server.cluster.standing import EVERY_S, Standing
from vimserve.server.cluster.upstream import Upstream
from vimserve.server.config import ServerConfig
from vimserve.server.http.api_key import read_keys
from vimserve.server.http.drain import Drain
from vimserve.server.http.problems import add_error_handlers
from vimserve.server.telemetry.tracing import Tracing

Hear = Callable[[], Awaitable[Sequence[Standing]]]

logger = logging.getLogger(__name__)


def create_cluster_app(
    config: ServerConfig,
    specs: Sequence[ModelSpec],
    hear: Hear,
    counted: Counted,
) -> FastAPI:
    """Build the application; it answers /healthz and /readyz while no replica is there.

    Args:
        config: the settings of every replica.
        specs: all models, the default one first.
        hear: what replicas have said last.
        counted: replicas by their group and what becomes of them, started ones that have not spoken
            yet included.

    Raises:
        ValueError: as ``read_keys``.
    """
    keys = read_keys(config)
    metrics, drain, upstream = ClusterMetrics(), Drain(config.drain_timeout), Upstream()
    directory = Directory(metrics)
    names = [spec.name for spec in specs]
    own = Own(names, directory, upstream, metrics, drain, config.root_path, counted)
    ingress = Ingress(specs, config, own.answers, directory, upstream, metrics, drain)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with upstream:
            listening = asyncio.create_task(_listen(hear, directory))
            yield
            listening.cancel()

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.state.drain, app.state.metrics, app.state.directory = drain, metrics, directory
    app.state.tracing = Tracing()  # the replicas trace
    app.mount("/", ingress)
    add_error_handlers(app, metrics)
    add_middleware(app, config, keys)
    return app


async def _listen(hear: Hear, directory: Directory) -> None:
    while True:
        try:
            directory.hear(await hear())
        except Exception as error:  # it restarts, and what is known holds meanwhile
            logger.warning("the registry of replicas does not answer: %s", error)
        await asyncio.sleep(EVERY_S)
