"""POST /v1/detect with a detector that finds what it is told."""

import io
import json

import numpy as np
import pytest
import shapely
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from tests.server.detector import BOXER, LABELS, SPEC, serving
from tests.server.images.tiff.writer import tiff
from vimserve.server.images import geojson
from vimserve.server.images.mask import OPACITY

# numpy says so of what pycocotools decodes into.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept:DeprecationWarning"
)

PALETTE = SPEC.palette or ()


@pytest.fixture(scope="module")
def server():
    with serving(SPEC, BOXER, max_resolution=320) as (client, models):
        yield client, models


@pytest.fixture
def client(server):
    return server[0]


def test_json(client, picture, encode):
    response = client.post("/v1/detect", content=encode(picture(100, 200)))
    answer = response.json()
    assert answer["model"] == "finder"
    (result,) = answer["results"]
    assert (result["height"], result["width"]) == (100, 200)
    assert result["input"] == {"height": 96, "width": 192, "tokens": 6 * 12}
    assert "windows" not in result
    cat, apple = result["detections"]
    assert (cat["index"], cat["label"], cat["score"]) == (2, "cat", pytest.approx(0.9))
    assert cat["box"] == {"x1": 50, "y1": 50, "x2": 150, "y2": 100}
    assert (apple["label"], apple["box"]["x2"]) == ("apple", pytest.approx(80, abs=1e-3))
    assert "mask" not in cat
    stages = dict(part.split(";dur=") for part in response.headers["Server-Timing"].split(", "))
    assert {stage: float(ms) for stage, ms in stages.items()} == answer["timing_ms"]


def test_what_is_asked_is_what_the_model_is_asked(server, picture, encode):
    client, (finder, _) = server
    query = "score_threshold=0.2&max_detections=4&masks=rle&resolution=64"
    (result,) = client.post(f"/v1/detect?{query}", content=encode(picture(100, 200))).json()[
        "results"
    ]
    wanted = finder.wanted[-1]
    assert (wanted.size, wanted.most, wanted.masks) == ((32, 64), 4, True)
    assert wanted.score_threshold == pytest.approx(0.2)
    # The third has no width, and the last is clipped.
    assert [one["label"] for one in result["detections"]] == ["cat", "apple", "boat"]
    assert result["detections"][2]["box"]["x1"] == 0


def masks_of(client, data, form):
    answer = client.post(f"/v1/detect?score_threshold=0.1&masks={form}", content=data)
    return [one["mask"] for one in answer.json()["results"][0]["detections"]]


def test_masks_as_run_lengths_and_as_polygons(client, picture, encode):
    data = encode(picture(100, 200))
    written, polygons = (masks_of(client, data, form) for form in ("rle", "polygon"))
    rows, cols = np.indices((100, 200))
    for encoded, shape in zip(written, polygons, strict=True):
        assert encoded["size"] == [100, 200]
        mask = coco_mask.decode(encoded) == 1
        assert shape["type"] == "MultiPolygon"
        regions = shapely.from_geojson(json.dumps(shape))
        assert (shapely.contains_xy(regions, cols + 0.5, rows + 0.5) == mask).all()
    areas = coco_mask.area(written).tolist()
    assert areas[0] == pytest.approx(100 * 50, rel=0.1)
    assert areas[1] == pytest.approx(np.pi / 4 * 60 * 30, rel=0.05)


def test_a_square_is_the_normalised_picture_beside_zeros(server, picture, encode):
    client, (finder, _) = server
    image = picture(60, 100)
    query = "fit=square&resolution=96"
    (result,) = client.post(f"/v1/detect?{query}", content=encode(image)).json()["results"]
    assert result["input"] == {"height": 96, "width": 96, "tokens": 36}
    assert finder.wanted[-1].size == (58, 96)
    patches = finder.batches[-1].patches.view(6, 6, 3, 16, 16)
    assert patches.dtype.is_floating_point
    seen = patches.permute(2, 0, 3, 1, 4).reshape(3, 96, 96).numpy()
    assert (seen[:, 58:] == 0).all()
    middle = np.asarray(image.getpixel((50, 30))) / 255
    mean, std = np.array(SPEC.config.pixel_mean), np.array(SPEC.config.pixel_std)
    assert seen[:, 29, 48] == pytest.approx((middle - mean) / std, abs=0.1)
    assert result["detections"][0]["box"] == {"x1": 25, "y1": 30, "x2": 75, "y2": 60}


def test_several_images(client, picture, encode):
    files = [("file", (f"{n}.png", encode(picture(n, 64)))) for n in (5, 50, 200)]
    answer = client.post("/v1/detect?masks=rle", files=files).json()
    assert [one["file"] for one in answer["results"]] == ["5.png", "50.png", "200.png"]
    for one, height in zip(answer["results"], (5, 50, 200), strict=True):
        assert one["height"] == height
        assert one["detections"][0]["box"]["y2"] == height
        assert one["detections"][0]["mask"]["size"] == [height, 64]


@pytest.mark.parametrize("model", ["finder", "boxer"])
def test_pycocotools_reads_the_dataset_and_takes_its_annotations_as_results(
    client, picture, encode, tmp_path, model
):
    path = f"/v1/detect?model={model}&format=coco"
    response = client.post(path, files={"file": ("a.png", encode(picture(100, 200)))})
    assert response.headers["content-type"] == "application/json"
    file = tmp_path / "dataset.json"
    file.write_bytes(response.content)
    coco = COCO(file)
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image["file_name"], image["height"], image["width"]) == ("a.png", 100, 200)
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == [*LABELS]
    annotations = coco.loadAnns(coco.getAnnIds())
    assert [one["category_id"] for one in annotations] == [2, 0]
    assert [one["score"] for one in annotations] == pytest.approx([0.9, 0.6])
    assert annotations[0]["bbox"] == [50, 50, 100, 50]
    if model == "finder":
        assert [coco.annToMask(one).sum() for one in annotations] == [
            one["area"] for one in annotations
        ]
    else:
        assert "segmentation" not in annotations[0]
        assert annotations[0]["area"] == 100 * 50
    results = coco.loadRes(response.json()["annotations"])
    assert [one["bbox"] for one in results.loadAnns(results.getAnnIds())] == [
        one["bbox"] for one in annotations
    ]


@pytest.mark.parametrize("model", ["finder", "boxer"])
def test_geojson(client, picture, encode, model):
    path = f"/v1/detect?model={model}&format=geojson"
    response = client.post(path, content=encode(picture(100, 200)))
    assert response.headers["content-type"] == "application/geo+json"
    cat, apple = response.json()["features"]
    assert cat["properties"]["classification"] == {
        "name": "cat",
        "color": list(PALETTE[2]),
    }
    assert cat["properties"]["measurements"]["score"] == pytest.approx(0.9)
    assert cat["properties"]["objectType"] == "detection"
    shape = shapely.from_geojson(json.dumps(apple["geometry"]))
    if model == "finder":
        assert apple["properties"]["pixels"] == shape.area
    else:
        assert "pixels" not in apple["properties"]
        assert shape.equals(shapely.box(20, 10, 80, 40))


def test_an_overlay(client, picture, encode):
    image = Image.new("RGB", (400, 300), "white")
    found = client.post("/v1/detect?format=overlay", content=encode(image))
    assert found.headers["content-type"] == "image/jpeg"
    page = Image.open(io.BytesIO(found.content))
    assert page.size == (400, 300)
    tint = np.array(PALETTE[2])
    expected = 255 + (tint - 255) * OPACITY
    assert np.abs(np.asarray(page)[260, 200] - expected).max() < 6  # in the cat
    assert np.asarray(page)[60, 350].min() > 245  # in nothing
    found = client.post("/v1/detect?format=overlay&masks=none", content=encode(image))
    plain = Image.open(io.BytesIO(found.content))
    assert np.asarray(plain)[260, 200].min() > 245


@pytest.mark.parametrize("size", [(224, 30), (3, 4), (20, 1500)])
def test_an_overlay_has_room_for_the_names(client, picture, encode, size):
    found = client.post("/v1/detect?format=overlay", content=encode(picture(*size)))
    page = Image.open(io.BytesIO(found.content))
    assert page.width == max(size[1], 240)
    assert page.height == max(size[0], 16 if size[1] < 1500 else 42)


def test_masks_too_intricate_for_polygons_are_refused(client, picture, encode, monkeypatch):
    monkeypatch.setattr(geojson, "MOST_PIECES", 20)
    data = encode(picture(100, 200))
    for query, parameter in [("masks=polygon", "masks"), ("format=geojson", "format")]:
        refused = client.post(f"/v1/detect?{query}", content=data)
        assert refused.status_code == 413
        problem = refused.json()
        assert (problem["parameter"], problem["limit"]) == (parameter, 20)
        assert "ask for" in problem["detail"]


@pytest.mark.parametrize("form", ["overlay", "coco", "geojson"])
def test_a_file_is_of_one_image(client, picture, encode, form):
    files = [("file", (name, encode(picture(40, 40)))) for name in ("a.png", "b.png")]
    refused = client.post(f"/v1/detect?format={form}", files=files)
    assert refused.status_code == 422
    assert refused.json()["value"] == form


@pytest.mark.parametrize(
    ("query", "status", "parameter"),
    [
        ("model=nobody", 404, "model"),
        ("model=boxer&masks=rle", 422, "masks"),
        ("model=boxer&format=coco&masks=polygon", 422, "masks"),
        ("format=png", 422, "format"),
        ("fit=crop", 422, "fit"),
        ("resolution=321", 422, "resolution"),
        ("resolution=100&fit=square", 422, "resolution"),
        ("score_threshold=nan", 422, "score_threshold"),
        ("score_threshold=2", 422, "score_threshold"),
        ("max_detections=301", 422, "max_detections"),
        ("max_detections=1.5", 422, "max_detections"),
        ("mode=slide", 422, "mode"),
    ],
)
def test_bad_requests(client, picture, encode, query, status, parameter):
    problem = client.post(f"/v1/detect?{query}", content=encode(picture(64, 64))).json()
    assert problem["status"] == status
    assert problem["parameter"] == parameter
    assert "value" in problem
    assert "limit" in problem


def test_models_of_other_tasks(client, picture, encode):
    problem = client.post("/v1/segment?model=finder", content=encode(picture(64, 64))).json()
    assert problem["status"] == 409
    assert "model 'finder' detects; it cannot segment" in problem["detail"]


def test_files_tell_the_range_too(client):
    samples = np.linspace(0, 4095, 64 * 96).reshape(64, 96, 1).astype(np.uint16)
    data = tiff(samples, 16)
    for form in ("overlay", "coco", "geojson"):
        answer = client.post(f"/v1/detect?format={form}&range=p0,p100", content=data)
        assert answer.headers["X-Sample-Range"] == "0,4095"


def test_jobs_and_an_estimate_and_a_comparison(client, picture, encode):
    data = encode(picture(100, 200))
    direct = client.post("/v1/detect?masks=rle", content=data).json()
    compared = client.post("/v1/compare?masks=none&score_threshold=0.7", content=data).json()
    assert [one["model"] for one in compared["compared"]] == ["finder", "boxer"]
    for one in compared["compared"]:
        assert [found["label"] for found in one["results"][0]["detections"]] == ["cat"]
    refused = client.post("/v1/compare?masks=rle", content=data).json()
    assert (refused["status"], refused["parameter"]) == (422, "masks")
    cost = client.get("/v1/estimate?model=finder&height=100&width=200&masks=rle").json()
    assert cost["tokens"] == direct["results"][0]["input"]["tokens"]
    refused = client.get("/v1/estimate?model=boxer&height=100&width=200&masks=rle").json()
    assert (refused["status"], refused["parameter"]) == (422, "masks")


def test_the_listing(client):
    models = client.get("/v1/models").json()["models"]
    assert [one["task"] for one in models] == ["detect"] * 2
    assert models[0]["labels"] == [*LABELS]
    assert models[0]["palette"] == [list(color) for color in PALETTE]
    assert models[0]["transform"]["fit"] == "contain"
    assert [one["masks"] for one in models] == [True, False]
