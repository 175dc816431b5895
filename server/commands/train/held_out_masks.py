"""How well a head does for the pixels of pictures that it was not trained on."""

from collections.abc import Sequence

import torch

from vimserve.kernels.upsample_argmax import upsample_argmax
from vimserve.model.heads.pixels.head import PixelHead
from vimserve.model.heads.pixels.maps import PixelCaches
from vimserve.server.commands.evaluate.masks import Masks
from vimserve.server.commands.evaluate.samples import Record, Sample
from vimserve.server.commands.train.views import View
from vimserve.server.tasks.segment import ClassMap


class HeldOutMasks(Masks):
    """Pictures with masks that were held out.

    Args:
        labels: the names of the classes.
        samples: the pictures, whose ``truth`` says whether 0 is no class.
    """

    def __init__(self, labels: Sequence[str], samples: Sequence[Sample]) -> None:
        self._labels = tuple(labels)
        self._reduce = bool(samples[0].truth)
        self.samples = samples

    @torch.inference_mode()
    def records(self, caches: PixelCaches, views: Sequence[View], head: PixelHead) -> list[Record]:
        """What has to be known of each picture, at its own size.

        Args:
            caches: have the features of the views.
            views: the pictures as they are, in order.
            head: answers.
        """
        return [
            {"image": view.sample.name, **self.record(view.sample, answer(caches, view, head))}
            for view in views
        ]


@torch.inference_mode()
def answer(caches: PixelCaches, view: View, head: PixelHead) -> ClassMap:
    """What a head makes of a picture, in the picture's size."""
    scores = head(caches.features([view.entry]))[0]
    classes, _ = upsample_argmax(scores.contiguous(), view.size)
    return ClassMap(classes.numpy())
