"""POST /v1/compare, with one stand-in model under two names."""

import dataclasses

import pytest

from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig


@pytest.fixture
def client(tiny, spec):
    specs = [dataclasses.replace(spec, name=name) for name in ("one", "two", "three")]
    with live(create_app(ServerConfig(), specs)) as client:
        yield client


def test_the_same_image_through_both(client, picture, encode):
    data = encode(picture(64, 96))
    answer = client.post("/v1/compare?models=two,one&top_k=3", content=data).json()
    alone = client.post("/v1/classify?top_k=3", content=data).json()
    assert [model["model"] for model in answer["compared"]] == ["two", "one"]
    for model in answer["compared"]:
        assert model["results"] == alone["results"]
        assert set(model["timing_ms"]) == {"decode", "queue", "inference", "postprocess", "total"}
        assert model["batch"]["images"] == 1
        assert model["memory_bytes"] >= 0


def test_all_models_by_default_and_several_images(client, picture, encode):
    files = [("file", (f"{side}.png", encode(picture(side, side)))) for side in (32, 64)]
    answer = client.post("/v1/compare?resolution=native", files=files).json()
    assert [model["model"] for model in answer["compared"]] == ["one", "two", "three"]
    for model in answer["compared"]:
        assert [result["input"]["height"] for result in model["results"]] == [32, 64]


@pytest.mark.parametrize("models", ["one", "one,one"])
def test_fewer_than_two_models(client, models, picture, encode):
    answer = client.post(f"/v1/compare?models={models}", content=encode(picture(32, 32)))
    assert answer.status_code == 422
    assert "at least two different models" in answer.json()["detail"]
    assert answer.json()["limit"] == ["one", "two", "three"]


def test_an_unknown_model(client, picture, encode):
    answer = client.post("/v1/compare?models=one,four", content=encode(picture(32, 32)))
    assert answer.status_code == 404
    assert answer.json()["value"] == "four"


def test_a_bad_image_is_refused_once(client):
    answer = client.post("/v1/compare", content=b"no image")
    assert answer.status_code == 415


@pytest.fixture(scope="module")
def both_tasks():
    """A classifier, and one segmenter under two names."""
    segmenter = resolve("demo-seg")
    specs = [resolve("demo"), segmenter, dataclasses.replace(segmenter, name="twin")]
    with live(create_app(ServerConfig(max_resolution=320), specs)) as client:
        yield client


def test_two_segmenters(both_tasks, picture, encode):
    data = encode(picture(100, 180))
    answer = both_tasks.post("/v1/compare?models=demo-seg,twin", content=data).json()
    alone = both_tasks.post("/v1/segment", content=data).json()
    assert [model["model"] for model in answer["compared"]] == ["demo-seg", "twin"]
    for model in answer["compared"]:
        assert model["results"] == alone["results"]
        assert model["memory_bytes"] > 0


@pytest.mark.parametrize(
    ("query", "status", "parameter", "limit"),
    [
        ("models=demo,twin", 409, "models", ["demo"]),
        ("models=twin,demo", 409, "models", ["demo-seg", "twin"]),
        ("models=demo", 422, "models", ["demo", "demo-seg", "twin"]),
        ("", 422, "models", ["demo", "demo-seg", "twin"]),
        ("models=demo-seg,twin&top_k=3", 422, "top_k", None),
        ("models=demo-seg,twin&fit=crop", 422, "fit", "contain"),
        ("models=demo-seg,twin&resolution=321", 422, "resolution", 320),
    ],
)
def test_what_two_tasks_cannot_share(both_tasks, query, status, parameter, limit, picture, encode):
    problem = both_tasks.post(f"/v1/compare?{query}", content=encode(picture(32, 32))).json()
    assert (problem["status"], problem["parameter"]) == (status, parameter)
    assert problem.get("limit") == limit
