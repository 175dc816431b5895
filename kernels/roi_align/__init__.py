"""Pooling regions of interest from a feature pyramid, by bilinear samples (ROIAlign)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vimserve.kernels.checks import check_tensor
from vimserve.kernels.dispatch import implementation


def roi_align(
    maps: Sequence[Tensor],
    places: Tensor,
    strides: Sequence[int],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    size: int,
) -> Tensor:
    """Pool each box from its own image and pyramid level to ``size`` x ``size`` features.

    A box is divided into ``size`` x ``size`` bins. A bin of h x w pixels of the level is the mean
    of ``ceil(h)`` x ``ceil(w)`` bilinear samples that lie evenly in it, as Detectron2 computes it
    with ``aligned=True`` and ``sampling_ratio=0`` (He et al., Mask R-CNN, 2017): a pixel's value
    is that of its middle, a sample within a pixel of the map has the nearest pixel's value on
    that axis, and one further away is 0. A box that is empty or not finite gives zeros.

    Args:
        maps: ``[P, C]`` for each level, the pixels of all images of that level end to end, row by
            row; channels are contiguous.
        places: int32 ``[L, N, 3]``, of image n at level l: its first row in ``maps[l]``, its
            height and its width in pixels of the level.
        strides: for each level, how many pixels of the input one of its pixels spans.
        boxes: float32 ``[R, 4]``: left, top, right and bottom in pixels of the input.
        images: int32 ``[R]``, the image of each box.
        levels: int32 ``[R]``, the level from which each box is pooled.
        size: bins along each axis.

    Returns:
        ``[R, size, size, C]`` in the dtype of ``maps``; sums are float32.

    Raises:
        ValueError: if a shape, dtype or layout is not supported, or a number in host memory leads
            beyond the maps; the message names it. Numbers on a GPU are not looked at, because a
            copy would wait for all of its work.
    """
    if not maps or maps[0].ndim != 2 or maps[0].shape[1] == 0:
        given = [list(pixels.shape) for pixels in maps]
        raise ValueError(f"maps must be [P, C] for each level, with channels, not {given}")
    device, dtype, C = maps[0].device, maps[0].dtype, maps[0].shape[1]
    check_tensor("maps[0]", maps[0], "P, C", (maps[0].shape[0], C), device)
    for level, pixels in enumerate(maps[1:], 1):
        P = pixels.shape[0] if pixels.ndim else 0
        check_tensor(f"maps[{level}]", pixels, "P, C", (P, C), device, (dtype,))
    if len(strides) != len(maps) or min(strides) < 1:
        raise ValueError(
            f"strides must have a positive number for each of the {len(maps)} maps, "
            f"not {list(strides)}"
        )
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    if places.ndim != 3:
        raise ValueError(f"places must be [L, N, 3], not {list(places.shape)}")
    shape = (len(maps), places.shape[1], 3)
    check_tensor("places", places, "L, N, 3", shape, device, (torch.int32,))
    R = boxes.shape[0] if boxes.ndim else 0
    check_tensor("boxes", boxes, "R, 4", (R, 4), device, (torch.float32,))
    check_tensor("images", images, "R", (R,), device, (torch.int32,))
    check_tensor("levels", levels, "R", (R,), device, (torch.int32,))
    if device.type == "cpu":
        _check_places(maps, places)
        _check_numbers("images", images, places.shape[1])
        _check_numbers("levels", levels, len(maps))
    if R == 0:
        return maps[0].new_empty(0, size, size, C)
    operation = implementation("roi_align", device.type)
    return operation(
        list(maps), places.contiguous(), list(strides), boxes.contiguous(), images, levels, size
    )


def _check_places(maps: Sequence[Tensor], places: Tensor) -> None:
    for level, (pixels, images) in enumerate(zip(maps, places.tolist(), strict=True)):
        for n, (first, height, width) in enumerate(images):
            if min(height, width) < 1 or not 0 <= first <= pixels.shape[0] - height * width:
                raise ValueError(
                    f"places[{level}, {n}] is {height} x {width} pixels from row {first} on, "
                    f"but maps[{level}] has {pixels.shape[0]} rows"
                )


def _check_numbers(name: str, numbers: Tensor, count: int) -> None:
    if len(numbers) == 0:
        return
    least, most = (int(n) for n in numbers.aminmax())
    if least < 0 or most >= count:
        wrong = least if least < 0 else most
        raise ValueError(f"{name} must be from 0 to {count - 1}, not {wrong}")
