"""The Hugging Face task API: its own clients, and what it refuses."""

import base64
import io
import json

import httpx2
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from PIL import Image

from tests.npm import run_javascript
from tests.paths import ROOT
from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig

DOG = (ROOT / "model" / "demo" / "samples" / "dog.jpg").read_bytes()
JAVASCRIPT = """
import { readFileSync } from "node:fs";
import { InferenceClient } from "@huggingface/inference";

const [url, file] = process.argv.slice(-2);
const picture = new Blob([readFileSync(file)]);
const client = (model) => new InferenceClient("", { endpointUrl: `${url}/models/${model}` });
const attempt = (asked) => asked.catch((error) => ({ error: JSON.stringify(error.httpResponse) }));
console.log(JSON.stringify({
  bare: await client("demo").imageClassification({ data: picture }),
  masks: await client("demo-seg").imageSegmentation({ inputs: picture }),
  certain: await client("demo-seg").imageSegmentation({
    inputs: picture, parameters: { subtask: "semantic", threshold: 0.5 },
  }),
  panoptic: await attempt(client("demo-seg").imageSegmentation({
    inputs: picture, parameters: { subtask: "panoptic" },
  })),
}));
"""


@pytest.fixture(scope="module")
def client():
    specs = [resolve("demo"), resolve("demo-seg")]
    with live(create_app(ServerConfig(max_resolution=320), specs)) as client:
        yield client


@pytest.fixture
def hub(client):
    return lambda path="": InferenceClient(f"{client.base_url}/{path}", provider="hf-inference")


def native(client: httpx2.Client, query: str = "") -> dict[str, float]:
    """The scores that our own API gives, likeliest first."""
    answer = client.post(f"/v1/classify{query}", content=DOG).json()
    return {one["label"]: one["score"] for one in answer["results"][0]["predictions"]}


def scores(answer):
    return {one.label: one.score for one in answer}


@pytest.mark.parametrize("path", ["models/demo", "models/demo/", ""])
def test_classification_by_bytes_and_by_parameters(client, hub, path):
    hub = hub(path)
    assert scores(hub.image_classification(DOG)) == pytest.approx(native(client))
    few = scores(hub.image_classification(DOG, top_k=2))
    assert few == pytest.approx(native(client, "?top_k=2"))
    every = native(client, "?top_k=20")
    for function in ("softmax", "sigmoid", "none"):
        got = scores(hub.image_classification(DOG, top_k=1000, function_to_apply=function))
        assert list(got) == list(every)  # never more than there are
        logits = np.array(list(got.values()))
        if function == "sigmoid":
            logits = np.log(logits / (1 - logits))
        if function != "softmax":
            logits = np.exp(logits) / np.exp(logits).sum()
        assert logits == pytest.approx(list(every.values()), rel=1e-4)


def masks(answer):
    for one in answer:
        assert one.mask.mode == "L"
    return {one.label: np.asarray(one.mask) for one in answer}


def test_segmentation_has_a_mask_for_each_class(client, hub, encode, picture):
    image = picture(60, 100, seed=3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by 90 degrees
    data = encode(image, "JPEG", quality=95, exif=exif)
    found = masks(hub("models/demo-seg").image_segmentation(data))
    (result,) = client.post("/v1/segment", content=data).json()["results"]
    whole = np.asarray(Image.open(io.BytesIO(base64.b64decode(result["mask"]))))
    assert whole.shape == (100, 60)
    assert list(found) == [one["label"] for one in result["classes"]]
    for one in result["classes"]:
        assert (found[one["label"]] == np.where(whole == one["index"], 255, 0)).all()


def test_thresholds(hub):
    scene = (ROOT / "model" / "demo" / "segmentation" / "samples" / "scene-1.jpg").read_bytes()
    hub = hub("models/demo-seg")

    def segment(**thresholds):
        return hub.image_segmentation(scene, **thresholds)

    plain, every = masks(segment()), segment(threshold=0.0)
    assert set(masks(every)) == set(plain)
    for label, mask in masks(every).items():
        assert (mask == plain[label]).mean() > 0.999
    known = scores(every)
    bound = (min(known.values()) + max(known.values())) / 2
    kept = scores(segment(threshold=bound))
    assert kept == pytest.approx({label: s for label, s in known.items() if s >= bound})
    assert 0 < len(kept) < len(known)

    certain = segment(mask_threshold=bound)
    for label, mask in masks(certain).items():
        assert ((mask == 255) <= (plain[label] == 255)).mean() > 0.999
        assert np.count_nonzero(mask) < np.count_nonzero(plain[label])
    assert min(scores(certain).values()) >= bound

    # From one half on, what is covered is won as well; below, other classes win a part of it.
    assert set(scores(segment(overlap_mask_area_threshold=0.9))) == set(known)
    margins = scores(segment(overlap_mask_area_threshold=0.5, mask_threshold=0.05))
    assert 0 < len(margins) < len(known)


def test_health_and_info(client, hub):
    assert hub().health_check()
    assert hub("models/demo-seg").health_check()
    assert not hub("models/nobody").health_check()
    assert hub().get_endpoint_info()["model_id"] == "demo"
    info = hub("models/demo-seg").get_endpoint_info()
    assert (info["model_id"], info["model_pipeline_tag"]) == ("demo-seg", "image-segmentation")


def test_errors_reach_the_client(hub):
    with pytest.raises(BadRequestError, match="subtask must be 'semantic', not 'panoptic'"):
        hub("models/demo-seg").image_segmentation(DOG, subtask="panoptic")
    with pytest.raises(BadRequestError, match=r"top_k.*not 0"):
        hub("models/demo").image_classification(DOG, top_k=0)
    with pytest.raises(HfHubHTTPError, match="choose one of demo, demo-seg"):
        hub("models/nobody").image_classification(DOG)


def test_javascript(client, tmp_path):
    file = tmp_path / "dog.jpg"
    file.write_bytes(DOG)
    answers = json.loads(run_javascript(JAVASCRIPT, str(client.base_url), str(file)))
    bare = {one["label"]: one["score"] for one in answers["bare"]}
    assert bare == pytest.approx(native(client))
    for one in answers["masks"] + answers["certain"]:
        mask = Image.open(io.BytesIO(base64.b64decode(one["mask"])))
        assert (mask.mode, mask.size) == ("L", Image.open(io.BytesIO(DOG)).size)
    assert all("score" not in one for one in answers["masks"])
    assert answers["certain"]
    assert all(one["score"] >= 0.5 for one in answers["certain"])
    assert "subtask must be 'semantic'" in answers["panoptic"]["error"]


CODED = base64.b64encode(DOG).decode()


def body(**parameters):
    return json.dumps({"inputs": CODED, "parameters": parameters}).encode()


@pytest.mark.parametrize(
    "inputs",
    [
        CODED,
        f"data:image/jpeg;base64,{CODED}",
        "\n".join(CODED[i : i + 76] for i in range(0, len(CODED), 76)),
    ],
)
def test_ways_to_write_base64(client, inputs):
    answer = client.post("/models/demo", json={"inputs": inputs, "options": {"use_cache": False}})
    assert answer.status_code == 200, answer.text
    assert answer.json()[0]["label"] == next(iter(native(client)))


def test_parameters_of_our_own_api(client):
    own = body(resolution=64, fit="crop", top_k=3)
    got = client.post("/models/demo", content=own).json()
    wanted = native(client, "?resolution=64&fit=crop&top_k=3")
    assert {one["label"]: one["score"] for one in got} == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "the body is empty"),
        (b"{", 400, "no JSON"),
        (b"{" * 100_000, 400, "no JSON"),
        (b"{}", 400, "inputs: Field required"),
        (b'{"inputs": 3}', 400, "inputs: Input should be a valid string, not 3"),
        (b'{"inputs": "", "made_up": 1}', 400, "made_up: there is no such name"),
        (b'{"inputs": "http://127.0.0.1/dog.jpg"}', 400, "neither a URL nor a path"),
        (b'{"inputs": "file:///etc/passwd"}', 400, "neither a URL nor a path"),
        (b'{"inputs": "/etc/passwd"}', 400, "neither a URL nor a path"),
        (b'{"inputs": "data:text/plain,hello"}', 400, "must be an image in base64"),
        (b'{"inputs": "aGVsbG8"}', 400, "must be an image in base64"),
        ('{"inputs": "déjà vu"}'.encode(), 400, "must be an image in base64"),
        (b'{"inputs": ""}', 400, "the image has no bytes"),
        (b'{"inputs": "aGVsbG8="}', 415, "not an image in one of the formats"),
        (b"hello", 415, "not an image in one of the formats"),
        (DOG[:-500], 400, "truncated"),
        (body(topk=3), 400, "there is no parameter 'topk'; a model that can classify has top_k"),
        (body(top_k="3"), 400, "top_k: Input should be a valid integer, not '3'"),
        (body(top_k=-1), 400, "top_k: Input should be greater than or equal to 1, not -1"),
        (body(function_to_apply="relu"), 400, "function_to_apply: Input should be 'softmax'"),
        (body(resolution=4000), 400, "a whole number of pixels from 1 to 320, not '4000'"),
        (body(resolution=[64]), 400, "resolution must be text or a number"),
        (body(fit="stretch"), 400, "fit: Input should be 'crop' or 'contain', not 'stretch'"),
    ],
)  # fmt: skip
def test_bad_input(client, content, status, words):
    answer = client.post("/models/demo", content=content)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/models/nobody", 404),
        ("POST", "/models/a/b", 404),
        ("GET", "/models/demo", 405),
        ("POST", "/info", 405),
        ("GET", "/models/nobody/info", 404),
    ],
)
def test_other_errors_have_the_same_form(client, method, path, status):
    answer = client.request(method, path)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("wrapped", [False, True])
def test_limits_hold_for_json_as_well(serve, encode, picture, wrapped):
    data = encode(picture(64, 64))

    def post(client):
        content = json.dumps({"inputs": base64.b64encode(data).decode()}) if wrapped else data
        return client.post("/models/tiny", content=content)

    few_bytes, _ = serve(max_body_bytes=100)
    answer = post(few_bytes)
    assert (answer.status_code, list(answer.json())) == (413, ["error"])
    assert "the limit is 100" in answer.json()["error"]
    few_pixels, _ = serve(max_pixels=4095)
    answer = post(few_pixels)
    assert (answer.status_code, "4096 pixels" in answer.json()["error"]) == (413, True)


def test_keys(serve, encode, picture):
    client, _ = serve(api_key="a-secret-of-some-length")
    refused = client.post("/models/tiny", content=encode(picture(64, 64)))
    assert (refused.status_code, list(refused.json())) == (401, ["error"])
    assert client.get("/health").status_code == 200
    assert client.get("/info").status_code == 401
    hub = InferenceClient(f"{client.base_url}/models/tiny", token="a-secret-of-some-length")  # noqa: S106
    assert len(hub.image_classification(encode(picture(64, 64)))) == 5
