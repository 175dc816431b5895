"""Every layout in a file of known pixels; libtiff and tifffile read those files too."""

import io
import itertools
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.server.images.tiff.writer import tiff
from vimserve.model.transform import Transform
from vimserve.server.images.source import EncodedImage

HEIGHT, WIDTH = 37, 45


@dataclass(frozen=True)
class Case:
    """A file to write: its samples' kind, bits and number, and where they go."""

    kind: str
    bits: int
    count: int = 1
    order: str = "<"
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        how = ",".join(f"{name}={value}" for name, value in self.options.items() if name != "tags")
        return f"{self.kind}{self.bits}x{self.count}{self.order}{how}"

    @property
    def samples(self) -> Any:
        """Values all over the type's range, its ends among them."""
        rng = np.random.default_rng(self.bits)
        unit = rng.random((HEIGHT, WIDTH, self.count))
        unit[0, :2] = [[0.0], [1.0]]
        if self.kind == "f":
            return unit.astype(f"f{self.bits // 8}")
        size = next(size for size in (8, 16, 32, 64) if size >= self.bits)
        low = -(2 ** (self.bits - 1)) if self.kind == "i" else 0
        codes = np.floor(unit * (2**self.bits - 1) + 0.5)
        top = 2**self.bits - 1
        exact = np.array([min(int(code), top) + low for code in codes.reshape(-1)], dtype=object)
        return exact.astype(f"{self.kind}{size // 8}").reshape(codes.shape)

    @property
    def file(self) -> bytes:
        return tiff(self.samples, self.bits, self.order, **self.options)

    @property
    def expected(self) -> Any:
        """The picture: the type's range in 256 steps."""
        values = self.samples.astype(np.float64)
        low = -(2.0 ** (self.bits - 1)) if self.kind == "i" else 0.0
        span = 1.0 if self.kind == "f" else 2.0**self.bits - 1
        grey = np.floor((values - low) / span * 255 + 0.5).clip(0, 255)
        if self.options.get("photometric") == 0:
            grey = 255 - grey
        return np.repeat(grey, 3, axis=2) if self.count == 1 else grey


def _cases() -> list[Case]:
    places: list[dict[str, Any]] = [
        {"rows": 10}, {"tile": (16, 32)}, {"rows": 7, "compression": 8},
        {"tile": (32, 16), "compression": 5}, {"compression": 32773},
    ]  # fmt: skip
    cases = []
    depths = [("u", bits) for bits in (*range(1, 33), 64)]
    depths += [("i", bits) for bits in (2, 5, 8, 12, 16, 20, 24, 32, 64)]
    depths += [("f", bits) for bits in (16, 32, 64)]
    for i, (kind, bits) in enumerate(depths):
        for j, order in enumerate("<>"):
            place = places[(i + j) % len(places)]
            cases.append(Case(kind, bits, order=order, options=place))
            rgb = {"photometric": 2, "planar": (i + j) % 2 == 0} | places[(i + j + 2) % len(places)]
            cases.append(Case(kind, bits, 3, order, rgb))
    for compression, predictor, planar in itertools.product(
        (5, 8, 32946, 34925, 50000), (2, 3), (False, True)
    ):
        kinds = [("f", 16), ("f", 32), ("f", 64)]
        if predictor == 2:
            kinds = [("u", 8), ("u", 16), ("u", 32), ("u", 64), ("i", 16), ("f", 32)]
        for i, (kind, bits) in enumerate(kinds):
            options: dict[str, Any] = {
                "compression": compression, "predictor": predictor, "photometric": 2,
            }  # fmt: skip
            options["planar"] = planar
            options |= {"tile": (16, 16)} if i % 2 else {"rows": 9}
            cases.append(Case(kind, bits, 3, "<>"[i % 2], options))
    for i, (kind, bits) in enumerate([("u", 1), ("u", 4), ("u", 8), ("u", 12), ("u", 16), ("i", 16),
                                      ("u", 32), ("f", 32)]):  # fmt: skip
        options = {"photometric": 0} | places[i % len(places)]
        cases.append(Case(kind, bits, 1, "<>"[i % 2], options))
    for bits in (1, 8, 12, 16):
        cases.append(Case("u", bits, 1, ">", {"big": True, "rows": 5}))
        cases.append(Case("u", bits, 3, "<", {"big": True, "photometric": 2, "tile": (16, 16)}))
        cases.append(Case("u", bits, 1, "<", {"reverse": True, "rows": 20}))
    return cases


CASES = _cases()


def decoded(data: bytes, transform: Transform | None = None) -> Any:
    picture = EncodedImage(data).open(HEIGHT * WIDTH).picture(transform or Transform())
    return np.asarray(picture)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) > 200
    assert len({case.file for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_pixels_are_those_that_were_written(case):
    np.testing.assert_array_equal(decoded(case.file), case.expected)


def why_tifffile_differs(case: Case) -> str | None:
    """Where tifffile's samples are not those that were written, and why ours are right."""
    if case.bits == 24:
        # libtiff's TIFFReadEncodedStrip swaps triples of bytes, as it does pairs and quadruples.
        return "tifffile takes 24 bits for packed ones, highest first in either byte order"
    if case.kind == "i" and case.bits not in (8, 16, 32, 64):
        return "tifffile has no packed signed integers, and returns nothing"
    return None


@pytest.mark.parametrize("case", CASES, ids=str)
def test_tifffile_reads_the_same_samples(case):
    reason = why_tifffile_differs(case)
    with tifffile.TiffFile(io.BytesIO(case.file)) as file:
        theirs = file.pages[0].asarray()
    ours = np.moveaxis(case.samples, -1, 0) if case.options.get("planar") else case.samples
    same = theirs.size == ours.size and np.array_equal(theirs.reshape(ours.shape), ours)
    assert same == (reason is None), reason


# Pillow leaves to libtiff what is compressed; it takes a big-endian BigTIFF for a classic TIFF.
BY_LIBTIFF = [
    case
    for case in CASES
    if (case.kind, case.bits) in (("u", 1), ("u", 8))
    and (case.bits, case.count) != (1, 3)
    and not (case.options.get("big") and case.order == ">")
]


@pytest.mark.parametrize("case", BY_LIBTIFF, ids=str)
def test_libtiff_reads_the_same_pixels(case):
    with Image.open(io.BytesIO(case.file)) as theirs:
        np.testing.assert_array_equal(theirs.convert("RGB"), case.expected)


# OpenCV has libtiff read them too. It does not know planes of more than 8 bits, shifts 10, 12 and
# 14 bits to the top of 16 and has neither LZMA nor Zstandard, which leaves these.
BY_OPENCV = [
    case
    for case in CASES
    if case.bits in (8, 16, 32, 64)
    and (case.kind, case.bits) not in (("f", 16), ("i", 8))
    and not (case.options.get("planar") and case.bits > 8)
    and case.options.get("compression") not in (34925, 50000)
    and case.options.get("photometric") != 0
    and not (case.options.get("big") and case.count == 3)
]


@pytest.mark.parametrize("case", BY_OPENCV, ids=str)
def test_opencv_reads_the_same_samples(case):
    theirs = cv2.imdecode(np.frombuffer(case.file, np.uint8), cv2.IMREAD_UNCHANGED)
    assert theirs is not None
    theirs = np.atleast_3d(theirs)[..., ::-1]
    assert theirs.dtype == case.samples.dtype
    np.testing.assert_array_equal(theirs, case.samples)


def test_enough_are_read_by_opencv() -> None:
    assert len(BY_OPENCV) > 50
