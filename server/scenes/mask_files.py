"""Writes the classes of a scene's pixels as a GeoTIFF, as GeoJSON polygons or as a PNG."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import shapely
from PIL import Image

from vimserve.model.slide import Window
from vimserve.server.images.mask import to_png
from vimserve.server.images.source import Size
from vimserve.server.scenes import geotiff
from vimserve.server.scenes.described import Described
from vimserve.server.scenes.geotiff import gdal, needs_geo
from vimserve.server.scenes.ground import geometries
from vimserve.server.scenes.partial import publish
from vimserve.server.scenes.raw_files import NODATA, ClassFile
from vimserve.server.scenes.scene import Georeference
from vimserve.server.scenes.streamed import write_list

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".tif": "geotiff",
        ".tiff": "geotiff",
        ".geojson": "geojson",
        ".json": "geojson",
        ".png": "png",
    }
)
BLOCK = 512  # side of a GeoTIFF's tiles in pixels
STRIP = 16 * BLOCK  # so many pixels of a row of tiles are copied at a time


def check(form: str, size: Size) -> None:
    """Refuse a format that cannot be written here, or not for a scene of this size.

    Raises:
        ValueError: one line.
    """
    height, width = size
    if form == "png":
        most = Image.MAX_IMAGE_PIXELS  # of what Pillow opens without a warning
        if most is not None and height * width > most:
            raise ValueError(
                f"a PNG of {height}x{width} pixels would have more than {most} of them; write a "
                "GeoTIFF: --output FILE.tif"
            )
        return
    needs_geo("a GeoTIFF" if form == "geotiff" else "the polygons of a scene")


def write(
    classes: ClassFile,
    output: Path,
    form: str,
    model: Described,
    georeference: Georeference | None,
) -> None:
    """Write a file, which appears when it is complete.

    Args:
        classes: of all pixels; other files are made beside it.
        output: the file.
        form: one of ``FORMATS``.
        model: has the classes' names and colours.
        georeference: of the scene.

    Raises:
        OSError: if it cannot be written.
        ValueError: if a polygon lies nowhere on the Earth.
    """
    new = classes.path.with_name("result")
    if form == "png":
        new.write_bytes(_png(classes, model))
    elif form == "geotiff":
        _write_geotiff(new, classes, model, georeference)
    else:
        raster = classes.path.with_name("raster")
        _write_geotiff(raster, classes, model, None)
        features = _features(raster, model, georeference)
        write_list(new, {"type": "FeatureCollection"}, "features", features)
    publish(new, output)


def _png(classes: ClassFile, model: Described) -> bytes:
    pixels = classes.read(Window(0, 0, *classes.size))
    nothing = (NODATA + 1 - len(model.palette)) * ((0, 0, 0),)
    return to_png(pixels, model.palette + nothing if (pixels == NODATA).any() else model.palette)


def _write_geotiff(
    path: Path, classes: ClassFile, model: Described, georeference: Georeference | None
) -> None:
    def describe(file: Any) -> None:
        file.write_colormap(1, {i: (*color, 255) for i, color in enumerate(model.palette)})
        file.update_tags(1, **{f"CLASS_{i}": label for i, label in enumerate(model.labels)})

    height, width = classes.size
    geotiff.write(
        path, georeference,
        lambda: ((part, classes.read(part)[None]) for part in _parts(classes.size)),
        describe,
        height=height, width=width, count=1, dtype="uint8", nodata=NODATA, tiled=True,
        blockxsize=BLOCK, blockysize=BLOCK,
    )  # fmt: skip


def _parts(size: Size) -> Iterator[Window]:
    """Whole tiles, in their order."""
    height, width = size
    for top in range(0, height, BLOCK):
        for left in range(0, width, STRIP):
            yield Window(top, left, min(BLOCK, height - top), min(STRIP, width - left))


def _features(
    raster: Path, model: Described, georeference: Georeference | None
) -> Iterator[dict[str, Any]]:
    shapes = ((shape, (i, shape.area)) for shape, i in _regions(raster))
    for geometry, (i, area) in geometries(georeference, shapes):
        yield {
            "type": "Feature",
            "geometry": geometry,
            "properties": {
                "objectType": "annotation",
                "classification": {"name": model.labels[i], "color": model.palette[i]},
                "index": i,
                "pixels": int(area),
            },
        }


def _regions(raster: Path) -> Iterator[tuple[Any, int]]:
    """Polygons in pixels with their classes; GDAL holds all of them, but not the raster."""
    import rasterio
    from rasterio.features import shapes

    with gdal(), rasterio.open(raster) as file:
        for geometry, value in shapes(rasterio.band(file, 1)):
            if value != NODATA:
                yield shapely.geometry.shape(geometry), int(value)
