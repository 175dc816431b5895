"""Writes TIFFs of any layout from samples, by TIFF 6.0 and its supplements."""

import lzma
import struct
import zlib
from itertools import product
from typing import Any

import imagecodecs
import numpy as np

COMPRESS: dict[int, Any] = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: zlib.compress,
    32946: zlib.compress,
    32773: imagecodecs.packbits_encode,
    34925: lzma.compress,
    50000: imagecodecs.zstd_encode,
}


def tiff(
    samples: Any,
    bits: int,
    order: str = "<",
    *,
    big: bool = False,
    planar: bool = False,
    tile: tuple[int, int] | None = None,
    rows: int | None = None,
    compression: int = 1,
    predictor: int = 1,
    reverse: bool = False,
    photometric: int = 1,
    tags: dict[int, Any] | None = None,
    encode: Any = None,
) -> bytes:
    """A file of samples ``[H, W, S]`` of ``bits`` each; ``tags`` maps numbers to (type, values).

    ``encode`` turns the samples of a strip or tile into its bytes, instead of the compression.
    """
    height, width, count = samples.shape
    cell = tile or (min(rows or height, height), width)
    padded = np.pad(
        samples,
        [(0, -height % cell[0] if tile else 0), (0, -width % cell[1]), (0, 0)],
        mode="edge",
    )
    planes = [padded[..., i : i + 1] for i in range(count)] if planar else [padded]
    segments = []
    for plane, top, left in product(
        planes, range(0, height, cell[0]), range(0, padded.shape[1], cell[1])
    ):
        part = plane[top : top + cell[0], left : left + cell[1]]
        if encode is not None:
            segments.append(encode(part))
            continue
        raw = _pack(_predict(part, predictor), bits, order if predictor != 3 else ">")
        if predictor == 3:
            raw = _predict_float(part)
        data = COMPRESS[compression](raw)
        segments.append(bytes(imagecodecs.bitorder_encode(data)) if reverse else bytes(data))
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    places: dict[int, Any] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * count), 259: (3, [compression]),
        262: (3, [photometric]), 277: (3, [count]), 284: (3, [2 if planar else 1]),
        339: (3, [kind] * count), 317: (3, [predictor]), 266: (3, [2 if reverse else 1]),
    }  # fmt: skip
    if tile:
        places |= {322: (4, [tile[1]]), 323: (4, [tile[0]])}
    else:
        places |= {278: (4, [cell[0]])}
    return assemble(segments, places | (tags or {}), order, big=big, tiled=tile is not None)


def assemble(
    segments: list[bytes], tags: dict[int, Any], order: str, *, big: bool = False, tiled: bool
) -> bytes:
    """A file of these strips or tiles with these tags."""
    word, kind = ("Q", 16) if big else ("I", 4)
    size = struct.calcsize(word)
    start = 16 if big else 8
    offsets, body = [], b""
    for segment in segments:
        offsets.append(start + len(body))
        body += segment + bytes(len(segment) % 2)
    tags = tags | {
        324 if tiled else 273: (kind, offsets),
        325 if tiled else 279: (kind, [len(segment) for segment in segments]),
    }
    entries, values = b"", b""
    directory = start + len(body)
    after = directory + (8 if big else 2) + len(tags) * (4 + 2 * size) + size
    for tag, (type_, numbers) in sorted(tags.items()):
        one = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 7: "B", 12: "d", 16: "Q"}[type_]
        packed = (
            struct.pack(f"{order}{len(numbers) * one}", *numbers)
            if type_ != 5
            else b"".join(struct.pack(f"{order}II", *pair) for pair in numbers)
        )
        entries += struct.pack(f"{order}HH{word}", tag, type_, len(numbers))
        if len(packed) > size:
            entries += struct.pack(order + word, after + len(values))
            values += packed + bytes(len(packed) % 2)
        else:
            entries += packed.ljust(size, b"\0")
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + struct.pack(f"{order}HHHQ", 43, 8, 0, directory)
        listed = struct.pack(f"{order}Q", len(tags))
    else:
        head = mark + struct.pack(f"{order}HI", 42, directory)
        listed = struct.pack(f"{order}H", len(tags))
    return head + body + listed + entries + bytes(size) + values


def _pack(part: Any, bits: int, order: str) -> bytes:
    """Samples to bytes, every row from a new byte on."""
    if bits in (8, 16, 32, 64):
        return part.astype(part.dtype.newbyteorder(order)).tobytes()
    low = np.uint64(2**bits - 1)
    numbers = part.astype(np.int64).view(np.uint64) & low
    flat = numbers.reshape(len(part), -1)
    if bits == 24:
        digits = flat.astype(">u4").view(np.uint8).reshape(*flat.shape, 4)[..., 1:]
        return (digits if order == ">" else digits[..., ::-1]).tobytes()
    each = flat[..., None] >> np.arange(bits - 1, -1, -1, dtype=np.uint64) & np.uint64(1)
    return np.packbits(each.astype(np.uint8).reshape(len(part), -1), axis=1).tobytes()


def _predict(part: Any, predictor: int) -> Any:
    if predictor != 2:
        return part
    whole = np.ascontiguousarray(part).view(f"u{part.dtype.itemsize}")
    return np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1]))


def _predict_float(part: Any) -> bytes:
    """TIFF technical note 3."""
    height, width, count = part.shape
    size = part.dtype.itemsize
    digits = np.ascontiguousarray(part.astype(part.dtype.newbyteorder(">"))).view(np.uint8)
    planes = digits.reshape(height, width * count, size).transpose(0, 2, 1)
    pixels = planes.reshape(height, size * width, count)
    return np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1])).tobytes()
