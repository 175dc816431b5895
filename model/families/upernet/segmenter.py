"""What all segmenters share: from class scores, however they are made, to answers."""

import abc
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from vimserve.kernels.upsample_argmax import upsample_argmax
from vimserve.model.architecture import ModelConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.served import Answers, ServedModel, Wanted


class Segmenter(ServedModel):
    """Class scores, or the classes themselves, for every pixel; forward only."""

    config: ModelConfig

    @abc.abstractmethod
    def scores(self, batch: PackedBatch) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of each image and its class scores ``[classes, H / 4, W / 4]``.

        The images come in groups. Who keeps no scores needs the memory of one group at a time.

        Raises:
            ValueError: if the patches are not of this model's size.
        """

    def forward(self, batch: PackedBatch) -> list[Tensor]:
        """Class scores ``[classes, H / 4, W / 4]`` of every image (for patches of 16 pixels).

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        with self.running(batch):
            scores = dict(self.scores(batch))
        return [scores[image] for image in range(batch.num_images)]

    def segment(self, batch: PackedBatch) -> list[Tensor]:
        """Class maps, uint8 ``[H, W]``, of every image in its own size.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        sizes = [self.config.image_size(grid) for grid in batch.grids]
        return [classes[0] for classes in self.answer(batch, sizes).outputs]

    @torch.inference_mode()
    def answer(self, batch: PackedBatch, wanted: Sequence[Wanted | None]) -> Answers:
        """Class maps, uint8 ``[1, H, W]`` each, of the images for which a size is wanted.

        The others get the class scores that maps are made of, float32
        ``[1, classes, H / 4, W / 4]`` (for patches of 16 pixels).

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        with self.running(batch):
            return answers(self.scores(batch), wanted)


def answers(scores: Iterable[tuple[int, Tensor]], wanted: Sequence[Wanted | None]) -> Answers:
    """The answers to a batch, of which each image's scores may be overwritten by the next one's."""
    outputs: dict[int, Tensor] = {}
    finite: dict[int, Tensor] = {}
    for image, of_image in scores:
        size = wanted[image]
        if size is None:
            output = of_image.to(torch.float32, copy=True)
        else:
            assert isinstance(size, tuple)
            output, _ = upsample_argmax(of_image, size)
        outputs[image] = output[None]
        finite[image] = of_image.isfinite().all()
    order = range(len(wanted))
    return Answers([outputs[i] for i in order], torch.stack([finite[i] for i in order]))
