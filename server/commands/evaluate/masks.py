"""Segmentation: pictures with masks of class numbers, as ADE20K and Cityscapes have them.

Shares are counted as MMSegmentation counts them: over the pixels of all pictures together, those of
no class left out, and the mean over the classes that occur in truths or answers.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vimserve.model.mask_files import check_size, count_pixels, ious, read_mask
from vimserve.model.picture_files import check_folder, pictures
from vimserve.model.spec import ModelSpec
from vimserve.server.commands.evaluate.benchmark import Benchmark, Rating, figures, percent
from vimserve.server.commands.evaluate.bootstrap import Floats, Ints, intervals
from vimserve.server.commands.evaluate.samples import Record, Sample, without_missing
from vimserve.server.tasks.segment import ClassMap

RESAMPLES = 1000
# How Cityscapes calls a picture, its mask of the classes that are rated, and one of all it knows.
PICTURE, TRAINED, ALL = "_leftImg8bit", "_gtFine_labelTrainIds", "_gtFine_labelIds"


class Masks(Benchmark):
    """Pictures whose pixels have a class each.

    A mask has the name of its picture, but for the suffix, at the same place in its folder, or is
    called as Cityscapes does.

    Args:
        spec: the model that is tested.
        images: folder of the pictures.
        masks: folder of their masks: class numbers from 0, 255 for pixels of no class.
        reduce_zero_label: whether 0 is no class and the classes count from 1, as in ADE20K.
        skip_missing: whether to go on without pictures that have no mask.

    Raises:
        ValueError: for folders that cannot be used; the message says why.
    """

    task = "segment"

    def __init__(
        self,
        spec: ModelSpec,
        images: Path,
        masks: Path,
        *,
        reduce_zero_label: bool = False,
        skip_missing: bool = False,
    ) -> None:
        self._labels = spec.labels
        self._reduce = reduce_zero_label
        self.samples, self.missing = pairs(
            images, masks, reduce_zero_label=reduce_zero_label, skip_missing=skip_missing
        )

    def record(self, sample: Sample, result: ClassMap) -> Record:
        """For each class its pixels in the truth, in the answer, and in both."""
        (file,) = sample.files
        count = len(self._labels)
        truth = read_mask(file, count, reduce_zero_label=self._reduce)
        check_size(file, truth, result.classes.shape)
        pixels = count_pixels(truth, result.classes, count)
        occurs = np.flatnonzero(pixels[:2].any(0))
        return {"pixels": [[index, *pixels[:, index].tolist()] for index in occurs.tolist()]}

    def rate(self, records: Sequence[Record]) -> Rating:
        """Mean intersection over union and the share of right pixels, and the IoU of each class."""
        count = len(self._labels)
        pixels = np.zeros((len(records), 3, count), np.int64)
        for row, record in zip(pixels, records, strict=True):
            for index, *of_class in record["pixels"]:
                row[:, index] = of_class
        flat = pixels.reshape(len(records), -1)

        def shares(drawn: Ints) -> tuple[Floats, Floats]:
            counts = (drawn @ flat).reshape(3, count)
            iou = ious(counts)
            mean = np.nan if np.isnan(iou).all() else np.nanmean(iou)
            total = counts[0].sum()
            return iou, np.array([mean, counts[2].sum() / total if total else np.nan])

        of_class, values = shares(np.ones(len(records), np.int64))
        low, high = intervals(len(records), lambda drawn: shares(drawn)[1], RESAMPLES)
        classes = {
            label: percent(iou)
            for label, iou in zip(self._labels, of_class, strict=True)
            if not np.isnan(iou)
        }
        return Rating(figures(["mIoU", "pixel accuracy"], values, low, high), classes, "IoU")


def pairs(
    images: Path, masks: Path, *, reduce_zero_label: bool = False, skip_missing: bool = False
) -> tuple[Sequence[Sample], Sequence[str]]:
    """Pictures with their masks, and the names of pictures without; as ``Masks``.

    Raises:
        ValueError: for folders that cannot be used; the message says why.
    """
    check_folder(images, "--images")
    check_folder(masks, "--masks")
    by_name = {_name(file, masks): file for file in pictures(masks)}
    every = {_name(file, images): file for file in pictures(images)}
    if not every:
        raise ValueError(f"--images {images} has no pictures")
    found = [
        Sample(name, file, reduce_zero_label, (mask,))
        for name, file in every.items()
        if (mask := by_name.get(name) or by_name.get(name.replace(PICTURE, TRAINED)))
    ]
    with_mask = {sample.name for sample in found}
    missing = [name for name in every if name not in with_mask]
    untrained = [name for name in missing if name.replace(PICTURE, ALL) in by_name]
    if untrained and any(PICTURE in name for name in untrained):
        raise ValueError(
            f"{masks} has masks of all Cityscapes' labels (…{ALL}.png) only: make those of the "
            f"classes that are rated (…{TRAINED}.png) with cityscapesscripts' "
            "csCreateTrainIdLabelImgs"
        )
    where = f"masks in {masks} of the pictures in {images}"
    return without_missing(found, missing, where, skip=skip_missing), missing


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()
