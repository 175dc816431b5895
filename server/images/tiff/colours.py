"""From the samples of a TIFF's pixels to RGB."""

import numpy as np

from vimserve.server.errors import InvalidParameter, UnsupportedImage
from vimserve.server.images.bands import check_bands
from vimserve.server.images.samples import Array, Bytes, SampleType, Scale
from vimserve.server.images.tiff.directory import Tag, Values
from vimserve.server.images.tiff.layout import ASSOCIATED, Layout, unsupported
from vimserve.server.images.tiff.numbers import (
    COLOURS,
    JPEG,
    PALETTE,
    SEPARATED,
    WHITE_IS_ZERO,
    YCBCR,
)

_LUMA = (0.299, 0.587, 0.114)
_REFERENCE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)


def chosen_samples(layout: Layout, bands: tuple[int, ...] | None) -> list[int]:
    """Which samples of a pixel make its colour, counted from 0, and its alpha at the end.

    Args:
        layout: of the TIFF.
        bands: which a client chose, counted from 1; then there is no alpha.

    Raises:
        UnsupportedImage: nothing says which of the samples are the colours.
        InvalidParameter: there is no such band, or the samples are not bands.
    """
    colours = COLOURS[layout.photometric]
    if bands is None:
        beyond = layout.samples - colours - (layout.alpha is not None)
        if beyond and colours == 1:
            raise UnsupportedImage(
                f"the TIFF has {layout}, and nothing says which are red, green and blue; ask for "
                "bands=RED,GREEN,BLUE or for bands=GREY, counted from 1",
                parameter="bands", limit=[1, 3], value=layout.samples,
            )  # fmt: skip
        return list(range(colours + (layout.alpha is not None)))
    check_bands(bands, layout.samples)
    if layout.photometric in (PALETTE, SEPARATED, YCBCR) and bands != tuple(range(1, colours + 1)):
        raise InvalidParameter(
            "bands are for grey, RGB and multispectral pixels, which this TIFF does not have",
            parameter="bands", limit=colours, value=",".join(map(str, bands)),
        )  # fmt: skip
    return [band - 1 for band in bands]


class ToRGB:
    """Turns blocks of samples into RGB.

    Args:
        layout: of the TIFF.
        scale: of the colours.
        has_alpha: whether the last sample is an alpha channel.

    Raises:
        UnsupportedImage: the palette has no colours.
    """

    def __init__(self, layout: Layout, scale: Scale, has_alpha: bool) -> None:
        self._layout = layout
        self._scale = scale
        self._alpha = Scale(layout.type, 0, layout.type.limits[1]) if has_alpha else None
        self._palette = palette_of(layout) if layout.photometric == PALETTE else None

    def __call__(self, block: Array) -> Bytes:
        """uint8 ``[H, W, 3]`` of samples ``[H, W, colours]``, laid on white."""
        colours = block if self._alpha is None else block[..., :-1]
        rgb = self._colours(colours)
        if self._alpha is None:
            return rgb
        alpha = self._alpha(np.ascontiguousarray(block[..., -1:]))
        over = rgb.astype(np.uint16)
        if self._layout.alpha != ASSOCIATED:
            over = _times(over, alpha)
        over += 255 - alpha
        return np.minimum(over, 255).astype(np.uint8)

    def _colours(self, samples: Array) -> Bytes:
        photometric = self._layout.photometric
        if self._palette is not None:
            return self._palette[samples[..., 0]]
        scaled = self._scale(np.ascontiguousarray(samples))
        if photometric == SEPARATED:
            ink = 255 - scaled.astype(np.uint16)
            return _times(ink[..., :3], ink[..., 3:]).astype(np.uint8)
        if photometric == YCBCR and self._layout.compression != JPEG:
            return _from_ycbcr(scaled, self._layout)
        if photometric == WHITE_IS_ZERO:
            scaled = 255 - scaled
        return scaled if scaled.shape[2] == 3 else np.repeat(scaled, 3, axis=2)


def sample_type(layout: Layout) -> SampleType:
    """The type of the samples that a range applies to: never of a palette's indices."""
    return SampleType("u", 8) if layout.photometric == PALETTE else layout.type


def palette_of(layout: Layout) -> Bytes:
    """The colours ``[entries, 3]`` of a palette's indices.

    Raises:
        UnsupportedImage: there are too few.
    """
    colours = layout.tags.get(Tag.COLOR_MAP)
    entries = 2**layout.type.bits
    if colours is None or colours.size < 3 * entries:
        raise unsupported(f"a palette without its {entries} colours", 3 * entries)
    table = colours.reshape(-1)[: 3 * entries].reshape(3, entries).T
    # Some writers store 8 bits; those of 16 bits are 8 bits times 256 or 257.
    return (table if table.max() < 256 else table >> 8).astype(np.uint8)


def _from_ycbcr(pixels: Bytes, layout: Layout) -> Bytes:
    """TIFF 6.0, section 21."""
    red, green, blue = _floats(layout.tags.get(Tag.YCBCR_COEFFICIENTS), _LUMA)
    reference = _floats(layout.tags.get(Tag.REFERENCE_BLACK_WHITE), _REFERENCE)
    code = pixels.astype(np.float32)
    spans = [max(reference[i + 1] - reference[i], 1.0) for i in (0, 2, 4)]
    y = (code[..., 0] - reference[0]) * (255 / spans[0])
    cb = (code[..., 1] - reference[2]) * (127 / spans[1])
    cr = (code[..., 2] - reference[4]) * (127 / spans[2])
    r = cr * (2 - 2 * red) + y
    b = cb * (2 - 2 * blue) + y
    g = (y - blue * b - red * r) / (green or 1.0)
    return (np.stack([r, g, b], axis=-1) + 0.5).clip(0, 255).astype(np.uint8)


def _floats(values: Values | None, default: tuple[float, ...]) -> tuple[float, ...]:
    """A tag's numbers, of which rationals are pairs."""
    if values is None or len(values) < len(default):
        return default
    numbers = values[: len(default)].astype(np.float64)
    if numbers.ndim == 2:
        numbers = numbers[:, 0] / np.maximum(numbers[:, 1], 1)
    return tuple(numbers.tolist())


def _times(values: Array, factor: Array) -> Array:
    """``values * factor / 255`` of 8-bit numbers, rounded."""
    return ((values.astype(np.uint32) * factor + 127) // 255).astype(np.uint16)
