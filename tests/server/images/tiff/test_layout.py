"""What is refused, by which name, and how little a refusal costs."""

import itertools
import math
import struct
import tracemalloc

import numpy as np
import pytest

from tests.server.images.tiff.writer import assemble, tiff
from vimserve.model.transform import Transform
from vimserve.server.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from vimserve.server.images.source import EncodedImage
from vimserve.server.images.tiff.layout import MOST_SEGMENTS

GREY = np.arange(240, dtype=np.uint8).reshape(12, 20, 1)


def decoded(data, max_pixels=10**6):
    return np.asarray(EncodedImage(data).open(max_pixels).picture(Transform()))


def grey(**tags):
    return tiff(GREY, 8, tags={int(tag[1:]): value for tag, value in tags.items()})


REFUSED = {
    "JPEG 2000 compression": grey(t259=(3, [34712])),
    "WebP compression": grey(t259=(3, [50001])),
    "old-style JPEG compression": grey(t259=(3, [6])),
    "number 4711 compression": grey(t259=(3, [4711])),
    "complex samples": grey(t339=(3, [6])),
    "complex integer samples": grey(t339=(3, [5])),
    "sample format 9 samples": grey(t339=(3, [9])),
    "40-bit unsigned integers": grey(t258=(3, [40])),
    "24-bit floating point": grey(t258=(3, [24]), t339=(3, [3])),
    "different bits of a sample: 5, 6": grey(t258=(3, [5, 6, 5]), t277=(3, [3]), t262=(3, [2])),
    "different sample formats: 1, 3": grey(t339=(3, [1, 3]), t277=(3, [2])),
    "CIE L*a*b* pixels": grey(t262=(3, [8])),
    "colour filter array pixels": grey(t262=(3, [32803])),
    "photometric interpretation 99 pixels": grey(t262=(3, [99])),
    "RGB pixels of 1 samples": grey(t262=(3, [2])),
    "inks other than CMYK": grey(t262=(3, [5]), t332=(3, [2]), t277=(3, [4])),
    "a volume of 4 slices": grey(t32997=(4, [4])),
    "predictor 3 for 8-bit unsigned integers": grey(t317=(3, [3]), t259=(3, [8])),
    "predictor 9 for": grey(t317=(3, [9]), t259=(3, [8])),
    "chroma is shared by 3x1 pixels": tiff(
        np.zeros((4, 6, 3), np.uint8), 8, photometric=6, tags={530: (3, [3, 1])}
    ),
    "in CCITT group 4 compression": grey(t259=(3, [4])),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_named(name):
    with pytest.raises(UnsupportedImage) as caught:
        decoded(REFUSED[name])
    assert name in str(caught.value)
    assert " at 0x" not in str(caught.value)


def test_the_pixel_limit_is_inclusive():
    decoded(tiff(GREY, 8), 240)
    with pytest.raises(ImageTooLarge) as caught:
        decoded(tiff(GREY, 8), 239)
    assert (caught.value.limit, caught.value.value) == (239, 240)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 34925, 50000])
def test_a_truncated_file_is_damaged(compression, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = tiff(noise, 8, photometric=2, compression=compression, rows=16)
    for part in (0.001, 0.3, 0.99):
        with pytest.raises(CorruptImage, match="truncated or damaged") as caught:
            decoded(data[: max(int(len(data) * part), 8)])
        assert "0x" not in str(caught.value)


@pytest.mark.parametrize("compression", [5, 8, 32773, 34925, 50000])
def test_damaged_bytes_end_in_a_picture_or_a_typed_error(compression):
    noise = np.random.default_rng(0).integers(0, 9, (64, 64, 3), dtype=np.uint8)
    data = tiff(noise, 8, photometric=2, compression=compression, rows=16, predictor=2)
    rng = np.random.default_rng(1)
    told = []
    for _ in range(60):
        damaged = np.frombuffer(data, dtype=np.uint8).copy()
        damaged[rng.integers(4, len(data), 6)] = rng.integers(0, 256, 6)
        try:
            assert decoded(damaged.tobytes()).shape[2] == 3
        except (CorruptImage, UnsupportedImage, ImageTooLarge) as error:
            told.append(str(error))
    assert told
    assert not any("0x" in message for message in told)


def test_segments_that_inflate_beyond_their_size_cost_no_memory():
    for compression in (5, 8, 32773, 34925, 50000):
        bomb = tiff(np.zeros((600, 600, 1), np.uint8), 8, compression=compression)
        shrunk = _with(bomb, {256: 20, 257: 12, 278: 12})
        tracemalloc.start()
        try:
            decoded(shrunk)
        except CorruptImage:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        dictionary = 2**23 if compression == 34925 else 0
        assert peak < 200_000 + dictionary, compression


def test_work_is_bounded_before_it_begins():
    limit = 10**6
    for tags, what in [
        ({322: 2**31, 323: 2**31}, "tiles of the TIFF have"),
        ({322: 2**20, 323: 2**20}, "tiles of the TIFF have"),
        ({277: 60_000}, "would be 14400000 bytes decoded"),
    ]:
        tile = (16, 16) if 322 in tags else None
        data = _with(tiff(GREY, 8, tile=tile, tags={338: (3, [0])}), tags)
        with pytest.raises(ImageTooLarge, match=what):
            EncodedImage(data).open(limit if 322 in tags else 1000)
    rows = MOST_SEGMENTS + 1
    with pytest.raises(ImageTooLarge, match=f"{rows} strips or tiles") as caught:
        EncodedImage(tiff(np.zeros((rows, 1, 1), np.uint8), 8, rows=1)).open(limit)
    assert caught.value.limit == MOST_SEGMENTS


def test_directories_in_a_circle_and_entries_without_end_are_not_followed():
    data = bytearray(tiff(GREY, 8))
    start = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, start)[0]
    struct.pack_into("<I", data, start + 2 + 12 * count, start)  # the next directory is this one
    assert decoded(bytes(data)).shape == (12, 20, 3)
    struct.pack_into("<H", data, start, 65535)
    with pytest.raises(CorruptImage, match="directory lies outside"):
        decoded(bytes(data))


@pytest.mark.parametrize(
    ("tag", "value"), [(273, 10**9), (279, 10**9), (256, 0), (277, 0), (277, 2**24), (323, 0)]
)
def test_numbers_that_point_nowhere(tag, value):
    sound = {256: (4, [20]), 257: (4, [12]), 258: (3, [8]), 262: (3, [1]), 277: (4, [1])}
    sound |= {322: (4, [16]), 323: (4, [16])} if tag == 323 else {278: (4, [12])}
    data = assemble([GREY.tobytes()], sound, "<", tiled=False)
    with pytest.raises(CorruptImage):
        decoded(_with(data, {tag: value}))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("tag", [256, 258, 259, 274, 278])
def test_numbers_that_are_none(tag, value):
    sound = {256: (4, [20]), 257: (4, [12]), 258: (3, [8]), 262: (3, [1]), 278: (4, [12])}
    data = assemble([GREY.tobytes()], sound | {tag: (12, [value])}, "<", tiled=False)
    with pytest.raises(CorruptImage, match="is no number"):
        decoded(data)


def test_strips_that_are_left_out_are_black():
    data = tiff(GREY, 8, rows=12)
    empty = _with(data, {273: 0, 279: 0})
    assert not decoded(empty).any()


def test_a_file_without_an_orientation_or_a_depth_has_the_defaults():
    bits = np.packbits(GREY[..., 0] > 100, axis=1).tobytes()
    tags = {256: (4, [20]), 257: (4, [12]), 262: (3, [1])}
    ours = decoded(assemble([bits], tags, ">", tiled=False))
    np.testing.assert_array_equal(ours[..., 0], np.where(GREY[..., 0] > 100, 255, 0))


def _with(data, values):
    """The classic little-endian file with other values in the entries of its directory."""
    changed = bytearray(data)
    start = struct.unpack_from("<I", changed, 4)[0]
    count = struct.unpack_from("<H", changed, start)[0]
    for i, (tag, value) in itertools.product(range(count), values.items()):
        at = start + 2 + 12 * i
        if struct.unpack_from("<H", changed, at)[0] == tag:
            kind = struct.unpack_from("<H", changed, at + 2)[0]
            struct.pack_into("<H" if kind == 3 else "<I", changed, at + 8, value)
    return bytes(changed)
