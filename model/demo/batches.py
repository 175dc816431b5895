"""Batches of scenes with one icon each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vimserve.model.demo.icons import LABELS, Icon
from vimserve.model.demo.scenes import make_scene
from vimserve.model.training.batches import PATCH, Stage

# A scene of 1248 pixels is a step of its own, and takes as long as two of others.
STAGES = (
    Stage(0.12, (128, 192, 256), (1, 1, 1)),
    Stage(0.45, (128, 192, 256, 320, 384, 512), (1, 2, 3, 4, 4, 4)),
    Stage(1.01, (128, 192, 256, 384, 512, 768, 1024, 1248), (1, 1, 2, 4, 5, 5, 4, 5)),
)
HARD_FROM = 0.7


class Batch(NamedTuple):
    """Scenes of one size.

    Attributes:
        pixels: ``[N, 3, H, W]`` uint8.
        labels: ``[N]``.
        coverage: ``[N, T]``, the share of every patch that the object covers.
    """

    pixels: Tensor
    labels: Tensor
    coverage: Tensor


def difficulty_at(progress: float) -> float:
    """How hard scenes are, from 0 to 1, at this point of the training."""
    return min(1.0, progress / HARD_FROM)


def draw_batch(
    icons: Sequence[Sequence[Icon]],
    tokens: int,
    rng: np.random.Generator,
    size: tuple[int, int],
    progress: float,
) -> Batch:
    """A batch of about ``tokens`` patches; classes are equally frequent whatever their icons."""
    height, width = size
    count = max(1, round(tokens / (height * width // PATCH**2)))
    labels = rng.integers(len(LABELS), size=count)
    scenes = [make_scene(rng, icons[n], size, difficulty_at(progress)) for n in labels]
    pixels = torch.from_numpy(np.stack([np.asarray(scene.image) for scene in scenes]))
    masks = torch.from_numpy(np.stack([scene.mask for scene in scenes]))
    tiles = masks.view(-1, height // PATCH, PATCH, width // PATCH, PATCH)
    coverage = tiles.float().mean((2, 4)).flatten(1)
    return Batch(pixels.permute(0, 3, 1, 2), torch.from_numpy(labels), coverage)
