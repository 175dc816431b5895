"""What every served model can be asked, whatever its family and its task."""

import abc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from vimserve.model.architecture import ModelConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.detections import Selection
from vimserve.model.prepared import PreparedModule
from vimserve.model.threads import adaptive_threads

MapSize = tuple[int, int]  # height and width of a class map
Wanted = MapSize | Selection


@dataclass(frozen=True)
class Answers:
    """What a model makes of the N images of a batch, on its device.

    Attributes:
        outputs: ``[images, …]`` each; together they have all N images in order.
        finite: ``[N]`` bool, whether all class scores of an image are finite numbers.
        recorded_bytes: peak memory of the CUDA graphs that were replayed; a replay allocates none.
    """

    outputs: Sequence[Tensor]
    finite: Tensor
    recorded_bytes: int = 0

    @classmethod
    def of_scores(cls, scores: Tensor, recorded_bytes: int = 0) -> Self:
        """Class scores ``[N, classes]`` as answers, in float32."""
        scores = scores.float()
        return cls([scores], scores.isfinite().all(1), recorded_bytes)


class ServedModel(PreparedModule):
    """A model as the server runs it, forward only.

    What is derived from the parameters is derived at the first forward pass. Loading a state dict,
    a cast and a move to another device drop it; after changing parameters in place, call
    ``forget_prepared()``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            lambda *_: self.forget_prepared()
        )

    @abc.abstractmethod
    def answer(self, batch: PackedBatch, wanted: Sequence[Wanted | None]) -> Answers:
        """Answer the images of a batch.

        Args:
            batch: N images.
            wanted: for each image the size of the class map that it shall get, or None for its
                class scores; of a detector, which detections. A classifier ignores it.

        Raises:
            ValueError: if the patches are not of this model's size.
        """

    def whole(self, size: MapSize) -> Wanted:
        """What is wanted of an image of ``size`` (height, width) in pixels, by default."""
        return size

    def costliest(self, size: MapSize) -> Wanted:
        """What takes most time and memory of all that may be wanted of such an image."""
        return self.whole(size)

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """Of a token in the blocks."""

    @abc.abstractmethod
    def num_tokens(self, grid: tuple[int, int]) -> int:
        """Length of the sequence of an image with this grid of patches."""

    @property
    def image_bytes(self) -> int:
        """Memory that an image takes at most besides that of its tokens, however small it is."""
        return 0

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Load or compile every kernel and derive the weights, so that no request waits for it."""
        config = self.config
        side = config.patch_size + config.stride
        image = next(self.parameters()).new_zeros(3, side, side)
        batch = PackedBatch.from_images([image], config.patch_size, config.stride)
        self.answer(batch, [self.whole((side, side))])

    def running(self, batch: PackedBatch) -> AbstractContextManager[None]:
        """To be held during a forward pass, which on a CPU adapts its number of threads."""
        work = batch.patches.shape[0] * self.width**2
        return adaptive_threads(next(self.parameters()).device, work)

    def forget_prepared(self) -> None:
        """Drop everything derived from the parameters."""
        for module in self.modules():
            if isinstance(module, PreparedModule) and module is not self:
                module.forget_prepared()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.forget_prepared()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
