"""The Hugging Face task API of detectors: its own clients, and what it refuses."""

import base64
import io
import json

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import BadRequestError
from PIL import Image
from pycocotools import mask as coco_mask

from tests.npm import run_javascript
from tests.server.detector import BOXER, SPEC, serving
from vimserve.server.routes.hugging_face import detection

# numpy says so of what pycocotools decodes into.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept:DeprecationWarning"
)
JAVASCRIPT = """
import { readFileSync } from "node:fs";
import { InferenceClient } from "@huggingface/inference";

const [url, file] = process.argv.slice(-2);
const inputs = new Blob([readFileSync(file)]);
const client = (model) => new InferenceClient("", { endpointUrl: `${url}/models/${model}` });
const attempt = (asked) => asked.catch((error) => ({ error: JSON.stringify(error.httpResponse) }));
console.log(JSON.stringify({
  boxes: await client("finder").objectDetection({ data: inputs }),
  masks: await client("finder").imageSegmentation({ inputs, parameters: { subtask: "instance" } }),
  none: await attempt(client("boxer").imageSegmentation({
    inputs, parameters: { subtask: "instance" },
  })),
}));
"""


@pytest.fixture(scope="module")
def server():
    with serving(SPEC, BOXER, max_resolution=320) as (client, models):
        yield client, models


@pytest.fixture
def client(server):
    return server[0]


@pytest.fixture
def hub(client):
    return lambda path: InferenceClient(f"{client.base_url}/{path}", provider="hf-inference")


@pytest.fixture
def photo(picture, encode):
    """Of 100 rows and 200 columns, once it is turned upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by 90 degrees
    return encode(picture(200, 100), "JPEG", exif=exif)


def native(client, data, query=""):
    answer = client.post(f"/v1/detect?model=finder&{query}", content=data).json()
    return answer["results"][0]["detections"]


@pytest.mark.parametrize("path", ["models/finder", "models/boxer", ""])
def test_objects(client, hub, photo, path):
    found = hub(path).object_detection(photo)
    wanted = native(client, photo)
    assert [(one.label, one.score) for one in found] == [
        (one["label"], pytest.approx(one["score"])) for one in wanted
    ]
    cat = found[0].box
    assert (cat.xmin, cat.ymin, cat.xmax, cat.ymax) == (50, 50, 150, 100)
    more = hub(path).object_detection(photo, threshold=0.1)
    assert [one.label for one in more] == ["cat", "apple", "boat"]
    assert more[2].box.xmin == 0
    assert hub(path).object_detection(photo, threshold=0.95) == []


def test_only_what_is_shown_is_computed(server, hub, photo):
    _, (finder, _) = server
    hub("models/finder").object_detection(photo)
    assert not finder.wanted[-1].masks
    hub("models/finder").image_segmentation(photo, subtask="instance")
    assert finder.wanted[-1].masks


def test_each_object_has_a_mask_as_a_subtask_of_segmentation(client, hub, photo):
    found = hub("models/finder").image_segmentation(photo, subtask="instance", threshold=0.1)
    wanted = native(client, photo, "masks=rle&score_threshold=0.1")
    assert [(one.label, one.score) for one in found] == [
        (one["label"], pytest.approx(one["score"])) for one in wanted
    ]
    for one, known in zip(found, wanted, strict=True):
        assert (one.mask.mode, one.mask.size) == ("L", (200, 100))
        assert (np.asarray(one.mask) == 255 * coco_mask.decode(known["mask"])).all()


def test_parameters_of_our_own_api(client, photo):
    coded = base64.b64encode(photo).decode()
    parameters = {"threshold": 0.1, "max_detections": 2, "resolution": 64, "fit": "square"}
    answer = client.post("/models/finder", json={"inputs": coded, "parameters": parameters})
    assert [one["label"] for one in answer.json()] == ["cat", "apple"]
    assert all(type(edge) is int for one in answer.json() for edge in one["box"].values())


def test_the_tag(hub):
    assert hub("models/finder").get_endpoint_info()["model_pipeline_tag"] == "object-detection"


def test_javascript(client, photo, tmp_path):
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo)
    answers = json.loads(run_javascript(JAVASCRIPT, str(client.base_url), str(file)))
    assert [one["label"] for one in answers["boxes"]] == ["cat", "apple"]
    assert answers["boxes"][1]["box"] == {"xmin": 20, "ymin": 10, "xmax": 80, "ymax": 40}
    for one in answers["masks"]:
        mask = Image.open(io.BytesIO(base64.b64decode(one["mask"])))
        assert (mask.mode, mask.size) == ("L", (200, 100))
        assert one["score"] > 0.5
    assert "has no mask head" in answers["none"]["error"]


def test_masks_of_too_many_pixels(hub, photo, monkeypatch):
    monkeypatch.setattr(detection, "MOST_PIXELS", 100 * 200)
    found = hub("models/finder").image_segmentation(photo, subtask="instance", threshold=0.7)
    assert len(found) == 1
    with pytest.raises(Exception, match="2 objects in 100x200 pixels would have 40000 pixels"):
        hub("models/finder").image_segmentation(photo, subtask="instance")


@pytest.mark.parametrize(
    ("model", "parameters", "words"),
    [
        ("finder", {"subtask": "panoptic"}, "subtask must be 'instance', or left out for their"),
        ("finder", {"subtask": "semantic"}, "not 'semantic'"),
        ("boxer", {"subtask": "instance"}, "it has no mask head, so subtask must be left out"),
        ("finder", {"threshold": 2}, "threshold: Input should be less than or equal to 1, not 2"),
        ("finder", {"threshold": "0.5"}, "threshold: Input should be a valid number, not '0.5'"),
        ("finder", {"score_threshold": 0.5}, "there is no parameter 'score_threshold'; a model"),
        ("finder", {"masks": "rle"}, "there is no parameter 'masks'"),
        ("finder", {"mask_threshold": 0.5}, "there is no parameter 'mask_threshold'"),
        ("finder", {"top_k": 3}, "a model that can detect has threshold, subtask, "),
        ("finder", {"max_detections": 301}, "max_detections"),
        ("finder", {"max_detections": 1.5}, "must be a whole number from 1 to 300"),
        ("finder", {"resolution": 4000}, "a whole number of pixels from 1 to 320, not '4000'"),
        ("finder", {"resolution": 100, "fit": "square"}, "must be a multiple of 32, not 100"),
        ("finder", {"fit": "crop"}, "fit: Input should be 'contain' or 'square', not 'crop'"),
    ],
)  # fmt: skip
def test_bad_input(client, photo, model, parameters, words):
    coded = base64.b64encode(photo).decode()
    answer = client.post(f"/models/{model}", json={"inputs": coded, "parameters": parameters})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert words in answer.json()["error"]


def test_errors_reach_the_client(hub, photo):
    with pytest.raises(BadRequestError, match="it has no mask head"):
        hub("models/boxer").image_segmentation(photo, subtask="instance")
