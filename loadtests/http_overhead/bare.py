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

from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import Classifier, load_classifier

_loaded: list[tuple[Classifier, list[PackedBatch]]] = []


@dataclass(frozen=True)
class Looped:
    """How many images the bare model ran, and the time and processor time that it took."""

    images: int
    seconds: float
    cpu_s: float


def load(name: str, weights: Path | None, files: Sequence[bytes]) -> None:
    """Load and warm up the model, decode the image ``files`` and cut them into patches."""
    model = load_classifier(name, weights=weights)
    model.warm_up()
    images = [np.array(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    pixels = (torch.from_numpy(image).permute(2, 0, 1) for image in images)
    size, stride = model.config.patch_size, model.config.stride
    _loaded[:] = [(model, [PackedBatch.from_images([image], size, stride) for image in pixels])]


def scores() -> list[list[float]]:
    """The probabilities of all classes for each image, run alone."""
    ((model, images),) = _loaded
    return [model(image)[0].softmax(0).tolist() for image in images]


def loop(batch: int, seconds: float) -> Looped:
    """Run the images in turn, ``batch`` at a time, all of them and for at least ``seconds``."""
    ((model, images),) = _loaded
    turn = cycle(images)
    cpu, start = time.process_time(), time.perf_counter()
    done = 0
    while True:
        model(PackedBatch.cat(list(islice(turn, batch))))
        done += batch
        elapsed = time.perf_counter() - start
        if done >= len(images) and elapsed >= seconds:
            return Looped(done, elapsed, time.process_time() - cpu)
