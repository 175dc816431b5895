"""How a TIFF's pixels are stored. What cannot be placed is refused by its name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vimserve.server.errors import ImageTooLarge, UnsupportedImage
from vimserve.server.images.samples import SampleType
from vimserve.server.images.tiff.directory import File, Tag, Values, damaged, read_directory
from vimserve.server.images.tiff.numbers import (
    BILEVEL,
    COLOURS,
    COMPRESSIONS,
    JPEG,
    PALETTE,
    PHOTOMETRICS,
    PREDICTED,
    READ,
    SEPARATED,
    WHITE_IS_ZERO,
    YCBCR,
    compression_name,
)

_KINDS = {1: "u", 2: "i", 3: "f", 4: "u", 5: "complex integer", 6: "complex"}
_WIDTHS = {"u": (*range(1, 33), 64), "i": (*range(2, 33), 64), "f": (16, 32, 64)}
ASSOCIATED, UNASSOCIATED = 1, 2
MOST_SEGMENTS = 2**16
# Tiles may be larger than a small picture.
LEAST_COVERED = 2**20


@dataclass(frozen=True)
class Layout:
    """Where the pixels of the first picture of a TIFF are, and what they mean.

    Attributes:
        height: pixels, as stored.
        width: pixels, as stored.
        samples: of each pixel.
        type: of each sample.
        order: of the bytes of a sample, ``<`` or ``>``.
        photometric: one of ``COLOURS``.
        planar: whether every sample has a plane of its own.
        cell: (height, width) of a strip or a tile.
        offsets: of the strips or tiles.
        counts: of the bytes of the strips or tiles.
        compression: one of ``READ``.
        predictor: 1, 2 or 3.
        reversed_bits: whether the first pixel is in a byte's lowest bits.
        alpha: ``ASSOCIATED``, ``UNASSOCIATED`` or None; it is the sample after the colours.
        orientation: as in EXIF, from 1 to 8.
        tags: all of them.
    """

    height: int
    width: int
    samples: int
    type: SampleType
    order: str
    photometric: int
    planar: bool
    cell: tuple[int, int]
    offsets: Values
    counts: Values
    compression: int
    predictor: int
    reversed_bits: bool
    alpha: int | None
    orientation: int
    tags: Mapping[Tag, Values]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of strips or tiles."""
        return math.ceil(self.height / self.cell[0]), math.ceil(self.width / self.cell[1])

    @property
    def in_cell(self) -> int:
        """Samples of each pixel that a strip or tile has."""
        return 1 if self.planar else self.samples

    @property
    def cell_bytes(self) -> int:
        """Bytes of a strip or tile once it is decoded."""
        return self.cell[0] * self.cell[1] * self.in_cell * self.type.dtype.itemsize

    @property
    def segments(self) -> int:
        """Number of strips or tiles."""
        return math.prod(self.grid) * (self.samples if self.planar else 1)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all strips and tiles once they are decoded."""
        return self.segments * self.cell_bytes

    @property
    def compression_name(self) -> str:
        """Its name."""
        return compression_name(self.compression)

    @property
    def subsampling(self) -> tuple[int, int]:
        """Pixels that share a chroma sample, across and down; a JPEG knows its own."""
        if self.photometric != YCBCR or self.compression == JPEG:
            return 1, 1
        values = self.tags.get(Tag.YCBCR_SUBSAMPLING)
        return (2, 2) if values is None or values.size < 2 else (int(values[0]), int(values[1]))

    def __str__(self) -> str:
        place = "in planes" if self.planar and self.samples > 1 else ""
        bands = "a sample" if self.samples == 1 else f"{self.samples} samples"
        return f"{bands} of {self.type} {place}".strip()


def read_layout(data: File, max_pixels: int, max_segments: int = MOST_SEGMENTS) -> Layout:
    """The layout of a TIFF's first picture; no pixel is decoded.

    Raises:
        UnsupportedImage: a layout that is not read, by its name.
        ImageTooLarge: height × width is more than ``max_pixels``, or decoding would take much more
            than such a picture does.
        CorruptImage: the directory is damaged, or points outside of the file.
    """
    directory = read_directory(data)
    found = {tag: directory.values(tag, tag.name) for tag in Tag}
    tags = {tag: values for tag, values in found.items() if values is not None}
    for tag, values in tags.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise damaged(data, f"its tag {tag.name} is no number")

    def number(tag: Tag, default: int | None = None) -> int:
        if tag not in tags or not tags[tag].size:
            if default is None:
                raise damaged(data, f"it has no tag {tag.name}")
            return default
        return int(tags[tag].reshape(-1)[0])

    height, width = number(Tag.LENGTH), number(Tag.WIDTH)
    if height < 1 or width < 1:
        raise damaged(data, f"its picture has {height}x{width} pixels")
    if height * width > max_pixels:
        raise ImageTooLarge(
            f"the image has {height * width} pixels, more than the {max_pixels} accepted",
            limit=max_pixels,
            value=height * width,
        )
    if (depth := number(Tag.IMAGE_DEPTH, 1)) != 1:
        raise unsupported(f"a volume of {depth} slices", "a flat picture")
    samples, compression = number(Tag.SAMPLES, 1), number(Tag.COMPRESSION, 1)
    if not 1 <= samples < 2**16:
        raise damaged(data, f"its pixels have {samples} samples")
    photometric = number(Tag.PHOTOMETRIC, WHITE_IS_ZERO if compression in BILEVEL else 1)
    planar = number(Tag.PLANES, 1) == 2
    tiled = Tag.TILE_WIDTH in tags
    cell = min(number(Tag.ROWS_PER_STRIP, height) or height, height), width
    if tiled:
        cell = number(Tag.TILE_LENGTH), number(Tag.TILE_WIDTH)
        if min(cell) < 1:
            raise damaged(data, "its tiles have no pixels")
    layout = Layout(
        height, width, samples, _sample_type(tags, samples), directory.order, photometric,
        planar, cell,
        _table(data, tags, Tag.TILE_OFFSETS, Tag.STRIP_OFFSETS),
        _table(data, tags, Tag.TILE_COUNTS, Tag.STRIP_COUNTS, missing=len(data)),
        compression, number(Tag.PREDICTOR, 1) if compression in PREDICTED else 1,
        number(Tag.FILL_ORDER, 1) == 2, _alpha(tags, photometric, samples),
        number(Tag.ORIENTATION, 1), tags,
    )  # fmt: skip
    _check_readable(layout, number(Tag.INK_SET, 1))
    _check_size(data, layout, max_pixels, max_segments)
    return layout


def unsupported(what: str, limit: Any) -> UnsupportedImage:
    """The error for a layout that is not read."""
    return UnsupportedImage(f"the TIFF has {what}, which is not read", limit=limit, value=what)


def _sample_type(tags: Mapping[Tag, Values], samples: int) -> SampleType:
    bits = _same(tags, Tag.BITS, samples, 1, "bits of a sample")
    number = _same(tags, Tag.SAMPLE_FORMAT, samples, 1, "sample formats")
    kind = _KINDS.get(number, f"sample format {number}")
    if kind not in _WIDTHS:
        raise unsupported(f"{kind} samples", "integer or floating-point samples")
    if bits not in _WIDTHS[kind]:
        raise unsupported(
            f"{bits}-bit {SampleType(kind, bits).named}",  # type: ignore[arg-type]
            "1 to 32 or 64 bits of an integer, 16, 32 or 64 of floating point",
        )
    return SampleType(kind, bits)  # type: ignore[arg-type]


def _same(tags: Mapping[Tag, Values], tag: Tag, samples: int, default: int, what: str) -> int:
    """The value that all samples share."""
    values = tags[tag].reshape(-1)[:samples] if tag in tags else np.empty(0, int)
    different = np.unique(values).tolist()
    if len(different) > 1:
        raise unsupported(f"different {what}: {', '.join(map(str, different[:8]))}", "one for all")
    return int(different[0]) if different else default


def _table(
    data: File, tags: Mapping[Tag, Values], of_tiles: Tag, of_strips: Tag, missing: int = -1
) -> Values:
    """Offsets or lengths of the strips or tiles."""
    # Some writers list tiles under the tags of strips.
    for tag in (of_tiles, of_strips) if Tag.TILE_WIDTH in tags else (of_strips,):
        if tag in tags:
            return tags[tag].reshape(-1)
    if missing < 0:
        raise damaged(data, f"it has no tag {of_strips.name}")
    return np.array([missing])


def _alpha(tags: Mapping[Tag, Values], photometric: int, samples: int) -> int | None:
    beyond = samples - COLOURS.get(photometric, samples)
    if Tag.EXTRA_SAMPLES in tags:
        extra = tags[Tag.EXTRA_SAMPLES].reshape(-1)[:1].tolist()
        return extra[0] if beyond > 0 and extra and extra[0] in (ASSOCIATED, UNASSOCIATED) else None
    return UNASSOCIATED if beyond == 1 else None


def _check_readable(layout: Layout, ink_set: int) -> None:
    name = PHOTOMETRICS.get(layout.photometric, f"photometric interpretation {layout.photometric}")
    if layout.photometric not in COLOURS:
        raise unsupported(f"{name} pixels", [PHOTOMETRICS[known] for known in COLOURS])
    if layout.photometric == SEPARATED and ink_set != 1:
        raise unsupported("inks other than CMYK", "CMYK")
    if layout.samples < COLOURS[layout.photometric]:
        raise unsupported(f"{name} pixels of {layout.samples} samples", COLOURS[layout.photometric])
    least, most = {PALETTE: (1, 16), YCBCR: (8, 8)}.get(layout.photometric, (1, 64))
    if not least <= layout.type.bits <= most or (most < 64 and layout.type.kind != "u"):
        raise unsupported(f"{name} pixels of {layout.type}", most)
    _check_compression(layout, name)


def _check_compression(layout: Layout, name: str) -> None:
    how, kind = layout.compression_name, layout.type
    if layout.compression not in READ:
        raise unsupported(
            f"{how} compression", list(dict.fromkeys(COMPRESSIONS[known] for known in READ))
        )
    if layout.compression in BILEVEL and (kind.bits, layout.in_cell) != (1, 1):
        raise unsupported(f"{layout} in {how} compression", "1 bit")
    ycbcr = layout.photometric == YCBCR
    if layout.compression == JPEG and (
        (kind.kind, kind.bits) != ("u", 8) or layout.in_cell not in ((3,) if ycbcr else (1, 3, 4))
    ):
        raise unsupported(f"{name} pixels, {layout} in {how} compression", "8 bits")
    kinds = {1: "uif", 2: "uif", 3: "f"}.get(layout.predictor, "")
    if kind.kind not in kinds or (layout.predictor == 2 and kind.bits not in (8, 16, 32, 64)):
        raise unsupported(f"predictor {layout.predictor} for {kind}", [1, 2, 3])
    across, down = layout.subsampling
    if (across, down) != (1, 1) and (
        {across, down} - {1, 2, 4} or layout.planar or layout.predictor != 1 or layout.samples != 3
    ):
        raise unsupported(
            f"YCbCr pixels, {layout}, whose chroma is shared by {across}x{down} pixels", "1, 2 or 4"
        )


def _check_size(data: File, layout: Layout, max_pixels: int, max_segments: int) -> None:
    """Bound the work before it begins: strips or tiles, their pixels and their bytes."""
    segments = layout.segments
    if segments > max_segments:
        raise ImageTooLarge(
            f"the TIFF has {segments} strips or tiles, more than the {max_segments} accepted",
            limit=max_segments,
            value=segments,
        )
    if min(layout.offsets.size, layout.counts.size) < segments:
        raise damaged(data, f"it needs {segments} strips or tiles and lists fewer")
    covered = math.prod(layout.grid) * math.prod(layout.cell)
    most = 2 * max_pixels + LEAST_COVERED
    if covered > most:
        raise ImageTooLarge(
            f"the tiles of the TIFF have {covered} pixels, more than the {most} accepted",
            limit=most,
            value=covered,
        )
    if layout.decoded_bytes > 8 * most:
        raise ImageTooLarge(
            f"the TIFF has {layout} and would be {layout.decoded_bytes} bytes decoded, more than "
            f"the {8 * most} accepted",
            limit=8 * most,
            value=layout.decoded_bytes,
        )
