"""The published interface changes on purpose, or not at all."""

import dataclasses
import json
import re
from collections import Counter

import pytest
from jsonschema import Draft202012Validator

from tests.paths import ROOT
from tests.server.detector import SPEC, loadable
from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.errors import PROBLEM_JSON
from vimserve.server.http.openapi import ALWAYS_OPEN
from vimserve.server.http.plain_errors import has_plain_errors

COMMITTED = ROOT / "tests" / "server" / "openapi.json"
REGENERATE = "python -m vimserve.server.commands.openapi > tests/server/openapi.json"


@pytest.fixture(scope="module")
def client():
    """A server that has models for each task."""
    demo = resolve("demo")
    specs = [demo, dataclasses.replace(demo, name="twin"), resolve("demo-seg"), SPEC]
    with loadable(SPEC), live(create_app(ServerConfig(), specs)) as client:
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


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_has_a_name_a_tag_and_words(document):
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len({*names}) == len(names)
    assert all(re.fullmatch("[a-z0-9_]+", name) for name in names)
    for label, operation in operations(document):
        assert operation["description"], label
        assert operation["tags"], label
        assert {*operation["tags"]} <= tags, label


def test_every_parameter_has_words_and_an_example(document):
    for label, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (label, parameter["name"])
            examples = parameter["schema"]["examples"]
            assert examples, (label, parameter["name"])
            for example in examples:
                check(document, parameter["schema"], example, (label, parameter["name"]))


def test_every_body_has_examples_that_are_what_its_schema_says(document):
    """Files in a format that is not text have none."""
    seen = Counter[str]()
    for label, operation in operations(document):
        bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
        for name, body in bodies.items():
            assert body.get("content") or name in ("request", "204"), (label, name)
            for media_type, media in body.get("content", {}).items():
                place = (label, name, media_type)
                if "binary" in json.dumps(media["schema"]):
                    assert media_type not in ("application/json", "text/plain"), place
                    continue
                found = examples_of(document, media)
                assert found, place
                for example in found:
                    check(document, media["schema"], example, place)
                    if media_type == "application/problem+json":
                        assert example["status"] in (int(name), 422), place
                seen[name] += len(found)
    assert {"request", "200", "400", "422", "503"} <= {*seen}


def examples_of(document, media):
    """Those of a body, or of its schema."""
    if "examples" in media:
        return [one["value"] for one in media["examples"].values()]
    kinds = media["schema"].get("anyOf", [media["schema"]])
    found = [media.get("example", example_of(document, kind)) for kind in kinds]
    return [] if None in found else found


def example_of(document, schema):
    """The example of a schema, or one of those of its parts."""
    if "example" in schema or schema.get("examples"):
        return schema.get("example", schema.get("examples", [None])[0])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return example_of(document, document["components"]["schemas"][name])
    if schema.get("type") == "array":
        item = example_of(document, schema["items"])
        return None if item is None else [item]
    parts = {
        name: example_of(document, part) for name, part in schema.get("properties", {}).items()
    }
    if all(parts.get(name) is not None for name in schema.get("required", [])):
        return {name: part for name, part in parts.items() if part is not None} or None
    return None


def check(document, schema, example, place):
    whole = {**schema, "components": document["components"]}
    problems = [error.message for error in Draft202012Validator(whole).iter_errors(example)]
    assert not problems, (place, problems)


def test_errors_have_the_form_of_their_protocol(document):
    for label, operation in operations(document):
        plain = has_plain_errors(label.partition(" ")[2])
        errors = {status: one for status, one in operation["responses"].items() if status >= "400"}
        assert "500" in errors, label
        assert "401" in errors or label.partition(" ")[2] in ALWAYS_OPEN, label
        assert "422" not in errors or not plain, label
        for status, error in errors.items():
            ((media_type, media),) = error["content"].items()
            schema = media["schema"].get("$ref", "").rpartition("/")[2]
            if schema in ("Health", "Readiness", "Live", "Ready"):
                assert status == "503", label
                continue
            expected = ("application/json", "PlainError") if plain else (PROBLEM_JSON, "Problem")
            assert (media_type, schema) == expected, (label, status)
            assert "Retry-After" in error["headers"] or status not in ("429",), label


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
