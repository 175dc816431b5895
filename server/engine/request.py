"""The engine's data types: a request for one image, its batch and its answer."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from vimserve.model.batch import PackedBatch
from vimserve.model.served import Wanted
from vimserve.server.engine.urgency import Urgency
from vimserve.server.telemetry.tracing import NO_TRACE, Trace


@dataclass(frozen=True, eq=False)
class Batch:
    """Figures of the batch that carried a request."""

    images: int
    tokens: int
    inference_s: float
    peak_bytes: int

    @classmethod
    def sum_of(cls, batches: Collection[Self]) -> Self:
        """The sum of several batches, with the highest of their peaks."""
        return cls(
            images=sum(batch.images for batch in batches),
            tokens=sum(batch.tokens for batch in batches),
            inference_s=sum(batch.inference_s for batch in batches),
            peak_bytes=max(batch.peak_bytes for batch in batches),
        )


@dataclass(frozen=True, eq=False)
class Answer:
    """A model's output for one image, on the CPU.

    Attributes:
        output: of a classifier, class scores before softmax, float32 ``[classes]``. Of a
            segmenter, the class map, uint8 ``[H, W]``, or if none is wanted the class scores,
            float32 ``[classes, h, w]``. Of a detector, rows of ``model.detections``.
        batch: the batch that carried the image.
    """

    output: Tensor
    batch: Batch


@dataclass(frozen=True)
class Image:
    """One image as the engine takes it.

    Attributes:
        size: (height, width) in pixels.
        patches: its patches, as a batch of one image.
        tokens: length of its sequence.
        wanted: what the model shall return; see ``ServedModel.answer``.
    """

    size: tuple[int, int]
    patches: PackedBatch
    tokens: int
    wanted: Wanted | None = None


@dataclass(frozen=True)
class Part:
    """One of many parts of an image as the engine takes it.

    It is cut into patches when the device takes it, because the patches of parts that overlap are
    much more than the image.

    Attributes:
        size: (height, width) in pixels.
        cut: makes its patches, as a batch of one image; any thread may call it.
        tokens: length of its sequence.
        wanted: what the model shall return; see ``ServedModel.answer``.
    """

    size: tuple[int, int]
    cut: Callable[[], PackedBatch]
    tokens: int
    wanted: Wanted | None = None

    @property
    def patches(self) -> PackedBatch:
        """Its patches."""
        return self.cut()


@dataclass(eq=False)
class Req:
    """One image on its way through the engine; times are seconds of the monotonic clock."""

    # Filled in by the server.
    model: str
    image: Image | Part
    urgency: Urgency

    # Filled in by the engine.
    request_id: str
    cost_bytes: int
    arrived: float
    answer: asyncio.Future[Answer]
    trace: Trace = NO_TRACE

    # Filled in by the worker.
    started: bool = False

    @property
    def tokens(self) -> int:
        """Length of the image's sequence."""
        return self.image.tokens

    @property
    def deadline(self) -> float:
        """When the request expires."""
        return self.urgency.deadline

    @property
    def priority(self) -> int:
        """From 1, served first, to 9."""
        return self.urgency.priority

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for the answer."""
        return not self.answer.done()
