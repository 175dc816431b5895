"""Pictures that are nearly the same, by a difference hash and, to be sure, by their thumbnails.

The hash has a bit for each pixel of a grey thumbnail of 8 × 9 that is darker than its neighbour to
the right. Hashes that differ in at most ``BITS`` bits agree in one of ``BITS + 1`` parts, so that
only pictures that share a part are compared.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

SHAPE = (8, 9)  # rows and columns of a thumbnail
BITS = 4  # of 64 that may differ
LEVELS = 6.0  # of 255 that the pixels of thumbnails may differ, on average
CONTRAST = 1 / 8  # less in flat pictures: 1, and this share of a thumbnail's standard deviation

CHUNK = 8192  # pictures that are hashed at a time

Floats = np.ndarray[Any, np.dtype[np.float32]]
Bits = np.ndarray[Any, np.dtype[np.bool_]]


def thumbnail(pixels: Tensor) -> Floats:
    """A grey thumbnail, float32 of ``SHAPE`` from 0 to 255, of uint8 ``[3, H, W]``."""
    picture = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())).convert("L")
    small = picture.resize(SHAPE[::-1], Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def near_duplicates(
    first: Mapping[str, Floats], second: Mapping[str, Floats]
) -> Iterator[tuple[str, str]]:
    """Yield the names of pictures of the first set that one of the second is nearly the same as.

    Args:
        first: thumbnails by name, of which some are in memory at a time.
        second: likewise, fewer of them; each is named at most once.
    """
    names, found = list(second), dict[str, str]()
    hashes = np.concatenate([parts for _, parts in _hashed(second)]) if second else np.empty(0)
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for index, parts in enumerate(hashes):
        for number, part in enumerate(parts):
            buckets.setdefault((number, part.tobytes()), []).append(index)
    for chunk, hashes_of_first in _hashed(first):
        for name, own in zip(chunk, hashes_of_first, strict=True):
            near = {
                index
                for number, part in enumerate(own)
                for index in buckets.get((number, part.tobytes()), ())
                if np.count_nonzero(hashes[index] != own) <= BITS
            }
            for other in (names[index] for index in near):
                most = min(LEVELS, 1 + CONTRAST * float(second[other].std()))
                if np.abs(first[name] - second[other]).mean() <= most:
                    found.setdefault(other, name)
    yield from ((found[other], other) for other in names if other in found)


def _hashed(thumbnails: Mapping[str, Floats]) -> Iterator[tuple[list[str], Bits]]:
    """Yield some names at a time, and their hashes ``[some, BITS + 1, bits]``, padded with 0."""
    names = list(thumbnails)
    for begin in range(0, len(names), CHUNK):
        chunk = names[begin : begin + CHUNK]
        stacked = np.stack([thumbnails[name] for name in chunk])
        bits = (stacked[:, :, :-1] < stacked[:, :, 1:]).reshape(len(chunk), -1)
        per_part = -(-bits.shape[1] // (BITS + 1))
        padding = per_part * (BITS + 1) - bits.shape[1]
        yield chunk, np.pad(bits, ((0, 0), (0, padding))).reshape(len(chunk), BITS + 1, per_part)
