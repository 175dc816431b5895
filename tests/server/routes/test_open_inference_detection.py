"""The Open Inference Protocol of detectors: Triton's own client against our own API."""

import base64
import json

import numpy as np
import pytest
import tritonclient.http as triton
from pycocotools import mask as coco_mask
from tritonclient.utils import InferenceServerException

from tests.server.detector import BOXER, SPEC, serving

# numpy says so of what pycocotools decodes into.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept:DeprecationWarning"
)


@pytest.fixture(scope="module")
def server():
    with serving(SPEC, BOXER, max_resolution=320) as (client, models):
        yield client, models


@pytest.fixture
def client(server):
    return server[0]


@pytest.fixture
def grid(client):
    with triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as grid:
        yield grid


def tensor(array, datatype, **options):
    made = triton.InferInput("image", list(array.shape), datatype)
    return made.set_data_from_numpy(array, **options)


def files(*data: bytes):
    return tensor(np.array(data, object), "BYTES")


def native(client, data, query=""):
    answer = client.post(f"/v1/detect?model=finder&{query}", content=data).json()
    return answer["results"][0]["detections"]


def texts(answer, name, row):
    """Of a BYTES tensor, which the client returns as bytes or, from JSON, as texts."""
    return [one if isinstance(one, str) else one.decode() for one in answer.as_numpy(name)[row]]


def check(answer, row, wanted):
    """Row ``row`` of the tensors has these detections, and nothing else."""
    n = len(wanted)
    assert answer.as_numpy("num_detections")[row] == n
    boxes = answer.as_numpy("boxes")[row]
    assert boxes[:n].ravel() == pytest.approx([e for one in wanted for e in one["box"].values()])
    assert answer.as_numpy("scores")[row, :n] == pytest.approx([one["score"] for one in wanted])
    assert answer.as_numpy("classes")[row, :n].tolist() == [one["index"] for one in wanted]
    labels = texts(answer, "labels", row)
    assert labels[:n] == [one["label"] for one in wanted]
    assert not boxes[n:].any()
    assert not answer.as_numpy("scores")[row, n:].any()
    assert (answer.as_numpy("classes")[row, n:] == -1).all()
    assert not any(labels[n:])


def test_metadata(grid):
    model = grid.get_model_metadata("finder")
    assert model["platform"].endswith("_detect")
    outputs = {one["name"]: (one["datatype"], one["shape"]) for one in model["outputs"]}
    assert outputs == {
        "num_detections": ("INT32", [-1]),
        "boxes": ("FP32", [-1, -1, 4]),
        "scores": ("FP32", [-1, -1]),
        "classes": ("INT32", [-1, -1]),
        "labels": ("BYTES", [-1, -1]),
        "masks": ("BYTES", [-1, -1]),
    }
    boxer = grid.get_model_metadata("boxer")["outputs"]
    assert [one["name"] for one in boxer] == [*outputs][:-1]


@pytest.mark.parametrize("binary", [True, False])
def test_images_of_any_sizes(client, grid, encode, picture, binary):
    pair = [encode(picture(100, 200)), encode(picture(70, 40))]
    outputs = [
        triton.InferRequestedOutput(name, binary_data=binary)
        for name in ("num_detections", "boxes", "scores", "classes", "labels", "masks")
    ]
    query = {"score_threshold": 0.1, "max_detections": 3}
    answer = grid.infer("finder", [files(*pair)], outputs=outputs, parameters=query)
    for row, data in enumerate(pair):
        wanted = native(client, data, "score_threshold=0.1&max_detections=3&masks=rle")
        check(answer, row, wanted)
        masks = [json.loads(text) for text in texts(answer, "masks", row)]
        assert masks == [one["mask"] for one in wanted]
    assert coco_mask.decode(masks).shape == (70, 40, 2)


def test_rows_are_filled_up(server, grid, encode, picture, monkeypatch):
    """One of the images has fewer objects."""
    client, (finder, _) = server
    rows = finder._rows

    def fewer_in_the_small(of):
        found = rows(of)
        found[of.size[0] // 64 :] = 0
        return found

    monkeypatch.setattr(finder, "_rows", fewer_in_the_small)
    images = [encode(picture(side, 200)) for side in (64, 300, 32)]
    answer = grid.infer("finder", [files(*images)], parameters={"score_threshold": 0.1})
    assert answer.as_numpy("num_detections").tolist() == [1, 3, 0]
    assert answer.as_numpy("boxes").shape == (3, 3, 4)
    assert [bool(text) for text in texts(answer, "masks", 0)] == [True, False, False]
    for row, data in enumerate(images):
        check(answer, row, native(client, data, "score_threshold=0.1"))


def test_nothing_found(grid, encode, picture):
    answer = grid.infer(
        "finder", [files(encode(picture(64, 64)))], parameters={"score_threshold": 0.99}
    )
    assert answer.as_numpy("num_detections").tolist() == [0]
    shapes = {one["name"]: one["shape"] for one in answer.get_response()["outputs"]}
    assert shapes == {
        "num_detections": [1], "boxes": [1, 0, 4], "scores": [1, 0], "classes": [1, 0],
        "labels": [1, 0], "masks": [1, 0],
    }  # fmt: skip
    assert answer.as_numpy("boxes").size == 0


def test_masks_are_computed_only_if_they_are_wanted(server, grid, encode, picture):
    _, (finder, boxer) = server
    given = [files(encode(picture(64, 64)))]
    grid.infer("finder", given, outputs=[triton.InferRequestedOutput("boxes")])
    assert not finder.wanted[-1].masks
    grid.infer("finder", given)
    assert finder.wanted[-1].masks
    answer = grid.infer("boxer", given)
    assert not boxer.wanted[-1].masks
    assert answer.as_numpy("masks") is None


@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_pixels_and_normalised_images(client, grid, encode, picture, datatype):
    image = picture(64, 96)
    array = np.asarray(image)[None]
    if datatype == "FP32":
        mean, std = np.array([SPEC.config.pixel_mean, SPEC.config.pixel_std], np.float32)
        array = np.ascontiguousarray(((array / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))
    answer = grid.infer("finder", [tensor(array, datatype)])
    check(answer, 0, native(client, encode(image)))


def test_a_raw_body_has_every_output(client, encode, picture):
    header = {"Inference-Header-Content-Length": "0", "Accept-Encoding": "identity"}
    data = encode(picture(100, 200))
    answer = client.post("/v2/models/finder/infer", content=data, headers=header)
    length = int(answer.headers["inference-header-content-length"])
    outputs = json.loads(answer.content[:length])["outputs"]
    sizes = [one["parameters"]["binary_data_size"] for one in outputs]
    assert sum(sizes) == len(answer.content) - length
    assert sizes[:4] == [4, 2 * 16, 2 * 4, 2 * 4]
    start = length + sizes[0]
    boxes = np.frombuffer(answer.content[start : start + sizes[1]], "<f4").reshape(2, 4)
    assert boxes[0].tolist() == [50, 50, 150, 100]


@pytest.mark.parametrize(
    ("model", "members", "words"),
    [
        ("boxer", {"outputs": [{"name": "masks"}]}, "the outputs of model 'boxer' are num_det"),
        ("finder", {"outputs": [{"name": "logits"}]}, "scores, classes, labels, masks, each"),
        (
            "finder",
            {"outputs": [{"name": "scores", "parameters": {"classification": 2}}]},
            "only scores of all classes can be classified, not scores of model 'finder'",
        ),
        ("finder", {"parameters": {"masks": "rle"}}, "there is no parameter 'masks'"),
        ("finder", {"parameters": {"top_k": 1}}, "a model that can detect has priority, "),
        ("finder", {"parameters": {"score_threshold": 2}}, "score_threshold"),
        ("finder", {"parameters": {"score_threshold": "nan"}}, "score_threshold"),
        ("finder", {"parameters": {"max_detections": 0}}, "max_detections"),
        ("finder", {"parameters": {"max_detections": 301}}, "max_detections"),
    ],
)
def test_bad_input(client, encode, picture, model, members, words):
    coded = base64.b64encode(encode(picture(64, 64))).decode()
    given = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [coded]}
    answer = client.post(f"/v2/models/{model}/infer", json={"inputs": [given], **members})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert words in answer.json()["error"]


def test_errors_reach_the_client(grid):
    too_small = tensor(np.zeros((1, 3, 16, 32), np.float32), "FP32")
    with pytest.raises(InferenceServerException, match="multiples of 16, from 32 on"):
        grid.infer("finder", [too_small])
