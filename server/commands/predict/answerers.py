"""Who answers for the windows of a scene: a model of this process, or servers that have it."""

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from vimserve.model.catalog import resolve
from vimserve.model.transform import Transform
from vimserve.server.commands.predict.request import SceneRequest
from vimserve.server.commands.query_flags import able
from vimserve.server.commands.standalone import standalone
from vimserve.server.config import PredictConfig
from vimserve.server.engine.loading import Loaded
from vimserve.server.engine.urgency import Urgency
from vimserve.server.http.api_key import check_key
from vimserve.server.images.arrays import PixelArray
from vimserve.server.images.prepare import Measured
from vimserve.server.images.source import Size
from vimserve.server.pipeline import Pipeline
from vimserve.server.scenes import local
from vimserve.server.scenes.described import Described
from vimserve.server.scenes.join import RGB, Ask

# While two batches run and the results of another are joined, the next one is read.
BATCHES_AT_ONCE = 4


@dataclass(frozen=True)
class Answerer:
    """A model, here or on servers.

    Attributes:
        described: what a joiner has to know of it.
        samples: the range and the bands that it was given; other parts do not matter.
        answering: from the windows' (height, width) to a context in which it can be asked, and
            how many windows at once keep it busy.
    """

    described: Described
    samples: Transform
    answering: Callable[[Size], AbstractAsyncContextManager[tuple[Ask[Any], int]]]


def here(config: PredictConfig, request: SceneRequest) -> Answerer:
    """The model that does the task, in this process.

    Raises:
        ValueError: if there is not exactly one.
        InvalidParameter: if it cannot answer what it is asked.
    """
    chosen = able([resolve(name) for name in config.model], request.task)
    if len(chosen) > 1:
        raise ValueError(
            f"a scene is for one model, not for {', '.join(spec.name for spec in chosen)}"
        )
    (spec,) = chosen
    plan = local.plan_of(spec, request.query, config, request.form)

    async def ask(pipeline: Pipeline, model: Loaded, picture: RGB) -> Any:
        urgency = Urgency(time.monotonic(), timeout_s=math.inf, priority=1)
        completed = await pipeline.run(model, plan, [PixelArray(picture)], urgency, _result)
        return completed.results[0]

    @asynccontextmanager
    async def answering(extent: Size) -> AsyncIterator[tuple[Ask[Any], int]]:
        async with standalone(config, [spec]) as pipeline:
            model = pipeline.engine.loaded(spec.name)
            tokens = model.runner.tokens(*plan.transform.output_size(*extent))
            batch = max(model.budget.tokens // tokens, 1)
            yield partial(ask, pipeline, model), BATCHES_AT_ONCE * batch

    return Answerer(local.described(spec, config), spec.transform, answering)


def _result(_measured: Measured, result: Any) -> Any:
    return result


async def on_servers(config: PredictConfig, request: SceneRequest) -> Answerer:
    """The model that does the task, on the servers that the request names.

    Raises:
        ValueError: if there is not exactly one model, or the API key cannot be one.
        Refused: if the servers cannot answer.
    """
    # Not needed without servers, and large.
    from vimserve.server.scenes.remote import Servers
    from vimserve.server.scenes.remote.trouble import Refused

    model = None
    if "model" in config.model_fields_set:
        model, *others = config.model
        if others or "=" in model:
            raise ValueError(
                "with --server, --model is the name of one model that the servers have, not "
                f"{', '.join(config.model)}"
            )
    if config.api_key is not None:
        check_key(config.api_key.get_secret_value())
    query = {name: value for name, value in request.query.items() if name not in ("range", "bands")}
    servers = partial(
        Servers, request.flags.servers, model, request.task, query, key=config.api_key
    )
    async with servers() as some:
        described, samples = await some.described(), some.samples

    @asynccontextmanager
    async def answering(_extent: Size) -> AsyncIterator[tuple[Ask[Any], int]]:
        async with servers() as some:
            if await some.described() != described:
                raise Refused(f"the servers' model {described.name!r} was just changed")
            # The next windows are read while all servers are busy.
            yield some.ask, 2 * some.at_once

    return Answerer(described, samples, answering)
