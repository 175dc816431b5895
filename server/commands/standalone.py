"""Models that run in this process, without a server."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from vimserve.model.spec import ModelSpec
from vimserve.server.config import Config, ServerConfig
from vimserve.server.engine.engine import Engine
from vimserve.server.pipeline import Pipeline
from vimserve.server.telemetry.metrics import Metrics


@asynccontextmanager
async def standalone(config: Config, specs: Sequence[ModelSpec]) -> AsyncIterator[Pipeline]:
    """What answers, with the models loaded, for the time of the context.

    Raises:
        ValueError: if a model cannot be loaded.
    """
    # There is a single client, and it waits: no queue limit is needed.
    settings = config.model_dump() | {"max_queue_tokens": sys.maxsize}
    server, metrics = ServerConfig.from_flags(settings), Metrics()
    engine = Engine(specs, server, metrics)
    pipeline = Pipeline(server, engine, metrics)
    engine.start()
    try:
        await engine.ready()
        yield pipeline
    finally:
        await engine.stop(server.drain_timeout)
        pipeline.close()
