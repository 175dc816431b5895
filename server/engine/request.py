"""The nouns of the engine: a request for one image, the batch that carries it, the answer."""

import asyncio
from dataclasses import dataclass

from torch import Tensor

from model.batch import PackedBatch


@dataclass(frozen=True, eq=False)
class Batch:
    """What a request learns of the batch that carried it."""

    images: int
    tokens: int
    inference_s: float


@dataclass(frozen=True, eq=False)
class Answer:
    """Class scores before softmax, float32 ``[classes]`` on the CPU."""

    logits: Tensor
    batch: Batch


@dataclass(eq=False)
class Req:
    """One image on its way through the engine; times are seconds of the monotonic clock."""

    # Filled in by the server.
    model: str
    image: PackedBatch
    tokens: int
    deadline: float

    # Filled in by the engine.
    arrived: float
    answer: asyncio.Future[Answer]

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.answer.cancelled()
