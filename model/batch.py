"""Images of any sizes as one sequence of patches, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PackedBatch:
    """Patches of N images, end to end.

    Class tokens are the model's business (Vim puts one in the middle, DeiT at the head), so the
    boundaries here count patches only.

    Attributes:
        patches: ``[T, 3 * P * P]``, each row a patch in (channel, row, column) order.
        cu_seqlens: ``[N + 1]`` int32, image ``i`` owns rows ``cu_seqlens[i]:cu_seqlens[i + 1]``.
        grids: (rows, columns) of patches of every image.
    """

    patches: Tensor
    cu_seqlens: Tensor
    grids: tuple[tuple[int, int], ...]

    @classmethod
    def from_images(
        cls, images: Sequence[Tensor], patch_size: int = 16, stride: int = 16
    ) -> "PackedBatch":
        """Cut normalised float images ``[3, H, W]`` into patches and pack them.

        Raises:
            ValueError: for an empty list, an image that is not ``[3, H, W]``, one smaller than a
                patch, or one whose sides are no multiples of the stride.
        """
        if not images:
            raise ValueError("a batch needs at least one image")
        grids = tuple(patch_grid(image.shape, patch_size, stride) for image in images)
        lengths = [rows * cols for rows, cols in grids]
        patches = torch.cat([_patches(image, patch_size, stride) for image in images])
        boundaries = list(accumulate(lengths, initial=0))
        return cls(patches, to_device(boundaries, patches.device), grids)

    @property
    def num_images(self) -> int:
        """Images in the batch."""
        return len(self.grids)


def to_device(values: Sequence[int], device: torch.device) -> Tensor:
    """``values`` as int32 on ``device``; a GPU is not waited for."""
    pinned = device.type == "cuda"
    return torch.tensor(values, dtype=torch.int32, pin_memory=pinned).to(device, non_blocking=True)


def patch_grid(
    shape: torch.Size | tuple[int, ...], patch_size: int, stride: int
) -> tuple[int, int]:
    """Rows and columns of patches of a ``[3, H, W]`` image.

    Raises:
        ValueError: as ``PackedBatch.from_images``.
    """
    if len(shape) != 3 or shape[0] != 3:
        raise ValueError(f"an image must be [3, H, W], not {list(shape)}")
    height, width = shape[1:]
    if min(height, width) < patch_size:
        raise ValueError(f"an image of {height}x{width} is smaller than a patch ({patch_size})")
    if height % stride or width % stride:
        raise ValueError(f"the sides of a {height}x{width} image must be multiples of {stride}")
    return (height - patch_size) // stride + 1, (width - patch_size) // stride + 1


def _patches(image: Tensor, patch_size: int, stride: int) -> Tensor:
    if stride != patch_size:
        return F.unfold(image[None], patch_size, stride=stride)[0].T
    rows, cols = image.shape[1] // patch_size, image.shape[2] // patch_size
    tiles = image.reshape(3, rows, patch_size, cols, patch_size)
    return tiles.permute(1, 3, 0, 2, 4).reshape(rows * cols, 3 * patch_size * patch_size)
