"""Builds the FastAPI application from its parts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from vimserve import __version__
from vimserve.model.catalog import resolve
from vimserve.model.spec import ModelSpec
from vimserve.server.config import ServerConfig
from vimserve.server.engine.engine import Engine
from vimserve.server.engine.probe import SharedProbe
from vimserve.server.http.api_key import RequireKey, read_keys
from vimserve.server.http.cors import allow_origins
from vimserve.server.http.drain import Drain
from vimserve.server.http.head import HeadAsGet
from vimserve.server.http.jobs.jobs import Jobs
from vimserve.server.http.openapi import ALWAYS_OPEN, openapi, operation_id
from vimserve.server.http.problems import add_error_handlers
from vimserve.server.http.root_path import BelowPrefix, check_prefix
from vimserve.server.pipeline import Pipeline
from vimserve.server.routes import compare, health, hugging_face, native, open_inference, playground
from vimserve.server.telemetry.gpu_memory import GpuMemory
from vimserve.server.telemetry.metrics import DeviceBusy, JobsHeld, Metrics
from vimserve.server.telemetry.observe import Observe
from vimserve.server.telemetry.tracing import Tracing, tracing_of


def create_app(
    config: ServerConfig,
    specs: Sequence[ModelSpec] | None = None,
    on_failure: Callable[[], None] = lambda: None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Build the application; it answers /healthz and /readyz while its models load.

    Args:
        config: all settings.
        specs: the models to serve; by default those of ``config.model``.
        on_failure: called when a model cannot be loaded; ``app.state.engine.failure`` says why.
        tracing: what traces the requests; by default what the settings name.

    Raises:
        ValueError, CheckpointError: as ``model.catalog.resolve``, ``read_keys``, ``tracing_of``.
    """
    keys = read_keys(config)
    tracing = tracing or tracing_of(config)
    metrics, drain = Metrics(), Drain(config.drain_timeout)
    if config.device.startswith("cuda"):
        metrics.registry.register(GpuMemory(config.device))
    engine = Engine(specs or [resolve(name) for name in config.model], config, metrics, on_failure)
    metrics.registry.register(DeviceBusy(engine.busy_seconds))
    pipeline = Pipeline(config, engine, metrics)
    jobs = Jobs(config, metrics, drain)
    metrics.registry.register(JobsHeld(jobs.count))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        jobs.close()
        await engine.stop(drain.left_s)
        pipeline.close()
        await asyncio.to_thread(tracing.close, drain.left_s)

    # Its /docs loads everything from this server; ReDoc would load a picture from elsewhere.
    app = FastAPIOffline(
        title="vimserve",
        version=__version__,
        lifespan=lifespan,
        generate_unique_id_function=operation_id,
        redoc_url=None,
        **tracing.options(config.root_path),
    )
    app.state.engine, app.state.pipeline, app.state.metrics = engine, pipeline, metrics
    app.state.drain, app.state.tracing, app.state.jobs = drain, tracing, jobs
    app.state.probe = SharedProbe(engine.probe, config.request_timeout)
    add_middleware(app, config, keys)
    add_error_handlers(app, metrics)
    for dialect in (native, compare, hugging_face, open_inference, health):
        app.include_router(dialect.router)
    app.openapi = partial(openapi, app)  # type: ignore[method-assign]
    if config.playground:
        app.include_router(playground.router)
    if config.root_path:
        undocumented = sorted(playground.PATHS) if config.playground else []
        check_prefix(config.root_path, [*app.openapi()["paths"], *undocumented])
    return app


def add_middleware(app: FastAPI, config: ServerConfig, keys: Sequence[str]) -> None:
    """Add it from the inside out; ``app.state`` has ``metrics``, ``drain`` and ``tracing``."""
    metrics = app.state.metrics
    app.add_middleware(HeadAsGet)
    if keys:
        open_paths = {*ALWAYS_OPEN, *(["/metrics"] if config.public_metrics else [])}
        if config.playground:
            open_paths |= playground.PATHS
        app.add_middleware(RequireKey, keys=keys, metrics=metrics, open_paths=open_paths)
    if config.cors_origin:  # outside of the keys, because a browser first asks without one
        allow_origins(app, config.cors_origin)
    app.add_middleware(Observe, metrics=metrics, drain=app.state.drain)
    app.state.tracing.add_to(app)
    if config.root_path:
        app.add_middleware(BelowPrefix, prefix=config.root_path)
