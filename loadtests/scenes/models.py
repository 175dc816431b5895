"""The models that scenes are measured with."""

import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from vimserve.model.catalog import resolve
from vimserve.model.config import VimConfig
from vimserve.model.families.upernet.config import UPerNetConfig
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.threads import use_threads
from vimserve.server.config import Config
from vimserve.server.engine.runner import Runner

CLASSES = 21  # as the demo has


def write_cheap(path: Path) -> None:
    """Write a segmenter with random weights that takes next to no time."""
    torch.manual_seed(0)
    backbone = VimConfig(width=32, depth=4, grid=(4, 4))
    config = UPerNetConfig(backbone, (0, 1, 2, 3), channels=16, num_classes=CLASSES)
    save_file(UPerNetSegmenter.of(config).state_dict(), path)


def windows_a_second(model: str, side: int, seconds: float) -> dict[int, float]:
    """How many square windows the bare model takes, without reading and joining any.

    Returns:
        by how many it is given at a time.
    """
    use_threads(None)
    runner = Runner(resolve(model), Config())
    runner.warm_up(side)
    rates = {}
    for together in (1, 4, 8):
        image = runner.noise(side)
        images = [type(image)(image.size, image.patches, image.tokens, None)] * together
        runner.run(images)
        began, done = time.monotonic(), 0
        while (taken := time.monotonic() - began) < seconds:
            runner.run(images)
            done += together
        rates[together] = done / taken
    return rates


if __name__ == "__main__":
    print(json.dumps(windows_a_second(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
