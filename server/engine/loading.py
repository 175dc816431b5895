"""A served model's states, its warm-up, the measurement of its memory and its share of it."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from vimserve.model.device_memory import PeakMeter, release_unused, usage
from vimserve.model.spec import ModelSpec
from vimserve.server.config import ServerConfig
from vimserve.server.engine.memory import MemoryModel, Sample, fit
from vimserve.server.engine.model_queue import Budget
from vimserve.server.engine.plan import Demand, largest_batch, room, table
from vimserve.server.engine.runner import Runner
from vimserve.server.engine.turns import Turns
from vimserve.server.errors import ImageTooLarge

logger = logging.getLogger(__name__)

# A larger batch only takes longer, because the device is already full.
ENOUGH_TOKENS = {"cpu": 8192, "cuda": 65_536}
# Sides of the measured images, in pixels. Larger images improve the fit; a model whose attention
# takes memory with the square of the tokens needs three.
MEASURED_SIDES = (224, 384, 512, 1024)
LEAST_SAMPLES = 3
# Beside what a detector's second stage takes, smaller ones would not tell what a token takes.
DETECTORS_SIDES = (224, 512, 1024)
MEASURED_ENOUGH_S = 1.0


class Status(StrEnum):
    """A model's lifecycle state."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADING = "unloading"


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model that is ready to answer.

    Attributes:
        runner: the model on its device.
        memory: predicts the device memory of a batch above the weights.
        budget: limits of one batch; its bytes exclude ``memory.base``.
        available_bytes: what all batches that run at a time may take together.
        turns: whoever waits for answers does so ``together``; its weights change ``alone``.
    """

    runner: Runner
    memory: MemoryModel
    budget: Budget
    available_bytes: int
    turns: Turns = field(default_factory=Turns)

    @property
    def batch_bytes(self) -> int:
        """What its largest batch takes."""
        return self.memory.base + (self.budget.memory_bytes or 0)

    def predict_peak(self, lengths: Sequence[int]) -> int:
        """Bytes of the largest batch that images of ``lengths`` tokens make without others'."""
        limit = math.inf if self.budget.memory_bytes is None else self.budget.memory_bytes
        taken = num_bytes = most = 0
        for tokens in lengths:
            cost = self.memory.cost(tokens)
            if taken + tokens > self.budget.tokens or num_bytes + cost > limit:
                taken = num_bytes = 0
            taken, num_bytes = taken + tokens, num_bytes + cost
            most = max(most, num_bytes)
        return self.memory.base + most

    def check_fits(self, height: int, width: int, tokens: int) -> None:
        """Refuse an input that does not fit into a batch of its own.

        Raises:
            ImageTooLarge: with the tokens or bytes that it needs, and the limit.
        """
        if tokens > self.budget.tokens:
            raise ImageTooLarge(
                f"an input of {height}x{width} pixels has {tokens} tokens, more than the "
                f"{self.budget.tokens} of the largest batch; ask for a smaller resolution",
                limit=self.budget.tokens,
                value=tokens,
            )
        needed, available = self.memory.cost(tokens), self.budget.memory_bytes
        if available is not None and needed > available:
            raise ImageTooLarge(
                f"an input of {height}x{width} pixels needs {needed} bytes of memory, more than "
                f"the {available} available; ask for a smaller resolution",
                limit=available,
                value=needed,
            )


@dataclass(eq=False)
class Served:
    """A model that the server was asked to serve.

    Attributes:
        detail: why loading failed, if it did.
        loaded: the model, once it is ready.
    """

    spec: ModelSpec
    status: Status = Status.LOADING
    detail: str | None = None
    loaded: Loaded | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """A model that is compiled and measured, but has no share of the memory yet.

    Attributes:
        tokens: of the largest batch that is worth while.
    """

    runner: Runner
    memory: MemoryModel
    tokens: int
    demand: Demand


def warm_up(runner: Runner, config: ServerConfig) -> Measured:
    """Compile a model by running it, and measure it; nothing else may use the device meanwhile."""
    start = time.monotonic()
    runner.warm_up(config.max_resolution)
    memory = measure(runner)
    side = runner.largest_side(config.max_resolution)
    largest = runner.tokens(side, side)
    tokens = config.max_batch_tokens or max(largest, ENOUGH_TOKENS[runner.device.type])
    whole, rest = divmod(tokens, largest)
    demand = Demand(
        model=runner.spec.name,
        weights=runner.weight_bytes,
        batch=memory.predict([largest] * whole + [rest]),
        workspace=runner.workspace_bytes,
        graphs=config.cuda_graphs and runner.recordable,
    )
    logger.info(
        "model %s: warm after %.1f s, %.1f MB for 1,000 tokens",
        runner.spec.name, time.monotonic() - start, memory.predict([1000]) / 1e6,
    )  # fmt: skip
    return Measured(runner, memory, tokens, demand)


def with_weights(old: Loaded, runner: Runner, config: ServerConfig) -> Loaded:
    """The model with the weights of ``runner``, warm, within the limits that it has already.

    Nothing else may use the device meanwhile.
    """
    runner.module.warm_up()
    if config.cuda_graphs and runner.recordable:
        runner.record_graphs(
            old.budget.tokens, lambda lengths: old.memory.predict(lengths) <= old.batch_bytes
        )
    runner.run([runner.smallest()])
    return replace(old, runner=runner)


def admit(
    models: Sequence[Measured], config: ServerConfig, reserved: int
) -> list[Loaded | Exception]:
    """Share the device's memory among the models, and record their CUDA graphs.

    Nothing else may use the device meanwhile. The log gets the plan as a table.

    Args:
        models: on one device, their weights too.
        config: the fraction of the memory, and whether to record.
        reserved: bytes of the largest batch of models that were admitted before.

    Returns:
        For each model its limits, or why it cannot be served: a ``ValueError`` if there is not
        enough memory for its smallest batch.
    """
    device, fraction = models[0].runner.device, config.memory_fraction
    demands = [model.demand for model in models]
    most = largest_batch(demands, room(usage(device), fraction), reserved)
    pools, failures = [0] * len(models), dict[int, Exception]()
    for i, model in enumerate(models):
        if model.demand.graphs:
            before = usage(device).graphs
            try:
                _record(model, most)
            except Exception as error:
                failures[i] = error
            pools[i] = usage(device).graphs - before
    after = usage(device)
    logger.info("%s", table(demands, pools, after, fraction))
    left = room(after, fraction)
    return [failures.get(i) or _load(model, left) for i, model in enumerate(models)]


def _record(model: Measured, most: int) -> None:
    """Record graphs of the batches that were planned, and run one."""
    limit = math.inf if model.demand.batch <= most else most
    model.runner.record_graphs(model.tokens, lambda lengths: model.memory.predict(lengths) <= limit)
    # cuBLAS takes its workspace again, which would count as the first batch's memory.
    model.runner.run([model.runner.smallest()])


def _load(model: Measured, left: int) -> Loaded | Exception:
    try:
        budget = make_budget(model.memory, min(left, model.demand.batch), model.tokens)
    except ValueError as error:
        return error
    logger.info("model %s: batches up to %d tokens", model.runner.spec.name, budget.tokens)
    return Loaded(model.runner, model.memory, budget, left)


def make_budget(memory: MemoryModel, available: int, wanted_tokens: int) -> Budget:
    """The limits of a batch that may take ``available`` bytes.

    Raises:
        ValueError: if they do not suffice for a single token.
    """
    left = available - memory.base
    rest = left - memory.per_image
    fitting = int(rest / memory.per_token) if memory.per_token else wanted_tokens
    if rest < 0 or fitting < 1:
        raise ValueError(
            f"a batch may take {available} bytes of memory, but the smallest one needs "
            f"{memory.predict([1])}: free memory, or raise --memory-fraction"
        )
    return Budget(min(wanted_tokens, fitting), left)


def measure(runner: Runner) -> MemoryModel:
    """The model's memory model, fitted to forward passes over a few small images.

    They are noise, in which a detector finds so much that its second stage has all it can have.
    """
    samples: list[Sample] = []
    per_image = runner.module.image_bytes
    start = time.monotonic()
    for side in DETECTORS_SIDES if per_image else MEASURED_SIDES:
        if len(samples) >= LEAST_SAMPLES and time.monotonic() - start > MEASURED_ENOUGH_S:
            break
        image = runner.noise(runner.largest_side(side))
        release_unused(runner.device)
        with PeakMeter(runner.device) as meter:
            runner.run([image])
        samples.append(([image.tokens], meter.bytes))
    return fit(samples, quadratic=runner.spec.attention == "eager", per_image=per_image)
