"""The published interface changes on purpose, or not at all."""

import json
from pathlib import Path

import pytest

from server.app import create_app
from server.config import ServerConfig

COMMITTED = Path(__file__).with_name("openapi.json")
REGENERATE = "python -m server.openapi > tests/server/openapi.json"


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
    assert set(errors) == {"400", "404", "408", "413", "415", "422", "429", "500", "503", "504"}
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
