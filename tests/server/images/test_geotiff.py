"""Masks as GeoTIFFs, which GDAL reads."""

from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from tests.server.images.tiff.writer import tiff
from vimserve.model.palette import make_palette
from vimserve.model.transform import Transform
from vimserve.server.images.geotiff import mask
from vimserve.server.images.source import EncodedImage
from vimserve.server.images.tiff.raster import ASCII, DOUBLE

# Of files with control points too, while they are written.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

PALETTE = make_palette(21)
CLASSES = np.random.default_rng(0).integers(21, size=(300, 530), dtype=np.uint8)


def upload(size: tuple[int, ...] = CLASSES.shape, **profile: Any) -> bytes:
    """A GeoTIFF by GDAL; control points are ``gcps`` and their reference system."""
    with MemoryFile() as file:
        gcps = profile.pop("gcps", None)
        made: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": "uint8"} | profile
        with file.open(height=size[0], width=size[1], **made) as dataset:
            if gcps:
                dataset.gcps = gcps
            dataset.write(np.ones((made["count"], *size), made["dtype"]))
        return bytes(file.read())


def answer(data, classes=CLASSES):
    return mask(classes, PALETTE, EncodedImage(data).open(10**6).raster, None)


@pytest.fixture
def read():
    files = []

    def opened(data):
        file = MemoryFile(data)
        files.append(file)
        return file.open()

    yield opened
    for file in files:
        file.close()


def test_classes_palette_and_layout(read):
    dataset = read(answer(upload(transform=Affine.scale(2), crs="EPSG:32633")))
    assert (dataset.read(1) == CLASSES).all()
    assert (dataset.count, dataset.dtypes, dataset.nodata) == (1, ("uint8",), None)
    assert dataset.colorinterp == (rasterio.enums.ColorInterp.palette,)
    colors = dataset.colormap(1)
    assert [colors[i][:3] for i in range(21)] == list(PALETTE)
    assert dataset.compression.name == "deflate"
    assert dataset.block_shapes == [(256, 256)]


@pytest.mark.parametrize("options", [{}, {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}])
@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.6, 0, 440720.25, 0, -0.6, 3751320.5),
        Affine(8.3, 5.4, 440720, 5.4, -8.3, 3751320),
        Affine(1, 0, 0, 0, 2, 0),
    ],
)
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "+proj=sterea +lat_0=52 +lon_0=5"])
def test_the_georeference_is_the_upload_s(read, options, transform, crs):
    data = upload(transform=transform, crs=crs, **options)
    one, other = read(data), read(answer(data))
    assert other.transform == one.transform
    assert other.transform.almost_equals(transform)
    assert other.crs == one.crs
    assert other.tags().get("AREA_OR_POINT") == one.tags().get("AREA_OR_POINT")


def test_control_points(read):
    points = [
        GroundControlPoint(row=row, col=col, x=13 + col / 1000 + row / 5000, y=52 - row / 900, z=3)
        for row in (0, 299)
        for col in (0, 265, 530)
    ]
    data = upload(gcps=(points, rasterio.crs.CRS.from_epsg(4326)))
    one, other = read(data), read(answer(data))
    placed = [[(p.row, p.col, p.x, p.y, p.z) for p in file.gcps[0]] for file in (one, other)]
    assert placed[0] == placed[1]
    assert len(placed[1]) == 6
    assert other.gcps[1] == one.gcps[1] == rasterio.crs.CRS.from_epsg(4326)


@pytest.mark.parametrize("raster", [None, EncodedImage(tiff(CLASSES[..., None], 8)).open(10**6)])
def test_without_a_georeference(read, raster):
    dataset = read(mask(CLASSES, PALETTE, raster and raster.raster, None))
    assert (dataset.read(1) == CLASSES).all()
    assert (dataset.crs, dataset.transform, dataset.nodata) == (None, Affine.identity(), None)


def test_where_the_upload_shows_nothing(read):
    samples = np.ones((3, 4, 3), np.int16)
    samples[1, :3], samples[2, 3, 0] = -9999, -9999
    data = tiff(samples, 16, photometric=2, tags={42113: (ASCII, [*b"-9999\0"])})
    dataset = read(answer(data, np.full((3, 4), 7, np.uint8)))
    assert dataset.nodata == 255
    assert dataset.read(1).tolist() == [[7, 7, 7, 7], [255, 255, 255, 7], [7, 7, 7, 7]]


def test_a_class_of_this_number_stays_what_it_is(read):
    samples = np.zeros((2, 2, 1), np.uint8)
    raster = EncodedImage(tiff(samples, 8, tags={42113: (ASCII, [*b"0\0"])})).open(10**6).raster
    dataset = read(mask(np.full((2, 2), 3, np.uint8), make_palette(256), raster, None))
    assert (dataset.nodata, dataset.read(1).tolist()) == (None, [[3, 3], [3, 3]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_georeference_is_of_pixels_as_they_are_stored(read, orientation):
    """GDAL looks at no orientation, Pillow at nothing else."""
    samples = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    tags = {
        274: (3, [orientation]),
        33550: (DOUBLE, [2.0, 3, 0]),
        33922: (DOUBLE, [0.0, 0, 0, 100, 200, 0]),
    }
    image = EncodedImage(tiff(samples, 8, tags=tags)).open(10**6)
    upright = np.asarray(image.picture(Transform()))[..., 0]
    written = mask(upright, PALETTE, image.raster, None)
    dataset = read(written)
    assert (dataset.read(1) == samples[..., 0]).all()
    assert dataset.transform == Affine(2, 0, 100, 0, -3, 200)
    with MemoryFile(written) as file, Image.open(file) as picture:
        assert picture.getexif()[274] == orientation
