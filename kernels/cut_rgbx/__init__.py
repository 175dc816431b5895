"""Patches of a picture whose pixels lie as Pillow holds them, where there is a kernel for it."""

import torch
from torch import Tensor

from vimserve.kernels.dispatch import chosen

__all__ = ["PATCH", "PIXEL", "has_cut_rgbx"]

PATCH = 16  # pixels along each side
PIXEL = 4  # bytes


def has_cut_rgbx(image: Tensor, patch_size: int) -> bool:
    """Whether ``kernels.cut_rgbx.cpu`` cuts this image into such patches.

    It is for bytes in host memory with four to a pixel: red, green, blue and one that is skipped.

    Args:
        image: ``[3, H, W]``.
        patch_size: side of a patch in pixels, which has to be ``PATCH``.
    """
    return (
        image.dtype == torch.uint8
        and image.device.type == "cpu"
        and (image.stride(0), image.stride(2), patch_size) == (1, PIXEL, PATCH)
        and _has_fourth_byte(image)
        and chosen("cpu") == "cpu"
    )


def _has_fourth_byte(image: Tensor) -> bool:
    """Whether the last pixel may be read as a whole."""
    _, height, width = image.shape
    end = image.storage_offset() + (height - 1) * image.stride(1) + width * PIXEL
    return end <= image.untyped_storage().nbytes()
