"""The bytes of a strip or tile to its samples.

No output is longer than the layout says, whatever the compressed bytes would grow to.
"""

import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np

from vimserve.server.images.samples import Array
from vimserve.server.images.tiff.directory import Tag
from vimserve.server.images.tiff.layout import Layout, unsupported
from vimserve.server.images.tiff.numbers import BILEVEL, JPEG, LZMA, NONE, YCBCR

# A sequential JPEG needs a scan for each component; each scan costs a pass over the tile.
MOST_SCANS = 8
# Bytes that are decompressed at once.
STEP = 2**20
# What LZMA may take to decode, dictionary included; its highest preset takes half of that.
LZMA_BYTES = 2**27


class BadSegment(Exception):  # noqa: N818
    """The bytes are not what the layout says."""


def decode_cell(data: bytes, layout: Layout) -> Array:
    """The samples ``[rows, columns, samples]`` of a strip or tile, in the machine's byte order.

    A last strip may have fewer rows than the others.

    Raises:
        BadSegment: they are damaged.
        UnsupportedImage: a JPEG that is neither baseline nor sequential.
    """
    height, width = layout.cell
    if layout.compression == JPEG:
        return _jpeg(data, layout)
    if layout.reversed_bits:
        data = bytes(imagecodecs.bitorder_decode(data))
    if layout.compression in BILEVEL:
        return _bilevel(data, layout)
    row = -(-width * layout.in_cell * layout.type.bits // 8)
    raw = np.frombuffer(_inflate(data, layout.compression, height * row), np.uint8)
    rows = min(raw.size // row, height)
    return _samples(raw[: rows * row].reshape(rows, row), layout)


def decode_subsampled(data: bytes, layout: Layout) -> Array:
    """As ``decode_cell``, for YCbCr with fewer chroma samples (TIFF 6.0, section 21).

    Raises:
        BadSegment: they are damaged.
    """
    height, width = layout.cell
    across, down = layout.subsampling
    units = -(-height // down), -(-width // across)
    unit = across * down + 2
    raw = np.frombuffer(_inflate(data, layout.compression, units[0] * units[1] * unit), np.uint8)
    rows = min(raw.size // (units[1] * unit), units[0])
    cells = raw[: rows * units[1] * unit].reshape(rows, units[1], unit)
    luma = cells[..., :-2].reshape(rows, units[1], down, across).transpose(0, 2, 1, 3)
    chroma = cells[..., -2:].repeat(down, 0).repeat(across, 1)
    pixels = np.dstack([luma.reshape(rows * down, units[1] * across), chroma])
    return pixels[:height, :width]


def _inflate(data: bytes, compression: int, size: int) -> Any:
    """Up to ``size`` bytes."""
    try:
        if compression == NONE:
            return data[:size]
        if compression in (8, 32946):
            inflater = zlib.decompressobj()
            return _stepwise(
                inflater.decompress,
                lambda: None if inflater.eof else inflater.unconsumed_tail,
                data, size,
            )  # fmt: skip
        if compression == LZMA:
            unpacker = lzma.LZMADecompressor(memlimit=LZMA_BYTES)
            return _stepwise(unpacker.decompress, lambda: None if unpacker.eof else b"", data, size)
        decode = {
            5: imagecodecs.lzw_decode,
            32773: imagecodecs.packbits_decode,
            34926: imagecodecs.zstd_decode,
            50000: imagecodecs.zstd_decode,
        }[compression]
        return decode(data, out=size)
    except (zlib.error, lzma.LZMAError, RuntimeError, ValueError, EOFError) as error:
        raise BadSegment from error


def _stepwise(
    decompress: Callable[[bytes, int], bytes],
    rest: Callable[[], bytes | None],
    data: bytes,
    size: int,
) -> Array:
    """Up to ``size`` bytes, a few at a time.

    Python joins what a call returns while no other thread can run; that of one call for all would
    hold up the whole server.
    """
    output = np.empty(size, np.uint8)
    done, more = 0, data
    while done < size:
        part = decompress(more, min(size - done, STEP))
        output[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
        left = rest()
        if left is None or not part:
            break
        more = left
    return output[:done]


def _samples(rows: Array, layout: Layout) -> Array:
    """Bytes ``[rows, bytes]`` to samples ``[rows, columns, samples]``."""
    width, in_cell, kind = layout.cell[1], layout.in_cell, layout.type
    shape = len(rows), width, in_cell
    if layout.predictor == 3:
        return _undo_float_predictor(rows, shape, kind.dtype)
    if kind.bits in (8, 16, 32, 64):
        samples = rows.view(f"{layout.order}u{kind.bits // 8}").astype(f"u{kind.bits // 8}")
        samples = samples.reshape(shape)
        if layout.predictor == 2:
            np.cumsum(samples, axis=1, dtype=samples.dtype, out=samples)
        return samples.view(kind.dtype)
    if kind.bits == 24:
        # libtiff swaps triples of bytes like other samples of whole bytes.
        digits = rows.reshape(*shape, 3)
        first, last = (0, 2) if layout.order == "<" else (2, 0)
        samples = digits[..., first].astype(np.uint32)
        samples |= digits[..., 1].astype(np.uint32) << 8
        samples |= digits[..., last].astype(np.uint32) << 16
    else:
        unsigned = np.dtype(f"u{kind.dtype.itemsize}")
        samples = imagecodecs.packints_decode(
            rows.tobytes(), unsigned, kind.bits, runlen=width * in_cell
        ).reshape(shape)
    if kind.kind == "i":  # the sign is the highest of the bits, not of the type's
        unused = kind.dtype.itemsize * 8 - kind.bits
        return (samples << unused).view(kind.dtype) >> unused
    return samples


def _undo_float_predictor(rows: Array, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Array:
    """Undo horizontal differencing of floating point (TIFF technical note 3).

    A row has the highest bytes of all its samples, then the next, and so on; each byte is the
    difference to that of the pixel before.
    """
    height, width, samples = shape
    differences = rows.reshape(height, width * dtype.itemsize, samples)
    digits = np.cumsum(differences, axis=1, dtype=np.uint8)
    digits = digits.reshape(height, dtype.itemsize, width * samples).transpose(0, 2, 1)
    big = np.ascontiguousarray(digits).view(dtype.newbyteorder(">"))
    return big.astype(dtype).reshape(shape)


def _bilevel(data: bytes, layout: Layout) -> Array:
    height, width = layout.cell
    try:
        if layout.compression == 2:
            bits = imagecodecs.ccittrle_decode(data, height, width)
        elif layout.compression == 3:
            options = layout.tags.get(Tag.T4_OPTIONS)
            t4 = 0 if options is None or not options.size else int(options[0])
            bits = imagecodecs.ccittfax3_decode(data, height, width, t4options=t4)
        else:
            bits = imagecodecs.ccittfax4_decode(data, height, width)
    except (RuntimeError, ValueError) as error:
        raise BadSegment from error
    return np.asarray(bits, np.uint8).reshape(-1, width, 1)[:height]


def _jpeg(data: bytes, layout: Layout) -> Array:
    """A tile that is a JPEG; its colours become RGB where the layout says YCbCr."""
    frame = _check_frame(data)
    # Tiles at an edge may have only the pixels that the picture has.
    if frame[0] > layout.cell[0] or frame[1] > layout.cell[1] or frame[2] != layout.in_cell:
        raise BadSegment
    tables = layout.tags.get(Tag.JPEG_TABLES)
    # As these, one, three or four components are left as they are.
    stored = {1: "GRAYSCALE", 3: "RGB", 4: "CMYK"}[layout.in_cell]
    wanted = stored
    if layout.photometric == YCBCR:
        stored = "YCBCR"
    try:
        pixels = imagecodecs.jpeg8_decode(
            data,
            tables=None if tables is None else tables.tobytes(),
            colorspace=stored,
            outcolorspace=wanted,
        )
    except (RuntimeError, ValueError) as error:
        raise BadSegment from error
    return np.asarray(pixels).reshape(frame)


def _check_frame(data: bytes) -> tuple[int, int, int]:
    """Height, width and components of a JPEG (ITU-T T.81, B.2.2), which must be sequential."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if marker > 0xC1:
                raise unsupported("progressive or lossless JPEG compression", "sequential JPEG")
            if data.count(b"\xff\xda", at) > MOST_SCANS:
                raise unsupported(f"JPEGs of more than {MOST_SCANS} scans", MOST_SCANS)
            height, width, components = struct.unpack(">HHB", data[at + 5 : at + 10])
            return height, width, components
        at += 2 + length
    raise BadSegment
