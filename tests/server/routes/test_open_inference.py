"""The Open Inference Protocol: Triton's own client against our own API."""

import base64
import io
import json

import httpx2
import numpy as np
import pytest
import torch
import tritonclient.http as triton
from PIL import Image
from torch.nn.functional import interpolate
from tritonclient.utils import InferenceServerException

from tests.paths import ROOT
from tests.patience import wait_until
from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig

DOG = (ROOT / "model" / "demo" / "samples" / "dog.jpg").read_bytes()
SPEC, SEGMENTER = resolve("demo"), resolve("demo-seg")


@pytest.fixture(scope="module")
def client():
    with live(create_app(ServerConfig(max_resolution=320), [SPEC, SEGMENTER])) as client:
        yield client


@pytest.fixture
def grid(client):
    with triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as grid:
        yield grid


def tensor(array, datatype, **options):
    made = triton.InferInput("image", list(array.shape), datatype)
    return made.set_data_from_numpy(array, **options)


def files(*data: bytes):
    return tensor(np.array(data, object), "BYTES")


def pixels(image):
    return np.asarray(image.convert("RGB"))[None]


def native(client: httpx2.Client, data: bytes, query: str = "") -> list[float]:
    """The scores of all classes, in their order, as our own API has them."""
    answer = client.post(f"/v1/classify?top_k={len(SPEC.labels)}{query}", content=data).json()
    found = {one["index"]: one["score"] for one in answer["results"][0]["predictions"]}
    return [found[i] for i in range(len(SPEC.labels))]


def test_metadata_and_health(grid):
    assert grid.is_server_live()
    assert grid.is_server_ready()
    assert grid.is_model_ready("demo")
    assert grid.is_model_ready("demo", "1")
    assert not grid.is_model_ready("demo", "2")
    assert not grid.is_model_ready("nobody")
    server = grid.get_server_metadata()
    assert server["name"] == "vimserve"
    assert {"binary_tensor_data", "classification", "statistics"} <= set(server["extensions"])
    model = grid.get_model_metadata("demo", "1")
    assert model == grid.get_model_metadata("demo")
    assert (model["name"], model["versions"]) == ("demo", ["1"])
    (image,) = model["inputs"]
    assert (image["name"], image["datatype"], image["shape"]) == ("image", "BYTES", [-1])
    outputs = {one["name"]: (one["datatype"], one["shape"]) for one in model["outputs"]}
    assert outputs["logits"] == ("FP32", [-1, len(SPEC.labels)])
    (mask, _, scores) = grid.get_model_metadata("demo-seg")["outputs"]
    assert (mask["datatype"], mask["shape"]) == ("UINT8", [-1, -1, -1])
    assert (scores["name"], scores["datatype"]) == ("scores", "FP32")
    assert scores["shape"] == [-1, len(SEGMENTER.labels), -1, -1]


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_files_of_any_sizes(client, grid, encode, picture, coding):
    other = encode(picture(70, 200))
    answer = grid.infer(
        "demo", [files(DOG, other)], request_id="mine",
        request_compression_algorithm=coding, response_compression_algorithm=coding,
    )  # fmt: skip
    whole = answer.get_response()
    assert (whole["model_name"], whole["model_version"], whole["id"]) == ("demo", "1", "mine")
    scores, logits = answer.as_numpy("scores"), answer.as_numpy("logits")
    assert scores.dtype == logits.dtype == np.float32
    for row, data in zip(scores, (DOG, other), strict=True):
        assert row == pytest.approx(native(client, data), rel=1e-4)
    odds = np.exp(logits)
    assert odds / odds.sum(1, keepdims=True) == pytest.approx(scores, rel=1e-5)
    labels = [SPEC.labels[i].encode() for i in scores.argmax(1)]
    assert list(answer.as_numpy("labels")) == labels


@pytest.mark.parametrize("binary", [True, False])
def test_pixels_are_treated_as_a_file(client, grid, encode, picture, binary):
    image = picture(100, 150)
    given = tensor(pixels(image), "UINT8", binary_data=binary)
    scores = grid.infer("demo", [given]).as_numpy("scores")[0]
    assert scores == pytest.approx(native(client, encode(image)), rel=1e-4)
    query = {"resolution": 64, "fit": "crop", "bands": "3,2,1"}
    scores = grid.infer("demo", [given], parameters=query).as_numpy("scores")[0]
    wanted = native(client, encode(image), "&resolution=64&fit=crop&bands=3,2,1")
    assert scores == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("binary", [True, False])
def test_normalised_images_are_taken_as_they_are(client, grid, encode, picture, binary):
    image = picture(64, 96)
    mean, std = np.array([SPEC.config.pixel_mean, SPEC.config.pixel_std], np.float32)
    array = ((pixels(image) / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    given = tensor(np.ascontiguousarray(array, np.float32), "FP32", binary_data=binary)
    scores = grid.infer("demo", [given]).as_numpy("scores")[0]
    wanted = native(client, encode(image), "&resolution=native&fit=contain")
    assert scores == pytest.approx(wanted, rel=1e-4)


def test_a_batch_may_mix_pixels_and_normalised_images(held, encode, picture):
    image = picture(64, 64)
    client, app, first, pool = held(encode(image))
    (served,) = app.state.engine.models.values()
    config = served.spec.config
    array = pixels(image) / 255 - np.array(config.pixel_mean)
    array = (array / np.array(config.pixel_std)).transpose(0, 3, 1, 2)
    bodies = [
        {"name": "image", "shape": [1], "datatype": "BYTES",
         "data": [base64.b64encode(encode(image)).decode()]},
        {"name": "image", "shape": list(array.shape), "datatype": "FP32", "data": array.tolist()},
    ]  # fmt: skip
    module, seen = served.loaded.runner.module, []
    module.check = lambda batch: seen.append((batch.num_images, batch.patches.dtype))

    def send(body):
        return client.post("/v2/models/tiny/infer", json={"inputs": [body]}).json()

    waiting = [pool.submit(send, body) for body in bodies]
    wait_until(lambda: app.state.metrics.registry.get_sample_value(
        "vimserve_queue_depth", {"model": "tiny"}) == 2)  # fmt: skip
    module.gate.set()
    assert first.result().status_code == 200
    answers = [future.result()["outputs"][0]["data"] for future in waiting]
    assert [count for count, _ in seen] == [1, 2]
    assert all(np.isfinite(answers[0]))


def test_masks(client, grid, encode, picture):
    image = picture(60, 100)
    (result,) = client.post("/v1/segment", content=encode(image)).json()["results"]
    whole = np.asarray(Image.open(io.BytesIO(base64.b64decode(result["mask"]))))
    for given in (files(encode(image)), tensor(pixels(image), "UINT8")):
        answer = grid.infer("demo-seg", [given])
        assert (answer.as_numpy("mask") == whole[None]).all()
        assert [name.decode() for name in answer.as_numpy("labels")] == list(SEGMENTER.labels)
    in_json = triton.InferRequestedOutput("mask", binary_data=False)
    answer = grid.infer("demo-seg", [files(encode(image))], outputs=[in_json])
    assert (answer.as_numpy("mask") == whole[None]).all()
    twice = grid.infer("demo-seg", [files(encode(image), encode(image))]).as_numpy("mask")
    assert twice.shape == (2, 60, 100)
    with pytest.raises(InferenceServerException, match=r"image 1: its size, 61x100, is not that"):
        grid.infer("demo-seg", [files(encode(image), encode(picture(61, 100)))])
    windows = {"mode": "slide", "window": 128, "resolution": "native"}
    answer = grid.infer("demo-seg", [files(DOG)], parameters=windows)
    assert answer.as_numpy("mask").shape[0] == 1


@pytest.mark.parametrize("windows", [{}, {"mode": "slide", "window": 128}], ids=str)
def test_scores_of_a_segmenter(grid, picture, windows):
    given = tensor(pixels(picture(160, 240)), "UINT8")
    names = [triton.InferRequestedOutput(name) for name in ("scores", "mask")]
    both = grid.infer("demo-seg", [given], outputs=names, parameters=windows)
    scores, mask = both.as_numpy("scores"), both.as_numpy("mask")
    size = (40, 60) if not windows else (32, 48)
    assert scores.shape == (1, len(SEGMENTER.labels), *size)
    enlarged = interpolate(torch.tensor(scores), mask.shape[1:], mode="bilinear")
    assert (enlarged.argmax(1).numpy() == mask).mean() > 0.999
    alone = grid.infer("demo-seg", [given], outputs=names[:1], parameters=windows)
    assert alone.as_numpy("mask") is None
    np.testing.assert_array_equal(alone.as_numpy("scores"), scores)
    assert grid.infer("demo-seg", [given]).as_numpy("scores") is None


def test_scores_of_a_segmenter_are_bytes_of_a_single_image(grid, encode, picture):
    data = encode(picture(64, 64))
    for images, binary, message in [
        ((data,), False, "scores of model 'demo-seg' are only sent as bytes: give the output"),
        ((data, data), True, "scores of model 'demo-seg' are only sent for a single image, not"),
    ]:
        wanted = triton.InferRequestedOutput("scores", binary_data=binary)
        with pytest.raises(InferenceServerException, match=message):
            grid.infer("demo-seg", [files(*images)], outputs=[wanted])


def test_wanted_outputs(client, grid):
    outputs = [
        triton.InferRequestedOutput("scores", class_count=3),
        triton.InferRequestedOutput("logits", binary_data=False, class_count=100),
        triton.InferRequestedOutput("labels", binary_data=False),
    ]
    answer = grid.infer("demo", [files(DOG)], outputs=outputs)
    likeliest = [text.decode().split(":") for text in answer.as_numpy("scores")[0]]
    wanted = native(client, DOG)
    order = np.argsort(wanted)[::-1]
    assert [(int(i), label) for _, i, label in likeliest] == [
        (i, SPEC.labels[i]) for i in order[:3]
    ]
    scores = [float(value) for value, _, _ in likeliest]
    assert scores == pytest.approx([wanted[i] for i in order[:3]], rel=1e-4)
    assert answer.as_numpy("logits").shape == (1, len(SPEC.labels))
    sizes = [one.get("parameters") for one in answer.get_response()["outputs"]]
    assert [size is not None for size in sizes] == [True, False, False]
    assert answer.get_response()["outputs"][2]["data"] == [likeliest[0][2]]


def test_a_raw_body_is_one_file(client):
    header = {"Inference-Header-Content-Length": "0", "Accept-Encoding": "identity"}
    answer = client.post("/v2/models/demo/infer", content=DOG, headers=header)
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    message = json.loads(answer.content[:length])
    sizes = [output["parameters"]["binary_data_size"] for output in message["outputs"]]
    assert sum(sizes) == len(answer.content) - length
    assert "id" not in message
    start = length + sizes[0]
    scores = np.frombuffer(answer.content[start : start + sizes[1]], "<f4")
    assert scores == pytest.approx(native(client, DOG), rel=1e-4)


def test_json_alone_answers_json(client):
    data = [base64.b64encode(DOG).decode()]
    message = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": data}]}
    answer = client.post("/v2/models/demo/versions/1/infer", json=message)
    assert answer.headers["content-type"] == "application/json"
    outputs = {one["name"]: one["data"] for one in answer.json()["outputs"]}
    assert outputs["scores"] == pytest.approx(native(client, DOG), rel=1e-4)
    assert outputs["labels"] == [SPEC.labels[int(np.argmax(outputs["scores"]))]]


def test_parameters_say_more_than_headers(held, encode, picture):
    """Priority and deadline come from the parameters, and from the headers only without them."""
    client, app, first, pool = held(encode(picture(64, 64)))
    coded = [base64.b64encode(encode(picture(64, 64))).decode()]
    tensors = [{"name": "image", "shape": [1], "datatype": "BYTES", "data": coded}]

    def send(headers, **parameters):
        return client.post(
            "/v2/models/tiny/infer",
            json={"inputs": tensors, "parameters": parameters},
            headers=headers,
        )

    late = send({"X-Request-Timeout-Ms": "3600000"}, timeout=1000)
    assert (late.status_code, late.json()) == (504, {"error": "no answer within 0.001 s"})
    late = send({"X-Request-Timeout-Ms": "20"}, timeout=0)
    assert (late.status_code, late.json()) == (504, {"error": "no answer within 0.02 s"})
    seen = []
    submit = app.state.engine.submit

    def watched(room, images, **others):
        seen.append(room.urgency.priority)
        return submit(room, images, **others)

    app.state.engine.submit = watched
    asked = [({"X-Request-Priority": "9"}, {"priority": 1}), ({"X-Request-Priority": "2"}, {})]
    waiting = [pool.submit(send, headers, **given) for headers, given in asked]
    wait_until(lambda: len(seen) == 2)
    app.state.engine.models["tiny"].loaded.runner.module.gate.set()
    assert [future.result().status_code for future in (first, *waiting)] == [200] * 3
    assert sorted(seen) == [1, 2]


def test_statistics(serve, encode, picture):
    client, _ = serve()
    with triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as grid:
        (before,) = grid.get_inference_statistics("tiny")["model_stats"]
        assert (before["last_inference"], before["inference_count"]) == (0, 0)
        grid.infer("tiny", [files(encode(picture(64, 64)), encode(picture(80, 64)))])
        grid.infer("tiny", [files(encode(picture(64, 64)))])
        with pytest.raises(InferenceServerException):
            grid.infer("tiny", [files(b"nonsense")])
        whole = grid.get_inference_statistics()
        assert whole == grid.get_inference_statistics("tiny", "1")
    (after,) = whole["model_stats"]
    assert (after["name"], after["version"], after["batch_stats"]) == ("tiny", "1", [])
    assert after["inference_count"] == 3
    assert 2 <= after["execution_count"] <= 3
    assert after["last_inference"] > 1.7e12
    stages = after["inference_stats"]
    assert stages["fail"]["count"] == 1
    assert stages["fail"]["ns"] > 0
    parts = [stages[name] for name in ("queue", "compute_input", "compute_infer", "compute_output")]
    assert [part["count"] for part in (stages["success"], *parts)] == [2] * 5
    assert stages["success"]["ns"] == pytest.approx(sum(part["ns"] for part in parts), abs=10)
    assert stages["compute_infer"]["ns"] > 0
