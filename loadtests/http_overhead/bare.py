"""The bare model in a loop, for a process of its own, in which ``load`` must be called first."""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import load_classifier
from vimserve.model.packed import PackedModel

_loaded: list[tuple[PackedModel, list[Tensor]]] = []


@dataclass(frozen=True)
class Looped:
    """How many images the bare model ran, and the time and processor time that it took."""

    images: int
    seconds: float
    cpu_s: float


def load(name: str, weights: Path | None, files: Sequence[bytes]) -> None:
    """Load and warm up the model, and decode the image ``files``, which all have one size."""
    model = load_classifier(name, weights=weights)
    model.warm_up()
    images = [np.array(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    _loaded[:] = [(model, [torch.from_numpy(image).permute(2, 0, 1) for image in images])]


def scores() -> list[list[float]]:
    """The probabilities of all classes for each image, run alone."""
    ((model, images),) = _loaded
    return [_forward(model, [image])[0].softmax(0).tolist() for image in images]


def loop(batch: int, seconds: float) -> Looped:
    """Cut the decoded images into patches and run them in turn, ``batch`` at a time, for at least
    ``seconds``.
    """
    ((model, images),) = _loaded
    turn = cycle(images)
    cpu, start = time.process_time(), time.perf_counter()
    done = 0
    while True:
        _forward(model, list(islice(turn, batch)))
        done += batch
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return Looped(done, elapsed, time.process_time() - cpu)


def _forward(model: PackedModel, images: Sequence[Tensor]) -> Tensor:
    config = model.config
    return model(PackedBatch.from_images(images, config.patch_size, config.stride))
