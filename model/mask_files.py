"""Masks that users have: a class for each pixel; and how far answers agree with them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

IGNORED = 255
MODES = ("L", "P", "I;16", "I", "1")

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def read_mask(file: Path, num_classes: int, *, reduce_zero_label: bool = False) -> Numbers:
    """The class of every pixel, ``IGNORED`` for none, int64 ``[H, W]``.

    Args:
        file: class numbers from 0, 255 for pixels of no class.
        num_classes: of the model.
        reduce_zero_label: whether 0 is no class and the classes count from 1, as in ADE20K.

    Raises:
        ValueError: for a mask that cannot be used; the message names it.
        OSError: if it cannot be read.
    """
    try:
        with Image.open(file) as image:
            if image.mode not in MODES:
                raise ValueError(
                    f"mask {file} has the bands {', '.join(image.getbands())}, not one of "
                    "class numbers"
                )
            numbers = np.asarray(image).astype(np.int64)
    except UnidentifiedImageError as error:
        raise OSError(f"mask {file} cannot be read") from error
    if reduce_zero_label:
        numbers = np.where(numbers == IGNORED, 0, numbers) - 1
        numbers[numbers < 0] = IGNORED
    beyond = numbers[(numbers != IGNORED) & ((numbers >= num_classes) | (numbers < 0))]
    if beyond.size:
        hint = "" if reduce_zero_label else " (are they from 1, as in ADE20K? --reduce-zero-label)"
        raise ValueError(
            f"mask {file} has class {int(beyond.max())}, but the model's are from 0 to "
            f"{num_classes - 1}{hint}"
        )
    return numbers


def check_size(file: Path, mask: np.ndarray[Any, Any], size: tuple[int, ...]) -> None:
    """Refuse a mask that is not as large as its picture.

    Args:
        file: of the mask.
        mask: ``[H, W]``.
        size: (height, width) of the picture.

    Raises:
        ValueError: with both sizes.
    """
    if mask.shape != size:
        own, of = ("x".join(map(str, one)) for one in (mask.shape, size))
        raise ValueError(f"mask {file} has {own} pixels, but its picture has {of}")


def count_pixels(
    truth: np.ndarray[Any, Any], found: np.ndarray[Any, Any], num_classes: int
) -> Numbers:
    """For each class its pixels in the truth, in the answer, and in both: int64 ``[3, classes]``.

    Args:
        truth: classes, those that are ``IGNORED`` do not count.
        found: of the same shape.
        num_classes: of either.
    """
    known = truth != IGNORED
    right, answered = truth[known].astype(np.int64), found[known].astype(np.int64)
    of_each = right, answered, right[right == answered]
    return np.stack([np.bincount(one, minlength=num_classes) for one in of_each])


def ious(counts: Numbers) -> Floats:
    """Intersection over union of each class from such counts; nan for those that do not occur."""
    truth, found, both = counts
    union = truth + found - both
    shares = np.full(len(union), np.nan)
    return np.divide(both, union, out=shares, where=union > 0)
