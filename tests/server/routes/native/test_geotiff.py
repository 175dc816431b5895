"""``POST /v1/segment?format=geotiff``, and pictures that are seen window by window."""

import io
import time
from itertools import chain

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from tests.patience import PATIENCE_S
from tests.server.images.tiff.writer import tiff
from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.images.tiff.raster import DOUBLE

SPEC = resolve("demo-seg")
WINDOWS = {"mode": "slide", "window": 128, "resolution": "native"}
PLACE = Affine(10, 0, 440720, 0, -10, 3751320)


@pytest.fixture(scope="module")
def client():
    config = ServerConfig(max_resolution=256, max_pixels=400_000, max_decode_bytes=80_000_000)
    with live(create_app(config, [SPEC])) as client:
        yield client


def scene(pixels, **profile):
    """A GeoTIFF by GDAL of ``[bands, H, W]``."""
    made = {"driver": "GTiff", "transform": PLACE, "crs": "EPSG:32633"} | profile
    with MemoryFile() as file:
        count, height, width = pixels.shape
        shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
        with file.open(**made, **shape) as dataset:
            dataset.write(pixels)
        return bytes(file.read())


def shown(picture, height, width):
    return np.asarray(picture(height, width)).transpose(2, 0, 1)


def ask(client, data, form="geotiff", **query):
    return client.post("/v1/segment", content=data, params={"format": form} | query)


def png_of(client, data, **query):
    answer = ask(client, data, "png", **query)
    return np.asarray(Image.open(io.BytesIO(answer.content)))


@pytest.mark.parametrize("query", [{}, WINDOWS])
def test_a_mask_lies_where_the_upload_lies(client, picture, query):
    data = scene(shown(picture, 200, 310))
    answer = ask(client, data, **query)
    assert answer.headers["content-type"] == "image/tiff"
    assert answer.headers["X-Georeference"] == "copied"
    with MemoryFile(answer.content) as file, file.open() as dataset:
        assert (dataset.transform, dataset.crs) == (PLACE, rasterio.crs.CRS.from_epsg(32633))
        assert (dataset.read(1) == png_of(client, data, **query)).all()


def test_bands_of_16_bits_and_what_shows_nothing(client, picture):
    red, green, blue = 16 * shown(picture, 120, 200).astype(np.uint16) + 1
    samples = np.stack([blue, green, red, np.zeros_like(red)])
    samples[:3, 30:90, 20:70] = 0
    samples[0, :10] = 0  # of one band alone
    query = {"bands": "3,2,1", "range": "0,4095"}
    data = scene(samples, nodata=0)
    answer = ask(client, data, **query)
    assert answer.headers["X-Sample-Range"] == "0,4095"
    expected = png_of(client, data, **query).copy()
    expected[30:90, 20:70] = 255
    with MemoryFile(answer.content) as file, file.open() as dataset:
        assert dataset.nodata == 255
        assert (dataset.read(1) == expected).all()


def test_what_has_no_georeference_is_answered_without(client, picture, encode):
    plain = tiff(np.asarray(picture(40, 50)), 8, photometric=2)
    damaged = tiff(np.asarray(picture(40, 50)), 8, photometric=2, tags={33922: (DOUBLE, 5 * [0.0])})
    for data in (encode(picture(40, 50)), plain, damaged):
        answer = client.post("/v1/segment?format=geotiff", content=data)
        assert (answer.status_code, answer.headers["X-Georeference"]) == (200, "none")
        written = np.asarray(Image.open(io.BytesIO(answer.content)))
        assert (written == png_of(client, data)).all()
    other = client.post("/v1/segment?format=png", content=plain)
    assert "X-Georeference" not in other.headers


def test_as_a_job(client, picture):
    data = scene(shown(picture, 150, 260))
    query = WINDOWS | {"format": "geotiff"}
    place = client.post("/v1/jobs", content=data, params=query | {"task": "segment"}).headers[
        "Location"
    ]
    ends = time.monotonic() + PATIENCE_S
    while (state := client.get(place).json())["status"] in ("queued", "running"):
        assert time.monotonic() < ends
        time.sleep(0.01)
    assert state["progress"] == {"done": 6, "total": 6}
    fetched = client.get(f"{place}/result")
    assert fetched.headers["X-Georeference"] == "copied"
    assert fetched.content == client.post("/v1/segment", content=data, params=query).content


def test_windows_of_a_picture_larger_than_the_model_s_input(client, picture, encode):
    data = encode(picture(300, 1200))
    (result,) = client.post("/v1/segment", content=data, params=WINDOWS).json()["results"]
    assert (result["input"]["height"], result["input"]["width"]) == (304, 1200)
    assert result["windows"] == 4 * 14
    whole = client.post("/v1/segment?resolution=native", content=data)
    assert (whole.status_code, whole.json()["limit"]) == (413, 256)


@pytest.mark.parametrize(
    ("height", "width", "limit", "value"),
    [(400, 1001, 400_000, 400_400), (2, 90_000, 800_000, 16 * 90_000)],
)
def test_a_picture_of_too_many_pixels(client, encode, height, width, limit, value):
    data = encode(Image.new("RGB", (width, height)))
    problem = client.post("/v1/segment", content=data, params=WINDOWS).json()
    assert (problem["status"], problem["limit"], problem["value"]) == (413, limit, value)


@pytest.mark.parametrize("seed", range(2))
def test_any_bytes_in_the_tags_are_answered(client, seed):
    """A file is read as ever, whatever its georeference says."""
    data = scene(np.full((1, 16, 16), 90, np.uint8), nodata=3)
    places = [data.index(number.to_bytes(2, "little")) for number in (33550, 33922, 34735)]
    random = np.random.default_rng(seed)
    for at in chain.from_iterable(range(place + 2, place + 12) for place in places):
        changed = data[:at] + bytes([random.integers(256)]) + data[at + 1 :]
        answer = client.post("/v1/segment?format=geotiff", content=changed)
        assert answer.status_code == 200
        assert answer.headers["X-Georeference"] in ("copied", "none")
