"""Files over formats, modes, depths, interlacing and compression, against OpenCV's decoders."""

import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, features

from tests.server.images.formats.files import chunk, encoded, interlaced, packed, png
from vimserve.server.images.decode import read_header
from vimserve.server.images.formats import BY_PILLOW, recognise

HEIGHT, WIDTH = 37, 45
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
WEBP: list[dict[str, Any]] = [{"quality": 20}, {"quality": 90, "method": 6}, {"lossless": True}]
AVIF: list[dict[str, Any]] = [{"quality": 40}, {"quality": 90, "subsampling": "4:4:4"}]
JPEG: dict[str, dict[str, Any]] = {
    "optimised": {"optimize": True},
    "with restarts": {"restart_marker_blocks": 3},
    "of RGB, not YCbCr": {"keep_rgb": True},
}
NAMES = {0: "grey", 2: "rgb", 3: "palette", 4: "grey and alpha", 6: "rgb and alpha"}


@dataclass(frozen=True)
class Case:
    """A file, and by how much OpenCV may differ for which reason.

    OpenCV overlooks that a grey PNG has transparent samples: these are in ``clear``.
    """

    name: str
    data: bytes
    atol: int = 0
    why: str = ""
    clear: Any = None


def pictures():
    coarse = np.random.default_rng(3).integers(0, 256, (6, 7, 4), dtype=np.uint8)
    rgba = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return {mode: rgba.convert("RGB").convert(mode) for mode in ("1", "L", "RGB", "CMYK")} | {
        "P": rgba.convert("RGB").quantize(64),
        "few": rgba.convert("RGB").quantize(12),
        "RGBA": rgba,
    }


IMAGES = pictures()


def png_cases():
    rng = np.random.default_rng(0)
    for colour, depths in DEPTHS.items():
        for depth in depths:
            shape = (HEIGHT, WIDTH, CHANNELS[colour])
            samples = rng.integers(0, 2**depth, shape)
            if CHANNELS[colour] == 1:
                samples = samples[..., 0]
            before = [chunk(b"PLTE", rng.bytes(3 * 2**depth))] if colour == 3 else []
            clear: list[Any] = [None]
            if colour in (0, 2, 3):
                clear.append(tuple(samples[4, 5].reshape(-1).tolist()))
            for chosen in clear:
                extra = [transparency(colour, chosen)] if chosen else []
                for interlace in (0, 1):
                    rows = (interlaced if interlace else packed)(samples, depth)
                    level = 9 if interlace else depth % 9
                    yield Case(
                        f"png {NAMES[colour]}{depth}{'' if chosen is None else ' clear'}"
                        f"{' interlaced' if interlace else ''}",
                        png(WIDTH, HEIGHT, depth, colour, rows, *before, *extra,
                            level=level, interlace=interlace, cuts=1 + 2 * interlace),
                        *rounding(colour, depth),
                        samples == chosen if colour == 0 and chosen else None,
                    )  # fmt: skip


def transparency(colour, sample):
    if colour == 3:
        return chunk(b"tRNS", bytes(255 if i != sample[0] else 0 for i in range(sample[0] + 1)))
    return chunk(b"tRNS", struct.pack(f">{len(sample)}H", *sample))


def rounding(colour: int, depth: int) -> tuple[int, str]:
    if depth == 16 and colour in (2, 4, 6):
        why = "of 16 bits in colours and alpha Pillow keeps the higher 8, unrounded"
        return (1 if colour == 2 else 2), why
    return 0, ""


def jpeg_cases():
    for mode in ("L", "RGB"):
        for quality in (30, 95):
            for progressive in (False, True):
                for sampling in ("4:4:4", "4:2:2", "4:2:0"):
                    if mode == "L" and sampling != "4:4:4":
                        continue
                    yield Case(
                        f"jpeg {mode} {quality} {sampling}{' progressive' * progressive}",
                        encoded(IMAGES[mode], "JPEG", quality=quality, progressive=progressive,
                                subsampling=sampling),
                    )  # fmt: skip
    for name, options in JPEG.items():
        yield Case(f"jpeg {name}", encoded(IMAGES["RGB"], "JPEG", **options))
    why = "OpenCV takes CMYK for RGB by another formula"
    yield Case("jpeg CMYK", encoded(IMAGES["CMYK"], "JPEG", quality=95), 1, why)


def other_cases():
    for mode in ("RGB", "RGBA"):
        for options in WEBP:
            named = ", ".join(f"{key} {value}" for key, value in options.items())
            yield Case(f"webp {mode} {named}", encoded(IMAGES[mode], "WEBP", **options))
    for mode in ("1", "L", "P", "RGB"):
        yield Case(f"bmp {mode}", encoded(IMAGES[mode], "BMP"))
    why = "OpenCV shifts 5 bits to 8 instead of scaling them"
    yield Case("bmp 16 bits", bmp_of_16_bits(), 7, why)
    for mode in ("L", "P", "few"):
        for interlace in (0, 1):
            data = encoded(IMAGES[mode], "GIF", interlace=interlace)
            yield Case(f"gif {mode}{' interlaced' * interlace}", data)
    yield Case("gif clear", encoded(IMAGES["few"], "GIF", transparency=3))
    for width, height in ((1, 1), (1, 50), (50, 1), (8, 8)):
        small = IMAGES["RGB"].resize((width, height))
        for kind in ("PNG", "JPEG", "WEBP", "BMP"):
            yield Case(f"{kind.lower()} {width}x{height}", encoded(small, kind))
    if features.check("avif"):
        for mode in ("RGB", "L", "RGBA"):
            for options in AVIF:
                named = ", ".join(f"{key} {value}" for key, value in options.items())
                data = encoded(IMAGES[mode], "AVIF", speed=10, **options)
                yield Case(f"avif {mode} {named}", data)


def bmp_of_16_bits():
    values = np.random.default_rng(1).integers(0, 2**15, (HEIGHT, WIDTH + WIDTH % 2))
    pixels = values.astype("<u2").tobytes()
    info = struct.pack(
        "<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 16, 0, len(pixels), 0, 0, 0, 0
    )  # fmt: skip
    return struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54) + info + pixels


CASES = [*png_cases(), *jpeg_cases(), *other_cases()]


def by_opencv(data):
    """The picture as OpenCV reads it, in 8 bits and with transparency laid on white."""
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert read is not None
    most = {"uint8": 255, "uint16": 65535}[read.dtype.name]
    values = read.astype(np.float64) / most
    if values.ndim == 2:
        values = values[..., None].repeat(3, axis=2)
    colours = values[..., 2::-1]
    if values.shape[2] == 4:
        alpha = values[..., 3:]
        colours = colours * alpha + 1 - alpha
    return np.rint(colours * 255).astype(int)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_we_read_what_opencv_reads(case):
    ours = np.asarray(read_header(case.data, 10**6).picture()).astype(int)
    theirs = by_opencv(case.data)
    if case.clear is not None:
        theirs[case.clear] = 255
    assert np.abs(ours - theirs).max() <= case.atol, case.why


def test_there_are_enough_files_and_a_reason_for_every_tolerance():
    assert len(CASES) >= 110
    assert all(bool(case.atol) == bool(case.why) for case in CASES)


@pytest.mark.parametrize("kind", BY_PILLOW)
def test_files_are_recognised_by_their_first_bytes(kind):
    data = encoded(IMAGES["RGB"], kind)
    assert recognise(data) == kind
    assert recognise(b"x" + data) is None
