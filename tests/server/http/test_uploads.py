"""Bodies that are coded, or whose cost is in their number of pieces, on a real server."""

import gzip
import json
import zlib

import pytest

from tests.server import raw
from vimserve.server.http.uploads import FORM_PIECE_BYTES, MAX_CHUNKS

LIMIT = 200_000
FORM = {"Content-Type": "multipart/form-data; boundary=edge"}
HEAD = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


@pytest.fixture(scope="module")
def client(serve_tiny):
    with serve_tiny(max_body_bytes=LIMIT) as client:
        yield client


@pytest.fixture
def data(picture, encode):
    return encode(picture(64, 64))


def predictions(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]["predictions"]


@pytest.mark.parametrize(
    ("coding", "code"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
def test_a_coded_image_is_answered_like_the_image(client, data, coding, code):
    headers = {"Content-Encoding": coding}
    answer = client.post("/v1/classify", content=code(data), headers=headers)
    assert predictions(answer) == predictions(client.post("/v1/classify", content=data))


def test_a_coded_form(client, data):
    body = b"preamble\r\n" + HEAD + data + b"\r\n--edge--\r\n"
    headers = FORM | {"Content-Encoding": "gzip"}
    answer = client.post("/v1/classify", content=gzip.compress(body), headers=headers)
    assert predictions(answer) == predictions(client.post("/v1/classify", content=data))
    assert answer.json()["results"][0]["file"] == "a"


def test_a_large_file_in_a_form(client, data):
    body = HEAD + data + bytes(5 * FORM_PIECE_BYTES) + b"\r\n--edge--\r\n"
    answer = client.post("/v1/classify", content=body, headers=FORM)
    assert predictions(answer) == predictions(client.post("/v1/classify", content=data))


@pytest.mark.parametrize("code", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("headers", [{}, FORM], ids=["image", "form"])
def test_a_bomb_is_refused_at_the_limit(client, code, headers):
    coding = "gzip" if code is gzip.compress else "deflate"
    bomb = code(HEAD + bytes(50_000_000))
    assert len(bomb) < LIMIT
    headers = headers | {"Content-Encoding": coding}
    answer = client.post("/v1/classify", content=bomb, headers=headers)
    assert answer.status_code == 413
    problem = answer.json()
    assert problem["type"] == "urn:vimserve:problem:body-too-large"
    assert problem["limit"] == LIMIT
    assert LIMIT < problem["value"] < LIMIT + 70_000


def test_another_coding_is_named(client, data):
    answer = client.post("/v1/classify", content=data, headers={"Content-Encoding": "br"})
    assert answer.status_code == 415
    assert answer.headers["Accept-Encoding"] == "gzip, deflate"
    problem = answer.json()
    assert (problem["parameter"], problem["value"]) == ("Content-Encoding", "br")
    assert problem["type"] == "urn:vimserve:problem:unsupported-encoding"


def test_several_headers_are_one_list(client, data):
    headers = [("Content-Encoding", "gzip"), ("Content-Encoding", "zstd")]
    answer = client.post("/v1/classify", content=data, headers=headers)
    assert answer.json()["value"] == "gzip,zstd"


def test_what_is_not_coded_so_is_said(client, data):
    answer = client.post("/v1/classify", content=data, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:vimserve:problem:malformed-encoding"


def test_nothing_coded_is_an_empty_body(client):
    headers = {"Content-Encoding": "gzip"}
    for body in (b"", gzip.compress(b"")):
        answer = client.post("/v1/classify", content=body, headers=headers)
        assert answer.json()["type"] == "urn:vimserve:problem:empty-body"


def test_a_flood_of_fields_is_refused(client):
    field = b'--edge\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'
    body = 2000 * field + HEAD + b"\r\n--edge--\r\n"
    answer = client.post("/v1/classify", content=body, headers=FORM)
    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:vimserve:problem:too-many-parts"
    assert answer.json()["limit"] == 132


@pytest.mark.parametrize(
    ("path", "named"), [("/v1/classify", "detail"), ("/v2/models/tiny/infer", "error")]
)
def test_a_body_may_come_in_so_many_chunks(client, connect, path, named):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk, end = b"1\r\nx\r\n", b"0\r\n\r\n"
    status, body = raw.answer(connect(client, head + MAX_CHUNKS * chunk + end))
    assert status in (400, 415)  # no image, and no JSON
    status, body = raw.answer(connect(client, head + (MAX_CHUNKS + 2) * chunk))
    assert status == 413
    assert f"the limit is {MAX_CHUNKS}" in json.loads(body)[named]
