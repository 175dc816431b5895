"""Made samples, and the windows by which tests read them."""

import numpy as np
import rasterio

from vimserve.model.slide import Window

HEIGHT, WIDTH = 150, 210
# Across the borders of tiles and strips, at the edges, a single pixel, everything.
WINDOWS = [
    Window(0, 0, 40, 50), Window(60, 61, 70, 69), Window(110, 130, 40, 80),
    Window(149, 209, 1, 1), Window(0, 0, HEIGHT, WIDTH),
]  # fmt: skip


def noise(bands, dtype="uint8", height=HEIGHT, width=WIDTH):
    """Samples ``[bands, height, width]`` all over the type's range, or from 0 to 1."""
    rng, dtype = np.random.default_rng(bands), np.dtype(dtype)
    if dtype.kind == "f":
        return rng.random((bands, height, width)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, (bands, height, width), dtype, endpoint=True)


def part(samples, window):
    """A window of samples ``[..., height, width]``."""
    down = slice(window.top, window.top + window.height)
    return samples[..., down, window.left : window.left + window.width]


def write(path, samples, mask=None, colours=None, table=None, driver="GTiff", **profile):
    """Write samples ``[bands, height, width]`` by GDAL."""
    bands, height, width = samples.shape
    profile |= {"driver": driver, "count": bands, "height": height, "width": width}
    with rasterio.open(path, "w", dtype=samples.dtype, **profile) as file:
        if colours is not None:
            file.colorinterp = colours
        if table is not None:
            file.write_colormap(1, table)
        file.write(samples)
        if mask is not None:
            file.write_mask(mask)
    return path
