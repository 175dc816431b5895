"""A model on its device: images in, its outputs out."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.graphs import workspace_bytes
from vimserve.model.identity import identity
from vimserve.model.served import Answers, Wanted
from vimserve.model.spec import ModelSpec
from vimserve.server.engine.device import backbone_of, record_graphs, usable_device
from vimserve.server.engine.geometry import Geometry
from vimserve.server.engine.request import Image, Part

if TYPE_CHECKING:  # so that a runner needs nothing that reads settings
    from vimserve.server.config import Config

WARM_UP_RESOLUTIONS = (224, 512, 1024, 1248)
WARM_UP_ENOUGH_S = 0.5


class Runner(Geometry):
    """A loaded model; not thread-safe: one thread runs it.

    Attributes:
        identity: see ``model.identity``.

    Raises:
        CheckpointError: if the weights do not fit the model.
        ValueError: if the device does not exist.
    """

    def __init__(self, spec: ModelSpec, config: "Config") -> None:
        self.device = usable_device(config.device)
        self.dtype: torch.dtype = getattr(torch, config.model_dtype)
        super().__init__(spec, catalog.load(spec, self.device, self.dtype).eval())
        self.identity = identity(spec, self.module)
        self._answer = self.module.answer
        self._copies = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def smallest(self) -> Image:
        """A black image of the smallest size that the model accepts."""
        return self.black(self.largest_side(1))

    def black(self, side: int) -> Image:
        """A black square image of ``side`` pixels, of which the usual is wanted."""
        # As decoders give it, so that what cuts it is compiled as well.
        pixels = torch.zeros(side, side, 4, dtype=torch.uint8)[..., :3].permute(2, 0, 1)
        return self._square(pixels, self.module.whole((side, side)))

    def noise(self, side: int) -> Image:
        """A square image of ``side`` pixels that costs the model as much as any can."""
        noise = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (3, side, side), dtype=torch.uint8, generator=noise)
        return self._square(pixels, self.module.costliest((side, side)))

    def _square(self, pixels: Tensor, wanted: Wanted) -> Image:
        _, height, width = pixels.shape
        return Image((height, width), self.pack(pixels), self.tokens(height, width), wanted)

    def pack(self, pixels: Tensor) -> PackedBatch:
        """One image ``[3, H, W]``, cut into the model's patches; any thread may call it.

        Args:
            pixels: uint8, or float32 that are normalised already.
        """
        config = self.spec.config
        return PackedBatch.from_images([pixels], config.patch_size, config.stride)

    def start(self, images: Sequence[Image | Part]) -> "Pass":
        """Begin a forward pass, without waiting for a GPU to finish it."""
        patches = self._of_one_dtype([image.patches for image in images])
        wanted = [image.wanted for image in images]
        with torch.inference_mode():
            if self._copies is None:
                batch = PackedBatch.cat(patches).to(self.device)
                return Pass(self._answer(batch, wanted))
            # A stream of its own copies this batch while another one computes.
            with torch.cuda.stream(self._copies):
                batch = PackedBatch.cat(patches, pin_memory=True).to(self.device)
            stream = torch.cuda.current_stream(self.device)
            stream.wait_stream(self._copies)
            batch.patches.record_stream(stream)
            answers = self._answer(batch, wanted)
            ended = torch.cuda.Event()
            outputs = [_to_host(output) for output in answers.outputs]
            finite = _to_host(answers.finite)
            result = Pass(Answers(outputs, finite, answers.recorded_bytes), ended)
            ended.record(stream)
            return result

    def _of_one_dtype(self, images: Sequence[PackedBatch]) -> Sequence[PackedBatch]:
        """The images as they are; but if some are normalised already, all others are as well."""
        if len({image.patches.dtype for image in images}) == 1:
            return images
        config = self.spec.config
        return [image.normalised(config.pixel_mean, config.pixel_std) for image in images]

    def run(self, images: Sequence[Image | Part]) -> list[Tensor | None]:
        """The outputs for ``images``; see ``Pass.outputs``."""
        return self.start(images).outputs()

    @property
    def recordable(self) -> bool:
        """Whether its forward passes may become CUDA graphs."""
        return self.device.type == "cuda" and backbone_of(self.module) is not None

    @property
    def weight_bytes(self) -> int:
        """Of the parameters."""
        return sum(parameter.nbytes for parameter in self.module.parameters())

    @property
    def workspace_bytes(self) -> int:
        """What cuBLAS takes for each stream; 0 on a CPU."""
        if self.device.type != "cuda":
            return 0
        return workspace_bytes(torch.cuda.get_device_capability(self.device))

    def record_graphs(self, max_batch_tokens: int, fits: Callable[[Sequence[int]], bool]) -> None:
        """Replay CUDA graphs from now on, if the model has them; see ``device.record_graphs``."""
        if graphed := record_graphs(self.module, max_batch_tokens, fits):
            self._answer = graphed.answer

    def warm_up(self, max_resolution: int) -> None:
        """Compile the kernels, then run common sizes in ascending order until one takes long."""
        self.module.warm_up()
        for resolution in WARM_UP_RESOLUTIONS:
            side = self.largest_side(min(resolution, max_resolution))
            start = time.monotonic()
            self.run([self.black(side)])
            if resolution >= max_resolution or time.monotonic() - start > WARM_UP_ENOUGH_S:
                return


class Pass:
    """A forward pass that may still be running.

    Args:
        answers: the model's, in the host's memory.
        ended: event after which they can be read; None if they can be read already.
    """

    def __init__(self, answers: Answers, ended: torch.cuda.Event | None = None) -> None:
        self._answers = answers
        self._ended = ended

    @property
    def recorded_bytes(self) -> int:
        """As ``Answers.recorded_bytes``."""
        return self._answers.recorded_bytes

    @property
    def done(self) -> bool:
        """Whether ``outputs`` returns at once."""
        return self._ended is None or self._ended.query()

    def wait(self) -> None:
        """Wait for the device; any thread may."""
        if self._ended is not None:
            self._ended.synchronize()

    def outputs(self) -> list[Tensor | None]:
        """Wait for the device, then return ``Answer.output`` of every image.

        It is None for an image whose scores are not finite.
        """
        self.wait()
        images = (image for output in self._answers.outputs for image in output)
        finite = self._answers.finite.tolist()
        return [image if ok else None for image, ok in zip(images, finite, strict=True)]


def _to_host(tensor: Tensor) -> Tensor:
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
