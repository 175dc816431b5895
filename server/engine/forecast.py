"""What is expected of the device: when a request would run, and what there is to do."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Forecast:
    """When the images of a request are expected to run.

    Attributes:
        queue_s: seconds that the device takes for what goes before them.
        inference_s: seconds that it takes for them; None while no batch of the model has run.
    """

    queue_s: float
    inference_s: float | None


@dataclass(frozen=True)
class Work:
    """What the device has to do.

    Attributes:
        tokens: of what waits, and of what room is reserved for.
        seconds: until it has run that and what it runs now.
        speeds: tokens per second of each model in full batches; 0.0 while no batch of it has run.
    """

    tokens: int
    seconds: float
    speeds: Mapping[str, float]
