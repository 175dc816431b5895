"""POST /v1/segment with the embedded segmenter."""

import base64
import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tests.server.images.tiff.writer import tiff
from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.images.mask import OPACITY

SPEC = resolve("demo-seg")


@pytest.fixture(scope="module")
def client():
    config = ServerConfig(max_resolution=320)
    with live(create_app(config, [SPEC, resolve("demo")])) as client:
        yield client


def mask_of(result):
    mask = Image.open(io.BytesIO(base64.b64decode(result["mask"])))
    assert mask.mode == "P"
    return mask


def test_json(client, picture, encode):
    response = client.post("/v1/segment", content=encode(picture(100, 230)))
    answer = response.json()
    assert answer["model"] == "demo-seg"
    (result,) = answer["results"]
    assert (result["height"], result["width"], result["windows"]) == (100, 230, 1)
    assert result["input"] == {"height": 96, "width": 224, "tokens": 84}
    mask = np.asarray(mask_of(result))
    assert mask.shape == (100, 230)
    for one in result["classes"]:
        assert one["pixels"] == (mask == one["index"]).sum()
        assert one["fraction"] == pytest.approx(one["pixels"] / mask.size)
        assert one["label"] == SPEC.labels[one["index"]]
    assert sum(one["pixels"] for one in result["classes"]) == mask.size
    pixels = [one["pixels"] for one in result["classes"]]
    assert pixels == sorted(pixels, reverse=True)
    stages = dict(part.split(";dur=") for part in response.headers["Server-Timing"].split(", "))
    assert {stage: float(ms) for stage, ms in stages.items()} == answer["timing_ms"]


def test_png_and_overlay(client, picture, encode):
    data = encode(picture(100, 300))
    (result,) = client.post("/v1/segment", content=data).json()["results"]
    png = client.post("/v1/segment?format=png", content=data)
    assert png.headers["content-type"] == "image/png"
    mask = Image.open(io.BytesIO(png.content))
    assert (np.asarray(mask) == np.asarray(mask_of(result))).all()
    palette = mask.getpalette() or []
    assert palette[: 3 * len(SPEC.labels)] == [c for rgb in SPEC.palette or () for c in rgb]

    overlay = client.post("/v1/segment?format=overlay", content=data)
    assert overlay.headers["content-type"] == "image/jpeg"
    page = Image.open(io.BytesIO(overlay.content))
    assert page.width == 300
    assert page.height > 100


def test_coco_and_geojson(client, picture, encode):
    data = encode(picture(100, 300))
    (result,) = client.post("/v1/segment", content=data).json()["results"]
    pixels = {one["index"]: one["pixels"] for one in result["classes"]}
    coco = client.post("/v1/segment?format=coco", files={"file": ("a.png", data)})
    assert coco.headers["content-type"] == "application/json"
    dataset = coco.json()
    assert dataset["images"] == [{"id": 1, "file_name": "a.png", "height": 100, "width": 300}]
    assert {one["category_id"]: one["area"] for one in dataset["annotations"]} == pixels

    collection = client.post("/v1/segment?format=geojson", content=data)
    assert collection.headers["content-type"] == "application/geo+json"
    found = Counter[int]()
    for feature in collection.json()["features"]:
        found[feature["properties"]["index"]] += feature["properties"]["pixels"]
    assert found == pixels


@pytest.mark.parametrize("form", ["png", "overlay", "coco", "geojson"])
def test_a_file_is_of_one_image(client, picture, encode, form):
    files = [("file", (name, encode(picture(20, 20)))) for name in ("a.png", "b.png")]
    refused = client.post(f"/v1/segment?format={form}", files=files)
    assert refused.status_code == 422
    assert refused.json()["value"] == form


@pytest.mark.parametrize("query", ["", "&resolution=64", "&mode=slide&window=128"])
def test_an_overlay_shows_the_upload_whatever_the_decoder_reduced(client, picture, encode, query):
    data = encode(picture(700, 900), "JPEG", quality=95)
    page = Image.open(
        io.BytesIO(client.post(f"/v1/segment?format=overlay{query}", content=data).content)
    )
    assert page.width == 900
    assert page.height > 700
    mask = Image.open(
        io.BytesIO(client.post(f"/v1/segment?format=png{query}", content=data).content)
    )
    expected = Image.blend(picture(700, 900), mask.convert("RGB"), OPACITY)
    shown = np.asarray(page.crop((0, 0, 900, 700)), float)
    assert np.abs(shown - np.asarray(expected, float)).mean() < 4


def test_an_image_larger_than_the_limit_is_shrunk_and_its_mask_is_not(client, picture, encode):
    (result,) = client.post("/v1/segment", content=encode(picture(400, 800))).json()["results"]
    assert (result["height"], result["width"]) == (400, 800)
    assert (result["input"]["height"], result["input"]["width"]) == (160, 320)
    assert mask_of(result).size == (800, 400)


def test_sliding_windows(client, picture, encode):
    query = {"mode": "slide", "window": 128, "resolution": "native"}
    data = encode(picture(200, 310))
    answer = client.post("/v1/segment", content=data, params=query).json()
    (result,) = answer["results"]
    assert result["windows"] == 2 * 4
    assert result["input"] == {"height": 192, "width": 304, "tokens": 8 * 64}
    assert mask_of(result).size == (310, 200)
    assert answer["batch"]["images"] >= 8

    query = {"mode": "slide", "window": 128}
    (result,) = client.post("/v1/segment", content=data, params=query).json()["results"]
    assert result["input"]["height"] == 128


def test_one_window_is_the_whole_image(client, picture, encode):
    data = encode(picture(128, 128))
    whole, slide = (
        client.post("/v1/segment", content=data, params=query).json()["results"][0]
        for query in ({}, {"mode": "slide", "window": 128})
    )
    assert whole == slide


def test_several_images(client, picture, encode):
    files = [("file", (f"{n}.png", encode(picture(n, 64)))) for n in (16, 50, 200)]
    answer = client.post("/v1/segment", files=files).json()
    assert [result["file"] for result in answer["results"]] == ["16.png", "50.png", "200.png"]
    for (_, (_, data)), result in zip(files, answer["results"], strict=True):
        (alone,) = client.post("/v1/segment", content=data).json()["results"]
        same = np.asarray(mask_of(alone)) == np.asarray(mask_of(result))
        assert same.mean() > 0.999

    refused = client.post("/v1/segment?format=png", files=files)
    assert refused.status_code == 422
    assert refused.json()["parameter"] == "format"


def test_an_image_smaller_than_a_patch(client, encode):
    (result,) = client.post("/v1/segment", content=encode(Image.new("RGB", (3, 5), "red"))).json()[
        "results"
    ]
    assert (result["height"], result["width"]) == (5, 3)
    assert result["input"]["tokens"] == 1


@pytest.mark.parametrize(
    ("path", "status", "parameter"),
    [
        ("/v1/segment?model=demo", 409, "model"),
        ("/v1/classify?model=demo-seg", 409, "model"),
        ("/v1/segment?model=nobody", 404, "model"),
        ("/v1/segment?format=gif", 422, "format"),
        ("/v1/segment?fit=crop", 422, "fit"),
        ("/v1/segment?mode=glide", 422, "mode"),
        ("/v1/segment?window=128", 422, "window"),
        ("/v1/segment?mode=slide&window=336", 422, "window"),
        ("/v1/segment?mode=slide&window=112", 422, "window"),
        ("/v1/segment?mode=slide&window=130", 422, "window"),
        ("/v1/segment?mode=slide&window=junk", 422, "window"),
        ("/v1/segment?resolution=321", 422, "resolution"),
        ("/v1/segment?top_k=3", 422, "top_k"),
    ],
)
def test_bad_requests(client, picture, encode, path, status, parameter):
    problem = client.post(path, content=encode(picture(64, 64))).json()
    assert problem["status"] == status
    assert problem["parameter"] == parameter
    assert "value" in problem


def test_the_wrong_task_names_the_models_that_can(client, picture, encode):
    problem = client.post("/v1/segment?model=demo", content=encode(picture(64, 64))).json()
    assert problem["limit"] == ["demo-seg"]


@pytest.mark.parametrize("data", [b"nonsense", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_broken_images(client, data):
    assert client.post("/v1/segment?format=overlay", content=data).status_code in (415, 422)
    assert client.get("/readyz").status_code == 200


def test_files_tell_the_range_too(client):
    samples = np.linspace(0, 4095, 64 * 96).reshape(64, 96, 1).astype(np.uint16)
    data = tiff(samples, 16)
    answers = [
        client.post(f"/v1/segment?format={form}&range=p0,p100", content=data)
        for form in ("json", "png", "overlay", "coco", "geojson")
    ]
    (result,) = answers[0].json()["results"]
    assert result["input"]["range"] == [0, 4095]
    assert [answer.headers.get("X-Sample-Range") for answer in answers[1:]] == ["0,4095"] * 4
    page = np.asarray(Image.open(io.BytesIO(answers[2].content)))[:64, :96].astype(int)
    # What is shown below the tint goes from black to white; with all of 16 bits it would be black.
    assert page[60:].mean() - page[:4].mean() > 200 * (1 - OPACITY)
