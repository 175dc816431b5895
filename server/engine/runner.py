"""A model on its device: images in, class scores out."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from model import catalog
from model.batch import PackedBatch, patch_grid
from model.catalog import ModelSpec

WARM_UP_RESOLUTIONS = (224, 512, 1024, 1248)
WARM_UP_ENOUGH_S = 0.5


DTYPE = torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` rather than ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


class Runner:
    """A loaded model; not thread-safe: one thread runs it.

    Raises:
        CheckpointError: if the weights do not fit the model.
        ValueError: if the device does not exist.
    """

    def __init__(self, spec: ModelSpec, device: str) -> None:
        try:
            self.device = torch.device(device)
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device {device!r} cannot be used: {error}") from error
        self.spec = spec
        self.module = catalog.load(spec, self.device, DTYPE).eval()

    def tokens(self, height: int, width: int) -> int:
        """Length of the sequence that an input of ``height`` × ``width`` pixels becomes."""
        config = self.spec.config
        grid = patch_grid((3, height, width), config.patch_size, config.stride)
        tokens: int = self.module.num_tokens(grid)
        return tokens

    def run(self, images: Sequence[Tensor]) -> Tensor:
        """Class scores, float32 ``[N, classes]`` on the CPU, of normalised ``[3, H, W]`` images."""
        config = self.spec.config
        with torch.inference_mode():
            moved = [image.to(self.device, DTYPE) for image in images]
            batch = PackedBatch.from_images(moved, config.patch_size, config.stride)
            logits: Tensor = self.module(batch)
            return logits.float().cpu()

    def largest_side(self, max_resolution: int) -> int:
        """The side that an input of ``max_resolution`` pixels has once rounded to whole patches."""
        multiple = self.spec.transform.multiple
        return max(-(-max_resolution // multiple) * multiple, self.spec.config.patch_size)

    def warm_up(self, max_resolution: int) -> None:
        """Compile what is compiled, then run the common sizes until one takes long."""
        self.module.warm_up()
        for resolution in WARM_UP_RESOLUTIONS:
            side = self.largest_side(min(resolution, max_resolution))
            start = time.monotonic()
            self.run([torch.zeros(3, side, side)])
            if resolution >= max_resolution or time.monotonic() - start > WARM_UP_ENOUGH_S:
                return
