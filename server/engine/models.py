"""The served models: loading, adding and removing them."""

import asyncio
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from vimserve.model.spec import ModelSpec
from vimserve.server.config import ServerConfig
from vimserve.server.engine import loading
from vimserve.server.engine.backlog import Backlog
from vimserve.server.engine.loading import Loaded, Measured, Served, Status
from vimserve.server.engine.promise import call_soon, promise
from vimserve.server.engine.request import Req
from vimserve.server.engine.runner import Runner
from vimserve.server.engine.turns import Turns
from vimserve.server.engine.worker import Worker
from vimserve.server.errors import ModelUnavailable, UnknownModel, WrongTask
from vimserve.server.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from concurrent.futures import Future

logger = logging.getLogger(__name__)


class Models(Mapping[str, Served]):
    """The served models by name, the default first. Only for the event loop's thread.

    Args:
        specs: the first models; ``load`` makes them ready.
        config: the device, and what a batch may take of it.
        worker: warms the models up and runs them.
        backlog: the queue of their requests.
        metrics: lists them.

    Attributes:
        repository: the first models, served or not, which can be added again.

    Raises:
        ValueError: if two models have the same name.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        config: ServerConfig,
        worker: Worker,
        backlog: Backlog[Req],
        metrics: Metrics,
    ) -> None:
        self.repository = {spec.name: spec for spec in specs}
        self._served = {name: Served(spec) for name, spec in self.repository.items()}
        if len(self._served) < len(specs):
            raise ValueError(
                f"every model needs a different name, not {', '.join(spec.name for spec in specs)}"
            )
        self._config = config
        self._worker = worker
        self._backlog = backlog
        self._metrics = metrics
        self._builders: set[threading.Thread] = set()
        self._turns = Turns()

    def __getitem__(self, name: str) -> Served:
        return self._served[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._served)

    def __len__(self) -> int:
        return len(self._served)

    @property
    def building(self) -> bool:
        """Whether a thread still reads weights."""
        return any(thread.is_alive() for thread in self._builders)

    def spec(self, model: str | None, task: str) -> ModelSpec:
        """The model of that name, or the first for the task.

        Raises:
            UnknownModel: if no model of that name is served; with the names that are.
            WrongTask: if the model has another task, or no served model has this one; with the
                names of those that have it.
        """
        able = [name for name, served in self.items() if served.spec.task == task]
        name = self.default(task) if model is None else model
        spec = self.find(name).spec
        if spec.task != task:
            raise WrongTask(
                f"model {name!r} {does(spec.task)}; it cannot {task}: "
                f"{', '.join(able) or 'no served model'} can",
                parameter="model",
                limit=able,
                value=name,
            )
        return spec

    def default(self, task: str | None = None) -> str:
        """The first model for the task, or for any.

        Raises:
            UnknownModel: if no model is served.
        """
        able = [name for name, served in self.items() if task in (None, served.spec.task)]
        if not self:
            raise UnknownModel("no model is served", parameter="model", limit=[])
        return next(iter(able or self))

    def loaded(self, model: str) -> Loaded:
        """The model, for a new request.

        Raises:
            UnknownModel: with the names that are served.
            ModelUnavailable: if it could not be loaded, is loading or is being removed.
        """
        served = self.find(model)
        if served.loaded is not None and served.status is Status.READY:
            return served.loaded
        reason = f"could not be loaded: {served.detail}" if served.detail else f"is {served.status}"
        raise ModelUnavailable(
            f"model {model!r} {reason}",
            parameter="model",
            limit=[name for name, other in self.items() if other.status is Status.READY],
            value=model,
        )

    async def load(self) -> None:
        """Load the models that are not ready: weights side by side, then measure them one by one.

        Their batches and CUDA graphs share the memory that is left beside all weights.

        Raises:
            Exception: the first failure; with ``allow_partial``, only if all models failed.
        """
        new = [served for served in self.values() if served.status is Status.LOADING]
        runners = await asyncio.gather(
            *(self._build(served.spec) for served in new), return_exceptions=True
        )
        failures: list[Exception] = []

        def fail(served: Served, error: BaseException) -> None:
            served.status, served.detail = Status.FAILED, f"{type(error).__name__}: {error}"
            if not (self._config.allow_partial and isinstance(error, Exception)):
                raise error
            logger.error("model %s cannot be served: %s", served.spec.name, error)
            failures.append(error)

        async with self._turns.alone():
            measured: dict[str, Measured] = {}
            for served, runner in zip(new, runners, strict=True):
                try:
                    if isinstance(runner, BaseException):
                        raise runner
                    measured[served.spec.name] = await self._measure(runner)
                except Exception as error:
                    fail(served, error)
            for name, loaded in (await self._admit(measured)).items():
                if isinstance(loaded, Exception):
                    fail(self[name], loaded)
        if failures and len(failures) == len(new):
            raise failures[0]

    async def add(self, spec: ModelSpec) -> None:
        """Serve one more model. The others keep answering, except while it warms up.

        Raises:
            ValueError: if a model of that name is served.
            Exception: if it cannot be loaded; then it is not served.
        """
        if spec.name in self:
            raise ValueError(f"a model {spec.name!r} is served already")
        self._served[spec.name] = Served(spec)
        in_order = dict.fromkeys((*self.repository, *self))
        self._served = {name: self[name] for name in in_order if name in self}
        try:
            runner = await self._build(spec)
            async with self._turns.alone():
                admitted = await self._admit({spec.name: await self._measure(runner)})
            if isinstance(error := admitted[spec.name], Exception):
                raise error
        except BaseException:
            del self._served[spec.name]
            raise

    async def reload(self, model: str, spec: ModelSpec | None = None) -> None:
        """Read a model's weights again, or a ``spec`` of the same architecture; it keeps answering.

        No request is refused, and each is answered by the old weights or by the new ones, never by
        both. For a moment the device holds both.

        Raises:
            UnknownModel: with the names that are served.
            ModelUnavailable: if it is loading or being removed.
            Exception: if the weights cannot be loaded; then the old ones stay.
        """
        self.loaded(model)
        runner = await self._build(spec or self[model].spec)
        async with self._turns.alone():
            old = self.loaded(model)
            call = self._worker.call(lambda: loading.with_weights(old, runner, self._config))
            new = await asyncio.wrap_future(call)
            async with old.turns.alone():
                self.loaded(model)
                # In the worker's thread, which alone looks at its models.
                swap = self._worker.call(lambda: self._worker.models.update({model: new}))
                await asyncio.wrap_future(swap)
                self[model].spec, self[model].loaded = runner.spec, new

    async def remove(self, model: str) -> None:
        """Remove a model once its accepted requests are answered.

        Raises:
            UnknownModel: with the names that are served.
            ModelUnavailable: if it is loading or being removed.
        """
        served = self.find(model)
        if served.status is not Status.FAILED:
            self.loaded(model)
            served.status = Status.UNLOADING
            await asyncio.wrap_future(self._backlog.retire(model))
            served.loaded = None

            def forget() -> None:
                # In the worker's thread, so that no graph is destroyed while another is recorded.
                del self._worker.models[model]

            await asyncio.wrap_future(self._worker.call(forget))
            self._metrics.forget_model(model)
        del self._served[model]

    def find(self, name: str) -> Served:
        """The model of that name.

        Raises:
            UnknownModel: with the names that are served.
        """
        if name not in self:
            raise UnknownModel(
                f"no model {name!r} is served; choose one of {', '.join(self)}",
                parameter="model",
                limit=list(self),
                value=name,
            )
        return self[name]

    async def _build(self, spec: ModelSpec) -> Runner:
        """Read the weights in a daemon thread, so that the process can end meanwhile."""
        await self._turns.begin_loading()
        runner: Future[Runner] = promise()

        def build() -> None:
            try:
                runner.set_result(Runner(spec, self._config))
            except BaseException as error:
                runner.set_exception(error)

        # Not when the waiter ends, which may give up before the thread does.
        loop = asyncio.get_running_loop()
        runner.add_done_callback(lambda _: call_soon(loop, self._turns.end_loading))
        self._builders = {thread for thread in self._builders if thread.is_alive()}
        thread = threading.Thread(target=build, name=f"load {spec.name}", daemon=True)
        self._builders.add(thread)
        thread.start()
        return await asyncio.wrap_future(runner)

    async def _measure(self, runner: Runner) -> Measured:
        call = self._worker.call(lambda: loading.warm_up(runner, self._config))
        return await asyncio.wrap_future(call)

    async def _admit(self, measured: Mapping[str, Measured]) -> dict[str, Loaded | Exception]:
        """Let the models answer; in place of one that cannot, why."""
        if not measured:
            return {}
        there = [served.loaded.batch_bytes for served in self.values() if served.loaded]

        def admit_all() -> dict[str, Loaded | Exception]:
            results = loading.admit([*measured.values()], self._config, max(there, default=0))
            admitted = dict(zip(measured, results, strict=True))
            self._worker.models |= {
                name: loaded for name, loaded in admitted.items() if isinstance(loaded, Loaded)
            }
            return admitted

        admitted = await asyncio.wrap_future(self._worker.call(admit_all))
        for name, loaded in admitted.items():
            if isinstance(loaded, Loaded):
                served, device = self[name], str(loaded.runner.device)
                self._metrics.show_model(served.spec, device, self._config.model_dtype)
                self._backlog.add(name, loaded.budget)
                served.loaded, served.status = loaded, Status.READY
        return admitted


def does(task: str) -> str:
    """The verb that names a task in the third person: ``classify`` to ``classifies``."""
    return f"{task[:-1]}ies" if task.endswith("y") else f"{task}s"
