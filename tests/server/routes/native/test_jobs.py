"""/v1/jobs beside the routes of the tasks: the same answers and the same refusals."""

import re
from typing import get_args

import numpy as np
import pytest

from tests.patience import wait_until
from tests.server.images.tiff.writer import tiff
from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.routes.native import RENDERINGS
from vimserve.server.routes.native.jobs import JobQuery


@pytest.fixture(scope="module")
def client():
    config = ServerConfig(max_resolution=320, max_body_bytes=200_000, max_images=2)
    with live(create_app(config, [resolve("demo"), resolve("demo-seg")])) as client:
        yield client


def finished(client, posted):
    """The state of a job once it has ended."""
    assert posted.status_code == 202, posted.text
    url = posted.headers["Location"]
    assert url == f"/v1/jobs/{posted.json()['id']}"
    wait_until(lambda: client.get(url).json()["status"] not in ("queued", "running"))
    return client.get(url).json()


FORMATS = {
    "classify": ["", "top_k=2&resolution=64&fit=contain"],
    "segment": [
        "",
        "mode=slide&window=128",
        *(f"format={form}" for form in ("json", "png", "overlay", "coco", "geojson")),
    ],
}


@pytest.mark.parametrize(
    ("task", "query"), [(task, query) for task, queries in FORMATS.items() for query in queries]
)
@pytest.mark.parametrize("form", [False, True], ids=["image", "form"])
def test_a_job_s_answer_is_that_of_the_task_s_route(client, picture, encode, task, query, form):
    data = encode(picture(100, 230))
    body = {"files": {"file": ("a.png", data)}} if form else {"content": data}
    direct = client.post(f"/v1/{task}?{query}", **body)
    assert direct.status_code == 200
    state = finished(client, client.post(f"/v1/jobs?task={task}&{query}", **body))
    assert (state["status"], state["task"], state["error"]) == ("done", task, None)
    windows = 3 if "slide" in query else 1
    assert state["progress"] == {"done": windows, "total": windows}
    fetched = client.get(state["result"])
    assert fetched.status_code == 200
    assert {*fetched.headers} == {*direct.headers}
    assert fetched.headers["Content-Type"] == direct.headers["Content-Type"]
    stages = re.sub(r"[\d.]+", "", direct.headers["Server-Timing"])
    assert re.sub(r"[\d.]+", "", fetched.headers["Server-Timing"]) == stages
    if "timing_ms" in direct.text:
        answers = [answer.json() for answer in (fetched, direct)]
        assert [list(answer) for answer in answers] == 2 * [
            ["model", "results", "timing_ms", "batch"]
        ]
        assert answers[0]["results"] == answers[1]["results"]
    else:
        assert fetched.content == direct.content
    assert client.get(state["result"]).content == fetched.content


def test_the_range_of_samples_is_told(client):
    data = tiff(np.arange(64 * 64).reshape(64, 64, 1), 16)
    state = finished(client, client.post("/v1/jobs?model=demo-seg&format=png", content=data))
    direct = client.post("/v1/segment?format=png", content=data)
    fetched = client.get(state["result"])
    assert fetched.headers["X-Sample-Range"] == direct.headers["X-Sample-Range"] == "-32768,32767"


def test_several_images_and_a_task_from_the_model(client, picture, encode):
    files = [("file", (f"{n}.png", encode(picture(n, 64)))) for n in (16, 50)]
    for query, task in (("", "classify"), ("model=demo-seg", "segment")):
        state = finished(client, client.post(f"/v1/jobs?{query}", files=files))
        assert (state["task"], state["progress"]) == (task, {"done": 2, "total": 2})
        answer = client.get(state["result"]).json()
        assert [result["file"] for result in answer["results"]] == ["16.png", "50.png"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("task=classify&top_k=100000", 422),
        ("task=classify&resolution=321", 422),
        ("task=classify&range=x", 422),
        ("task=segment&fit=crop", 422),
        ("task=segment&window=512", 422),
        ("task=segment&mode=slide&window=100", 422),
        ("task=segment&model=demo", 409),
        ("task=classify&model=x", 404),
        ("task=classify&priority=9", 422),
        ("task=classify&task=segment&mode=x", 422),
    ],
)
def test_a_query_is_refused_as_by_the_task_s_route(client, picture, encode, query, status):
    data = encode(picture(64, 64))
    task, _, own = query.removeprefix("task=classify&task=").removeprefix("task=").partition("&")
    refusals = [
        client.post(url, content=data).json() for url in (f"/v1/jobs?{query}", f"/v1/{task}?{own}")
    ]
    for refusal in refusals:
        del refusal["request_id"]
        if "priority" in own:
            assert {"range", "top_k", "model"} < {*refusal.pop("limit")}
    assert refusals[0]["status"] == status
    assert refusals[0] == refusals[1]


def test_a_parameter_of_another_task(client, picture, encode):
    problem = client.post("/v1/jobs?task=classify&format=png", content=b"").json()
    assert (problem["status"], problem["parameter"], problem["value"]) == (422, "format", "png")
    assert "top_k" in problem["limit"]
    assert "format" not in problem["limit"]
    problem = client.post("/v1/jobs?task=paint", content=b"").json()
    assert (problem["status"], problem["parameter"], problem["value"]) == (422, "task", "paint")


def test_images_are_refused_as_by_the_task_s_route(client, picture, encode):
    good = encode(picture(64, 64))
    one = ("file", ("a.png", good))
    bodies = {
        "empty": ({"content": b""}, 422),
        "no image": ({"content": b"no image"}, 415),
        "too many bytes": ({"content": bytes(200_001)}, 413),
        "too many pixels": ({"content": encode(picture(1, 1).resize((60_000, 1_000)))}, 413),
        "too many images": ({"files": 3 * [one]}, 413),
        "no file": ({"files": {"image": ("a.png", good)}}, 422),
        "no form": ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        "no gzip": ({"content": good, "headers": {"Content-Encoding": "gzip"}}, 400),
        "wrong header": ({"content": good, "headers": {"X-Request-Priority": "x"}}, 422),
        "one bad": ({"files": [one, ("file", ("bad.png", b"x"))]}, 415),
        "two in a file": ({"files": [one, one]}, 422),
    }
    for name, (body, status) in bodies.items():
        form = "png" if name == "two in a file" else "json"
        refusals = [
            client.post(f"{url}format={form}", **body)
            for url in ("/v1/jobs?task=segment&", "/v1/segment?")
        ]
        assert [answer.status_code for answer in refusals] == [status, status], name
        problems = [answer.json() for answer in refusals]
        for problem in problems:
            del problem["request_id"]
        assert problems[0] == problems[1]
        assert "Location" not in refusals[0].headers


def test_what_only_decoding_shows_fails_the_job(client, picture, encode):
    data = encode(picture(64, 64))[:-500]
    headers = {"X-Request-Id": "mine"}
    direct = client.post("/v1/segment?format=png", content=data, headers=headers)
    assert direct.status_code == 422
    posted = client.post("/v1/jobs?task=segment&format=png", content=data, headers=headers)
    state = finished(client, posted)
    assert (state["status"], state["result"]) == ("failed", None)
    assert state["error"] == direct.json()
    fetched = client.get(f"/v1/jobs/{state['id']}/result")
    assert (fetched.status_code, fetched.content) == (422, direct.content)
    assert fetched.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/jobs"),
        ("DELETE", "/v1/jobs"),
        ("PUT", "/v1/jobs/1"),
        ("POST", "/v1/jobs/1"),
        ("DELETE", "/v1/jobs/1/result"),
    ],
)
def test_other_methods(client, method, path):
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["", "/result"])
def test_no_such_job(client, path):
    for method in ("GET", "DELETE") if not path else ("GET",):
        answer = client.request(method, f"/v1/jobs/made-up{path}")
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:vimserve:problem:unknown-job"


def test_a_job_may_be_asked_what_its_tasks_may_be_asked():
    known = {name for one in RENDERINGS.values() for name in one.query.model_fields}
    assert {*JobQuery.model_fields} == known | {"task"}
    assert {*RENDERINGS} == {*get_args(get_args(JobQuery.model_fields["task"].annotation)[0])}


def test_head(client, picture, encode):
    state = finished(client, client.post("/v1/jobs", content=encode(picture(64, 64))))
    for url in (f"/v1/jobs/{state['id']}", state["result"]):
        assert client.head(url).status_code == 200


def test_the_example_is_what_the_schema_says(client):
    schema = client.get("/openapi.json").json()["components"]["schemas"]["JobState"]
    assert {*schema["required"]} <= {*schema["example"]} <= {*schema["properties"]}
