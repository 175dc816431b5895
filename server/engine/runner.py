"""A model on its device: images in, class scores out."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model import catalog
from model.batch import PackedBatch, patch_grid
from model.catalog import ModelSpec
from server.config import Config
from server.engine.device import record_graphs, usable_device
from server.engine.request import Image

WARM_UP_RESOLUTIONS = (224, 512, 1024, 1248)
WARM_UP_ENOUGH_S = 0.5


class Runner:
    """A loaded model; not thread-safe: one thread runs it.

    Raises:
        CheckpointError: if the weights do not fit the model.
        ValueError: if the device does not exist.
    """

    def __init__(self, spec: ModelSpec, config: Config) -> None:
        self.device = usable_device(config.device)
        self.dtype: torch.dtype = getattr(torch, config.model_dtype)
        self.spec = spec
        self.module = catalog.load(spec, self.device, self.dtype).eval()
        self._forward: Callable[[PackedBatch], Tensor] = self.module
        self._copies = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def tokens(self, height: int, width: int) -> int:
        """Length of the sequence that an input of ``height`` × ``width`` pixels becomes."""
        config = self.spec.config
        grid = patch_grid((3, height, width), config.patch_size, config.stride)
        tokens: int = self.module.num_tokens(grid)
        return tokens

    def smallest(self) -> Image:
        """An image, all black, of the least size that the model takes."""
        side = self.largest_side(1)
        pixels = torch.zeros(3, side, side, dtype=torch.uint8)
        return Image((side, side), self.pack(pixels), self.tokens(side, side))

    def pack(self, pixels: Tensor) -> PackedBatch:
        """One image, uint8 ``[3, H, W]``, cut into the model's patches; any thread may call it."""
        config = self.spec.config
        return PackedBatch.from_images([pixels], config.patch_size, config.stride)

    def start(self, images: Sequence[PackedBatch]) -> "Pass":
        """Begin a forward pass over images that ``pack`` made; a GPU is not waited for."""
        with torch.inference_mode():
            if self._copies is None:
                batch = PackedBatch.cat(images).to(self.device)
                return Pass(self._forward(batch).float().cpu())
            # On a stream of its own the copy of one batch passes while another one computes.
            with torch.cuda.stream(self._copies):
                batch = PackedBatch.cat(images, pin_memory=True).to(self.device)
            stream = torch.cuda.current_stream(self.device)
            stream.wait_stream(self._copies)
            batch.patches.record_stream(stream)
            scores = self._forward(batch).float()
            host = torch.empty(scores.shape, pin_memory=True).copy_(scores, non_blocking=True)
            ended = torch.cuda.Event()
            ended.record(stream)
            return Pass(host, ended)

    def run(self, images: Sequence[PackedBatch]) -> Tensor:
        """Class scores, float32 ``[N, classes]`` on the CPU, of images that ``pack`` made."""
        return self.start(images).scores()

    def largest_side(self, max_resolution: int) -> int:
        """The side that an input of ``max_resolution`` pixels has once rounded to whole patches."""
        multiple = self.spec.transform.multiple
        return max(-(-max_resolution // multiple) * multiple, self.spec.config.patch_size)

    def record_graphs(self, max_batch_tokens: int) -> None:
        """Replay recorded forward passes from now on, where there are any for this model."""
        self._forward = record_graphs(self.module, max_batch_tokens) or self.module

    def warm_up(self, max_resolution: int) -> None:
        """Compile what is compiled, then run the common sizes until one takes long."""
        self.module.warm_up()
        for resolution in WARM_UP_RESOLUTIONS:
            side = self.largest_side(min(resolution, max_resolution))
            start = time.monotonic()
            self.run([self.pack(torch.zeros(3, side, side, dtype=torch.uint8))])
            if resolution >= max_resolution or time.monotonic() - start > WARM_UP_ENOUGH_S:
                return


class Pass:
    """A forward pass on its way: class scores once the device is through."""

    def __init__(self, scores: Tensor, ended: torch.cuda.Event | None = None) -> None:
        self._scores = scores
        self._ended = ended

    @property
    def done(self) -> bool:
        """Whether ``scores`` returns at once."""
        return self._ended is None or self._ended.query()

    def scores(self) -> Tensor:
        """Float32 ``[N, classes]`` on the CPU; waits for the device."""
        if self._ended is not None:
            self._ended.synchronize()
        return self._scores
