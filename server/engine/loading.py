"""A served model's states, its warm-up and the measurement of its memory."""

import logging
import time
from dataclasses import dataclass
from enum import StrEnum

from vimserve.model.device_memory import PeakMeter, free_bytes, release_unused
from vimserve.model.spec import ModelSpec
from vimserve.server.config import ServerConfig
from vimserve.server.engine.memory import MemoryModel, Sample, fit
from vimserve.server.engine.runner import Runner
from vimserve.server.engine.scheduler import Budget
from vimserve.server.errors import ImageTooLarge

logger = logging.getLogger(__name__)

# A larger batch only takes longer, because the device is already full.
ENOUGH_TOKENS = {"cpu": 8192, "cuda": 65_536}
# Sides of the measured images, in pixels. Larger images improve the fit; a model whose attention
# takes memory with the square of the tokens needs three.
MEASURED_SIDES = (224, 384, 512, 1024)
LEAST_SAMPLES = 3
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
    """

    runner: Runner
    memory: MemoryModel
    budget: Budget

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


def warm_up(runner: Runner, config: ServerConfig) -> Loaded:
    """Compile a model by running it, and measure it; nothing else may use the device meanwhile.

    Raises:
        ValueError: if there is not enough memory for the smallest batch.
    """
    start = time.monotonic()
    runner.warm_up(config.max_resolution)
    memory = measure(runner)
    available = int(free_bytes(runner.device) * config.memory_fraction)
    side = runner.largest_side(config.max_resolution)
    wanted = config.max_batch_tokens or max(
        runner.tokens(side, side), ENOUGH_TOKENS[runner.device.type]
    )
    budget = make_budget(memory, available, wanted)
    if config.cuda_graphs and runner.device.type == "cuda":
        runner.record_graphs(budget.tokens)
    logger.info(
        "model %s: warm after %.1f s, batches up to %d tokens, %.1f MB for 1,000 tokens, "
        "%.1f GB available to a batch",
        runner.spec.name, time.monotonic() - start, budget.tokens,
        memory.predict([1000]) / 1e6, available / 1e9,
    )  # fmt: skip
    return Loaded(runner, memory, budget)


def make_budget(memory: MemoryModel, available: int, wanted_tokens: int) -> Budget:
    """The limits of a batch that may take ``available`` bytes.

    Raises:
        ValueError: if they do not suffice for a single token.
    """
    left = available - memory.base
    fitting = int(left / memory.per_token) if memory.per_token else wanted_tokens
    if left < 0 or fitting < 1:
        raise ValueError(
            f"a batch may take {available} bytes of memory, but the smallest one needs "
            f"{memory.predict([1])}: free memory, or raise --memory-fraction"
        )
    return Budget(min(wanted_tokens, fitting), left)


def measure(runner: Runner) -> MemoryModel:
    """The model's memory model, fitted to forward passes over a few small images."""
    samples: list[Sample] = []
    start = time.monotonic()
    for side in MEASURED_SIDES:
        if len(samples) >= LEAST_SAMPLES and time.monotonic() - start > MEASURED_ENOUGH_S:
            break
        side = runner.largest_side(side)
        image = runner.black(side)
        release_unused(runner.device)
        with PeakMeter(runner.device) as meter:
            runner.run([image])
        samples.append(([image.tokens], meter.bytes))
    return fit(samples, quadratic=runner.spec.attention == "eager")
