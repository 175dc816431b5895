"""Makes large scenes, tile by tile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio.windows import Window

from vimserve.model.demo.segmentation import __file__ as demo

BLOCK = 512
CRS = "EPSG:32633"
TRANSFORM = rasterio.Affine(10, 0, 500_000, 0, -10, 5_300_000)
LEAST, STEP = 1, 12  # sample values of the 8-bit values 0 to 255; zero is for what shows nothing
FLAGS = ("--bands", "3,2,1", "--range", f"{LEAST},{LEAST + 255 * STEP}")

Samples = np.ndarray[Any, np.dtype[np.uint16]]


def make_scene(path: Path, side: int) -> None:
    """Write a georeferenced GeoTIFF of four bands of 16 bits: blue, green, red and infrared.

    It repeats the pictures that come with the demo; above a diagonal line it shows nothing, as the
    products of satellites do beside their track.

    Args:
        path: the file.
        side: in pixels.
    """
    pictures = [
        np.asarray(Image.open(file).convert("RGB"))
        for file in sorted((Path(demo).parent / "samples").glob("scene-?.jpg"))
    ]
    with (
        rasterio.Env(GDAL_CACHEMAX=64),
        rasterio.open(
            path, "w", driver="GTiff", height=side, width=side, count=4, dtype="uint16",
            crs=CRS, transform=TRANSFORM, nodata=0, tiled=True, blockxsize=BLOCK,
            blockysize=BLOCK, compress="deflate", zlevel=1, bigtiff="if_safer",
        ) as file,
    ):  # fmt: skip
        for top, left in _tiles(side):
            height, width = min(BLOCK, side - top), min(BLOCK, side - left)
            place = Window(left, top, width, height)
            file.write(_samples(pictures, top, left, height, width, side), window=place)


def _tiles(side: int) -> Iterator[tuple[int, int]]:
    for top in range(0, side, BLOCK):
        for left in range(0, side, BLOCK):
            yield top, left


def _samples(
    pictures: list[np.ndarray[Any, np.dtype[np.uint8]]],
    top: int, left: int, height: int, width: int, side: int,
) -> Samples:  # fmt: skip
    """Of one tile, ``[4, height, width]``."""
    rows, columns = np.arange(top, top + height), np.arange(left, left + width)
    rgb = np.empty((height, width, 3), np.uint8)
    length = len(pictures[0])
    for y in np.unique(rows // length):
        for x in np.unique(columns // length):
            down, across = rows // length == y, columns // length == x
            picture = pictures[(x + y) % len(pictures)]
            rgb[np.ix_(down, across)] = picture[
                np.ix_(rows[down] % length, columns[across] % length)
            ]
    samples = np.concatenate([rgb[..., ::-1], rgb[..., :1]], axis=2).transpose(2, 0, 1)
    samples = samples.astype(np.uint16) * STEP + LEAST
    samples[:, rows[:, None] + columns < side // 4] = 0
    return samples
