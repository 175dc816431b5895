"""Images of any sizes as one sequence of patches, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from vimserve.kernels.cut_rgbx import has_cut_rgbx


@dataclass(frozen=True)
class PackedBatch:
    """Patches of N images, end to end.

    The model adds its class tokens itself (Vim one in the middle, DeiT one at the head), so the
    lengths here count patches only.

    Attributes:
        patches: ``[T, 3 * P * P]``, each row a patch in (channel, row, column) order: uint8 where
            they are pixels, floating point where they are normalised.
        grids: (rows, columns) of patches of every image.
    """

    patches: Tensor
    grids: tuple[tuple[int, int], ...]

    @classmethod
    def from_images(
        cls, images: Sequence[Tensor], patch_size: int = 16, stride: int = 16
    ) -> "PackedBatch":
        """Cut images ``[3, H, W]`` into patches and pack them.

        Args:
            images: all of one dtype: uint8 pixels, or floats normalised with the model's mean and
                standard deviation.
            patch_size: side of a patch in pixels.
            stride: from one patch to the next, in pixels.

        Raises:
            ValueError: for an empty list, images of several dtypes or of an integer one other than
                uint8, an image that is not ``[3, H, W]``, one smaller than a patch, or one whose
                sides are no multiples of the stride.
        """
        if not images:
            raise ValueError("a batch needs at least one image")
        _check_dtypes({image.dtype for image in images})
        grids = tuple(patch_grid(image.shape, patch_size, stride) for image in images)
        parts = [_patches(image, patch_size, stride) for image in images]
        # One image is not copied: in a decoder's thread that would start OpenMP threads, which
        # then spin for milliseconds on the cores of those that run a model.
        return cls(parts[0] if len(parts) == 1 else torch.cat(parts), grids)

    @classmethod
    def cat(cls, batches: Sequence["PackedBatch"], *, pin_memory: bool = False) -> "PackedBatch":
        """One batch of the images of several.

        ``pin_memory`` puts it into pinned memory, from which a GPU copies while the host goes on.

        Raises:
            ValueError: if there is none, or they differ in dtype.
        """
        if not batches:
            raise ValueError("a batch needs at least one image")
        _check_dtypes({batch.patches.dtype for batch in batches})
        grids = tuple(grid for batch in batches for grid in batch.grids)
        parts = [batch.patches for batch in batches]
        shape = (sum(map(len, parts)), parts[0].shape[1])
        out = torch.empty(shape, dtype=parts[0].dtype, pin_memory=pin_memory)
        return cls(torch.cat(parts, out=out), grids)

    def to(self, device: torch.device) -> "PackedBatch":
        """The batch on ``device``; a GPU is not waited for if the patches are in pinned memory."""
        return PackedBatch(self.patches.to(device, non_blocking=True), self.grids)

    def normalised(self, mean: Sequence[float], std: Sequence[float]) -> "PackedBatch":
        """The batch with normalised patches, float32; itself if they are that already.

        Args:
            mean: of each channel, for pixels from 0 to 1.
            std: likewise, the standard deviation.
        """
        if self.patches.is_floating_point():
            return self
        pixels = self.patches.unflatten(1, (3, -1)).float() / 255
        means, stds = (pixels.new_tensor(values)[:, None] for values in (mean, std))
        return PackedBatch(((pixels - means) / stds).flatten(1), self.grids)

    @property
    def num_images(self) -> int:
        """Images in the batch."""
        return len(self.grids)

    @property
    def cu_seqlens(self) -> Tensor:
        """``[N + 1]`` int32: image ``i`` owns the rows ``cu_seqlens[i]:cu_seqlens[i + 1]``."""
        lengths = (rows * cols for rows, cols in self.grids)
        return to_device(list(accumulate(lengths, initial=0)), self.patches.device)


def to_device(
    values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.int32
) -> Tensor:
    """``values`` as a tensor on ``device``; a GPU is not waited for."""
    pinned = device.type == "cuda"
    return torch.tensor(values, dtype=dtype, pin_memory=pinned).to(device, non_blocking=True)


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


def _check_dtypes(dtypes: set[torch.dtype]) -> None:
    if len(dtypes) > 1:
        raise ValueError(f"the images of a batch must have one dtype, not {_names(dtypes)}")
    if not all(dtype == torch.uint8 or dtype.is_floating_point for dtype in dtypes):
        raise ValueError(f"images must be uint8 or floating point, not {_names(dtypes)}")


def _names(dtypes: set[torch.dtype]) -> str:
    return " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))


def _patches(image: Tensor, patch_size: int, stride: int) -> Tensor:
    if has_cut_rgbx(image, patch_size):
        from vimserve.kernels.cut_rgbx.cpu import cut_rgbx

        return cut_rgbx(image, stride)
    in_numpy = image.dtype in (torch.uint8, torch.float32) and not image.requires_grad
    if in_numpy and image.device.type == "cpu":
        # In NumPy, because torch would start a thread pool of its own in every caller's thread.
        pixels = np.ascontiguousarray(image.numpy())
        window = (3, patch_size, patch_size)
        cut = sliding_window_view(pixels, window, writeable=True)[0, ::stride, ::stride]
        # NumPy copies a patch's row much faster as one element than value by value.
        rows = np.ascontiguousarray(cut.view(f"V{patch_size * pixels.itemsize}"))
        return torch.from_numpy(rows.view(pixels.dtype).reshape(-1, 3 * patch_size * patch_size))
    tiles = image.unfold(1, patch_size, stride).unfold(2, patch_size, stride)
    return tiles.permute(1, 2, 0, 3, 4).reshape(-1, 3 * patch_size * patch_size)
