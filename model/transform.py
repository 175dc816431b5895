"""A decoded picture to the pixels that the model takes: resize and crop, or pad.

The model normalises them itself (``model.embed.PatchProjection``), unless they are padded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vimserve.model.resize import Filter, resize
from vimserve.model.rgbx import channels
from vimserve.model.samples import SampleRange

Fit = Literal["crop", "contain", "square"]
SQUARE_MULTIPLE = 32  # pixels; what a detector's coarsest map but one divides


def _rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


@dataclass(frozen=True)
class Transform:
    """How a model wants its pictures; the defaults are the published ImageNet evaluation.

    Attributes:
        resolution: target in pixels: of both sides under ``crop``, of the longer side under
            ``contain``; None keeps the picture's own size. Under ``square`` the side of the square,
            a multiple of 32; None takes the first one that is no smaller than the picture.
        fit: ``crop`` resizes the shorter side to ``resolution / crop_ratio`` and cuts the centre;
            ``contain`` keeps the aspect ratio and cuts nothing. Either way the sides end up as
            multiples of ``multiple``. ``square`` resizes the longer side to ``resolution``, keeps
            the aspect ratio to a pixel and leaves what is right of and below the picture to
            ``pad_normalised``.
        multiple: the model's patch stride.
        minimum: the smallest side that the model takes, its patch size.
        shorter: the shorter side in pixels under ``contain``, if there is no ``resolution``.
        at_most: what the longer side is limited to in pixels under ``contain`` and ``square``, if
            there is no ``resolution``.
        range: which sample values become black and white, in pictures of more than 8 bits.
        bands: which of a picture's bands are red, green and blue, or grey, counted from 1; None
            leaves it to the picture.
        filter: by which a picture is resized.

    Raises:
        ValueError: for a value outside the supported range; the message names it.
    """

    resolution: int | None = 224
    fit: Fit = "crop"
    crop_ratio: float = 0.875
    multiple: int = 16
    minimum: int = 16
    shorter: int | None = None
    at_most: int | None = None
    range: SampleRange = field(default_factory=SampleRange)
    bands: tuple[int, ...] | None = None
    filter: Filter = "bicubic"

    def __post_init__(self) -> None:
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"resolution must be at least 1, not {self.resolution}")
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit must be one of {', '.join(get_args(Fit))}, not {self.fit!r}")
        if not 0 < self.crop_ratio <= 1:
            raise ValueError(f"crop_ratio must be above 0 and at most 1, not {self.crop_ratio}")
        if self.fit == "square" and (self.resolution or 0) % SQUARE_MULTIPLE:
            raise ValueError(
                f"with fit=square resolution must be a multiple of {SQUARE_MULTIPLE}, "
                f"not {self.resolution}"
            )

    def with_request(
        self, resolution: int | Literal["native"] | None, fit: Fit | None
    ) -> "Transform":
        """The same transform with what a request asked for instead of the defaults."""
        if resolution is None:
            resolution = self.resolution
        side = None if resolution == "native" else resolution
        return replace(self, resolution=side, fit=fit or self.fit)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the model's input for a ``height`` × ``width`` picture."""
        if self.fit == "square":
            side = self._square(height, width)
            return side, side
        if self.fit == "crop":
            side_h, side_w = (
                (height, width) if self.resolution is None else (self.resolution, self.resolution)
            )
            return self._round_down(side_h), self._round_down(side_w)
        longer, shorter = max(height, width), min(height, width)
        scale = 1.0 if self.shorter is None else self.shorter / shorter
        if self.at_most is not None:
            scale = min(scale, self.at_most / longer)
        if self.resolution is not None:
            scale = self.resolution / longer
        return self._round(height * scale), self._round(width * scale)

    def picture_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the picture within the model's input; beyond it there is padding.

        That is what ``__call__`` makes. Under ``square`` the rounding is the published one
        (Detectron2's ``ResizeShortestEdge`` with both limits at the side of the square).
        """
        if self.fit != "square":
            return self.output_size(height, width)
        side = self._square(height, width)
        scale = side / min(height, width)
        high, wide = (side, scale * width) if height < width else (scale * height, side)
        limit = min(side / max(high, wide), 1.0)
        return max(int(high * limit + 0.5), 1), max(int(wide * limit + 0.5), 1)

    def decode_size(self, height: int, width: int) -> tuple[int, int]:
        """The size to which the whole picture is resized, before any crop.

        A decoder may deliver the picture at any size not below this one.
        """
        out_h, out_w = self.picture_size(height, width)
        if self.fit != "crop":
            return out_h, out_w
        if self.resolution is None:
            return max(height, out_h), max(width, out_w)
        shorter = int(self.resolution / self.crop_ratio)
        if height <= width:
            return max(shorter, out_h), max(int(shorter * width / height), out_w)
        return max(int(shorter * height / width), out_h), max(shorter, out_w)

    def __call__(
        self,
        image: Image.Image,
        size: tuple[int, int] | None = None,
        to_rgb: Callable[[Image.Image], Image.Image] = _rgb,
    ) -> Tensor:
        """Resize and crop a picture to a uint8 tensor ``[3, H, W]`` of its ``picture_size``.

        The tensor must not be written to: it may be the picture's own memory.

        Args:
            image: the picture, in any mode.
            size: its (height, width) before a decoder reduced it; the result has the size that
                belongs to it.
            to_rgb: makes any part of it RGB; the whole is never RGB at once, to save memory.
        """
        height, width = size or (image.height, image.width)
        out_h, out_w = self.picture_size(height, width)
        whole_h, whole_w = self.decode_size(height, width)
        top, left = round((whole_h - out_h) / 2), round((whole_w - out_w) / 2)
        # Resizing only what the crop keeps bounds the memory of a picture 10 pixels high and
        # 100,000 wide; the filter still sees the pixels around the box.
        across, down = image.width / whole_w, image.height / whole_h
        box = (left * across, top * down, (left + out_w) * across, (top + out_h) * down)
        image = resize(image, (out_w, out_h), _within(box, image), to_rgb, self.filter)
        return channels(image)

    def _square(self, height: int, width: int) -> int:
        if self.resolution is not None:
            return self.resolution
        longer = max(height, width)
        if self.at_most is not None:
            longer = min(longer, self.at_most // SQUARE_MULTIPLE * SQUARE_MULTIPLE)
        return max(-(-longer // SQUARE_MULTIPLE), 1) * SQUARE_MULTIPLE

    def _round(self, side: float) -> int:
        return max(round(side / self.multiple) * self.multiple, self._least)

    def _round_down(self, side: int) -> int:
        return max(side // self.multiple * self.multiple, self._least)

    @property
    def _least(self) -> int:
        return -(-self.minimum // self.multiple) * self.multiple


def pad_normalised(
    pixels: Tensor, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Normalise a picture and put it at the upper left of zeros.

    Args:
        pixels: uint8 ``[3, h, w]``.
        size: (height, width) of the result, which has room for the picture.
        mean: of each channel, for pixels from 0 to 1.
        std: likewise, the standard deviation.

    Returns:
        float32 ``[3, height, width]``.
    """
    # In NumPy, because torch would start a thread pool of its own in every caller's thread.
    padded = np.zeros((3, *size), dtype=np.float32)
    for channel, of_picture, middle, deviation in zip(
        padded, pixels.numpy(), mean, std, strict=True
    ):
        place = channel[: pixels.shape[1], : pixels.shape[2]]
        np.subtract(of_picture, np.float32(255 * middle), out=place)
        place /= np.float32(255 * deviation)
    return torch.from_numpy(padded)


def _within(
    box: tuple[float, float, float, float], image: Image.Image
) -> tuple[float, float, float, float]:
    """The box, cut off at the picture's right and lower edge, beyond which rounding may put it."""
    return box[0], box[1], min(box[2], image.width), min(box[3], image.height)
