"""What a router knows of a request: its model, and its tokens by the head of its image."""

import pytest
from starlette.datastructures import QueryParams

from tests.server.conftest import _spec
from vimserve.model.catalog import resolve
from vimserve.server.cluster.demand import Demands, size_in
from vimserve.server.config import ServerConfig

LIMIT = 10**6


@pytest.fixture(scope="module")
def demos():
    return Demands([resolve(name) for name in ("demo", "demo-seg", "demo-det")], ServerConfig())


@pytest.mark.parametrize(
    ("path", "query", "model"),
    [
        ("/v1/classify", "", "demo"),
        ("/v1/segment", "", "demo-seg"),
        ("/v1/detect", "model=demo", "demo"),
        ("/v1/classify", "model=unknown", "unknown"),
        ("/v1/jobs", "task=detect", "demo-det"),
        ("/v1/jobs", "", "demo"),
        ("/v1/jobs", "task=nothing", "demo"),
        ("/v1/compare", "models=demo-seg,demo", "demo-seg"),
        ("/v1/estimate", "height=1&width=1", "demo"),
        ("/v2/models/demo-seg/infer", "", "demo-seg"),
        ("/v2/models/demo-seg/versions/1/infer", "", "demo-seg"),
        ("/v2/models/demo-det", "", "demo-det"),
        ("/v2/repository/models/demo-det/load", "", "demo-det"),
        ("/models/demo-seg", "", "demo-seg"),
        ("/", "", "demo"),
        ("/v2/models/stats", "", None),
        ("/v1/models", "", None),
        ("/docs", "", None),
    ],
)
def test_the_model(demos, path, query, model):
    assert demos.model(path, QueryParams(query)) == model


def test_tokens_are_those_of_the_answer(fleet, picture, encode):
    fleet.add("a")
    client = fleet.client()
    demands = Demands([_spec()], ServerConfig())
    for size, query in (((48, 64), ""), ((100, 30), "resolution=96&fit=contain&top_k=1")):
        data = encode(picture(*size), "JPEG")
        answer = client.post(f"/v1/classify?{query}", content=data).json()
        found = size_in(data, "", LIMIT)
        assert found == size
        tokens = demands.tokens("tiny", QueryParams(query), found, len(data))
        assert tokens == answer["results"][0]["input"]["tokens"]


def test_windows_count(demos):
    query = QueryParams("mode=slide&window=128&resolution=native")
    whole = demos.tokens("demo-seg", QueryParams(""), (256, 256), 0)
    assert demos.tokens("demo-seg", query, (256, 256), 0) > whole


def test_what_is_not_known_is_guessed_by_its_bytes(demos):
    few, many = (demos.tokens("demo-seg", {}, None, size) for size in (1_000, 100_000))
    assert 0 < few < many
    assert many <= demos.tokens("demo-seg", {}, (1248, 1248), 0)
    assert demos.tokens("demo-seg", {}, None, 10**9) > 0


@pytest.mark.parametrize(
    ("model", "query", "size"),
    [
        ("unknown", "", (10, 10)),
        ("demo-seg", "mode=none", (10, 10)),
        ("demo-seg", "", (10**6, 10**6)),
    ],
)
def test_what_will_be_refused_counts_nothing(demos, model, query, size):
    assert demos.tokens(model, QueryParams(query), size, 0) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF"])
def test_the_size_is_in_the_first_bytes(picture, encode, kind):
    data = encode(picture(300, 500), kind)
    assert size_in(data[: len(data) // 2], "image/any", LIMIT) == (300, 500)
    assert size_in(data[:4], "image/any", LIMIT) is None


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_other_formats_are_not_looked_into(picture, encode, kind):
    assert size_in(encode(picture(30, 50), kind), "image/any", LIMIT) is None


def test_the_first_image_of_a_form_counts(picture, encode):
    head = b"--x\r\nContent-Disposition: form-data; name="
    form = head + b'"note"\r\n\r\ntext\r\n' + head + b'"file"\r\n\r\n' + encode(picture(30, 50))
    assert size_in(form, "multipart/form-data; boundary=x", LIMIT) == (30, 50)
    assert size_in(form, "image/png", LIMIT) is None


def test_an_image_that_is_too_large_has_no_size(picture, encode):
    assert size_in(encode(picture(30, 50)), "", 100) is None
