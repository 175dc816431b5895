"""The published interface changes on purpose, or not at all."""

import dataclasses
import json

import pytest

from tests.paths import ROOT
from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.http.plain_errors import has_plain_errors

COMMITTED = ROOT / "tests" / "server" / "openapi.json"
REGENERATE = "python -m vimserve.server.commands.openapi > tests/server/openapi.json"


@pytest.fixture(scope="module")
def client():
    """A server that has models for each task."""
    demo = resolve("demo")
    specs = [demo, dataclasses.replace(demo, name="twin"), resolve("demo-seg")]
    with live(create_app(ServerConfig(), specs)) as client:
        yield client


@pytest.fixture
def document(spec):
    return create_app(ServerConfig(), [spec]).openapi()


def test_the_document_is_the_committed_one(document):
    assert document == json.loads(COMMITTED.read_text()), f"if it is meant: {REGENERATE}"


def test_both_kinds_of_body_are_described(document):
    content = document["paths"]["/v1/classify"]["post"]["requestBody"]["content"]
    assert set(content) == {"image/*", "application/octet-stream", "multipart/form-data"}


def test_errors_are_problems(document):
    responses = document["paths"]["/v1/classify"]["post"]["responses"]
    errors = {status: response for status, response in responses.items() if status >= "400"}
    assert set(errors) == {
        "400",
        "401",
        "404",
        "408",
        "409",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
        "504",
    }
    for response in errors.values():
        assert list(response["content"]) == ["application/problem+json"]


def test_every_reference_leads_somewhere(document):
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for name in text.split('"#/components/schemas/')[1:]:
        assert name.partition('"')[0] in schemas
    assert "ValidationError" not in text


def test_bodies_have_examples(document):
    for name in ("ClassifyResponse", "Problem", "ModelList"):
        assert "example" in document["components"]["schemas"][name]


def test_every_wrong_parameter_is_told_what_is_accepted(document, client):
    """Whatever an operation takes, junk in it is a problem with the limit and the value."""
    tried = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            known = [p for p in operation.get("parameters", []) if p["in"] == "query"]
            if known:
                problem = client.request(method, f"{path}?made_up=1").json()
                assert problem["status"] == 422
                assert problem["limit"] == [parameter["name"] for parameter in known]
                assert (problem["parameter"], problem["value"]) == ("made_up", "1")
            for parameter in operation.get("parameters", []):
                place, name = parameter["in"], parameter["name"]
                if place == "path":
                    continue
                needed = {p["name"]: p["schema"]["examples"][0] for p in known if p["required"]}
                junk = (
                    {"params": {**needed, name: "junk"}}
                    if place == "query"
                    else {"params": needed, "headers": {name: "junk"}}
                )
                if has_plain_errors(path):
                    own = path.format(model="demo", version="1")
                    answer = client.request(method, own, content=b"{}", **junk)
                    assert answer.status_code == (403 if "/repository/models/" in own else 400)
                    assert list(answer.json()) == ["error"]
                    assert answer.status_code == 403 or name in answer.json()["error"]
                    continue
                problem = client.request(method, path, **junk).json()
                assert problem["status"] in (404, 422)
                assert problem["parameter"] == name
                assert problem["value"] == "junk"
                assert problem["limit"]
                tried.add(name)
    assert tried >= {"model", "top_k", "resolution", "fit", "probe", "X-Request-Priority"}


def test_the_headers_are_described(document):
    parameters = document["paths"]["/v1/classify"]["post"]["parameters"]
    headers = {p["name"]: p for p in parameters if p["in"] == "header"}
    assert set(headers) == {"X-Request-Priority", "X-Request-Timeout-Ms"}
    for header in headers.values():
        assert header["description"]
        assert header["schema"]["examples"]
    priority = headers["X-Request-Priority"]["schema"]
    assert (priority["minimum"], priority["maximum"], priority["default"]) == (1, 9, 5)
    timeout = json.dumps(headers["X-Request-Timeout-Ms"]["schema"])
    assert '"maximum": 3600000' in timeout
    assert '"minimum": 1' in timeout
