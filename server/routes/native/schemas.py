"""Schemas that the answers of all tasks share."""

from typing import Self

from pydantic import BaseModel, Field

from vimserve.server.engine.request import Batch
from vimserve.server.images.prepare import Measured
from vimserve.server.pipeline import Stages


class ModelInput(BaseModel):
    """What the model saw of an image."""

    height: int = Field(description="pixels")
    width: int = Field(description="pixels")
    tokens: int = Field(description="length of its sequence, class tokens included")
    range: tuple[float, float] | None = Field(
        default=None,
        description="sample values that became black and white; absent where there was no choice, "
        "with samples of up to 8 bits",
        examples=[[0, 4095]],
    )
    bands: list[int] | None = Field(
        default=None,
        description="bands that became red, green and blue, or grey, if they were chosen",
        examples=[[4, 3, 2]],
    )

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """The schema of a measured image."""
        height, width = measured.size
        return cls(
            height=height,
            width=width,
            tokens=measured.tokens,
            range=measured.sample_range,
            bands=None if measured.bands is None else list(measured.bands),
        )


class Timing(BaseModel):
    """Where the time of a request went, in milliseconds."""

    decode: float = Field(description="decode, resize and cut into patches")
    queue: float = Field(description="wait for the device")
    inference: float = Field(description="the batches that carried the images, summed")
    postprocess: float
    total: float = Field(description="from the head of the request, upload included")

    @classmethod
    def of(cls, stages: Stages) -> Self:
        """The schema of a request's stages."""
        return cls(
            decode=to_ms(stages.decode_s),
            queue=to_ms(stages.queue_s),
            inference=to_ms(stages.inference_s),
            postprocess=to_ms(stages.postprocess_s),
            total=to_ms(stages.total_s),
        )

    def header(self) -> str:
        """The value of a ``Server-Timing`` header (W3C Server Timing, section 3)."""
        return ", ".join(f"{stage};dur={ms}" for stage, ms in self)


class BatchInfo(BaseModel):
    """What the device ran at once, other clients' images included.

    If several batches carried a request's images: their sum, with the highest of their peaks.
    """

    images: int
    tokens: int
    peak_memory_bytes: int = Field(
        description="how far the device's memory rose above what the models hold (with a CUDA "
        "graph: the peak of the recorded pass, padding included, plus that of what ran outside "
        "it); on a CPU how far the process had grown since it was last idle"
    )

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """The schema of a batch."""
        return cls(images=batch.images, tokens=batch.tokens, peak_memory_bytes=batch.peak_bytes)


class Compared(BaseModel):
    """What one of the models needs for the images."""

    memory_bytes: int = Field(
        description="predicted peak above the weights for these images alone, from measurements "
        "at start-up"
    )


def to_ms(seconds: float) -> float:
    """Seconds as milliseconds, to the microsecond."""
    return round(seconds * 1000, 3)
