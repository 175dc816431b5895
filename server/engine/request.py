"""The nouns of the engine: a request for one image, the batch that carries it, the answer."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from vimserve.model.batch import PackedBatch
from vimserve.server.engine.urgency import Urgency


@dataclass(frozen=True, eq=False)
class Batch:
    """What a request learns of the batch that carried it."""

    images: int
    tokens: int
    inference_s: float
    peak_bytes: int

    @classmethod
    def sum_of(cls, batches: Collection[Self]) -> Self:
        """Several added up; of the peaks the highest."""
        return cls(
            images=sum(batch.images for batch in batches),
            tokens=sum(batch.tokens for batch in batches),
            inference_s=sum(batch.inference_s for batch in batches),
            peak_bytes=max(batch.peak_bytes for batch in batches),
        )


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model made of an image, on the CPU.

    Attributes:
        output: class scores before softmax, float32 ``[classes]``; of a model that segments the
            class map, uint8 ``[H, W]``, or, where none was asked for, the class scores that maps
            are made of, float32 ``[classes, h, w]``.
    """

    output: Tensor
    batch: Batch


@dataclass(frozen=True)
class Image:
    """One image as the engine takes it.

    Attributes:
        size: its (height, width) in pixels.
        patches: a batch of its patches.
        tokens: length of its sequence.
        map_size: (height, width) of the class map that a model which segments shall make.
    """

    size: tuple[int, int]
    patches: PackedBatch
    tokens: int
    map_size: tuple[int, int] | None = None


@dataclass(eq=False)
class Req:
    """One image on its way through the engine; times are seconds of the monotonic clock."""

    # Filled in by the server.
    model: str
    image: Image
    urgency: Urgency

    # Filled in by the engine.
    request_id: str
    cost_bytes: int
    arrived: float
    answer: asyncio.Future[Answer]

    @property
    def tokens(self) -> int:
        """Length of its sequence."""
        return self.image.tokens

    @property
    def deadline(self) -> float:
        """When it leaves the queue unanswered."""
        return self.urgency.deadline

    @property
    def priority(self) -> int:
        """Its place among those that wait."""
        return self.urgency.priority

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for the answer."""
        return not self.answer.done()
