"""POST /v1/classify with the stand-in."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.server.images.tiff.writer import tiff
from vimserve.model.batch import PackedBatch


def test_raw_bytes(client, tiny, spec, picture, encode):
    image = picture(80, 100)
    answer = client.post("/v1/classify", content=encode(image)).json()
    assert answer["model"] == "tiny"
    (result,) = answer["results"]
    assert result["input"] == {"height": 64, "width": 64, "tokens": 17}
    assert "file" not in result
    assert answer["batch"].pop("peak_memory_bytes") >= 0
    assert answer["batch"] == {"images": 1, "tokens": 17}

    with torch.inference_mode():
        expected = tiny(PackedBatch.from_images([spec.transform(image)]))[0].softmax(0)
    scores = [prediction["score"] for prediction in result["predictions"]]
    order = [prediction["index"] for prediction in result["predictions"]]
    assert order == expected.argsort(descending=True)[:5].tolist()
    assert [prediction["label"] for prediction in result["predictions"]] == [
        f"class {index}" for index in order
    ]
    np.testing.assert_allclose(scores, expected[order], rtol=1e-5)


def test_timing_adds_up(client, picture, encode):
    timing = client.post("/v1/classify", content=encode(picture(80, 100))).json()["timing_ms"]
    total = timing.pop("total")
    assert set(timing) == {"decode", "queue", "inference", "postprocess"}
    assert min(timing.values()) >= 0
    assert sum(timing.values()) <= total + 0.01


def test_scores_sum_to_one_over_all_classes(client, picture, encode):
    answer = client.post("/v1/classify?top_k=7", content=encode(picture(64, 64))).json()
    scores = [prediction["score"] for prediction in answer["results"][0]["predictions"]]
    assert sum(scores) == pytest.approx(1)
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "content_type",
    ["image/jpeg", "application/x-www-form-urlencoded", "application/json", "", None],
)
def test_the_content_type_of_raw_bytes_does_not_matter(client, picture, encode, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = client.post("/v1/classify", content=encode(picture(64, 64)), headers=headers)
    assert answer.status_code == 200


def test_multipart_with_many_images_of_many_sizes(client, picture, encode):
    sizes = [(64, 64), (300, 40), (33, 200)]
    files = [
        ("file", (f"{height}x{width}.png", encode(picture(height, width, seed))))
        for seed, (height, width) in enumerate(sizes)
    ]
    query = {"resolution": "native", "fit": "contain"}
    together = client.post("/v1/classify", files=files, params=query).json()
    assert [result["file"] for result in together["results"]] == [
        "64x64.png",
        "300x40.png",
        "33x200.png",
    ]
    assert together["batch"]["images"] == 3
    assert together["batch"]["tokens"] == sum(
        result["input"]["tokens"] for result in together["results"]
    )
    for (_, (_, data)), result in zip(files, together["results"], strict=True):
        alone = client.post("/v1/classify", content=data, params=query).json()["results"][0]
        assert alone["input"] == result["input"]
        for one, other in zip(alone["predictions"], result["predictions"], strict=True):
            assert one["index"] == other["index"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_images_of_one_request_in_several_batches(serve, picture, encode):
    client, _ = serve(max_batch_tokens=20)
    files = [("file", ("a.png", encode(picture(64, 64, seed)))) for seed in range(3)]
    answer = client.post("/v1/classify", files=files).json()
    assert (answer["batch"]["images"], answer["batch"]["tokens"]) == (3, 51)


@pytest.mark.parametrize(
    ("query", "height", "width"),
    [
        ({}, 64, 64),
        ({"fit": "contain"}, 32, 64),
        ({"resolution": 100}, 96, 96),
        ({"resolution": 160, "fit": "contain"}, 80, 160),
        ({"resolution": "native"}, 96, 192),
        ({"resolution": "native", "fit": "contain"}, 96, 208),
        ({"resolution": 1}, 16, 16),
    ],
)
def test_resolution_and_fit(client, picture, encode, query, height, width):
    data = encode(picture(100, 205))
    (result,) = client.post("/v1/classify", content=data, params=query).json()["results"]
    assert result["input"]["height"] == height
    assert result["input"]["width"] == width
    assert result["input"]["tokens"] == height * width // 256 + 1


def test_a_limit_that_is_no_multiple_of_the_patch_can_be_asked_for(serve, picture, encode):
    client, _ = serve(max_resolution=100)
    data = encode(picture(100, 100))
    for query in ({"resolution": 100, "fit": "contain"}, {"resolution": "native"}):
        assert client.post("/v1/classify", content=data, params=query).status_code == 200


def test_a_strip_far_wider_than_high(client, encode):
    strip = encode(Image.new("RGB", (200_000, 10), "red"))
    for fit in ("crop", "contain"):
        answer = client.post(f"/v1/classify?fit={fit}", content=strip)
        assert answer.status_code == 200


def test_the_range_and_the_bands_that_were_used(client):
    samples = np.linspace(0, 4095, 80 * 100 * 4).reshape(80, 100, 4).astype(np.uint16)
    data = tiff(samples, 16, tags={338: (3, [0, 0, 0])})
    asked = "range=0,4095&bands=4,3,2"
    (result,) = client.post(f"/v1/classify?{asked}", content=data).json()["results"]
    assert result["input"] == {
        "height": 64, "width": 64, "tokens": 17, "range": [0, 4095], "bands": [4, 3, 2],
    }  # fmt: skip
    (other,) = client.post("/v1/classify?bands=4,3,2", content=data).json()["results"]
    assert other["input"]["range"] == [0, 65535]
    assert other["predictions"] != result["predictions"]
    refused = client.post("/v1/classify", content=data)
    assert refused.status_code == 415
    assert refused.json()["parameter"] == "bands"
