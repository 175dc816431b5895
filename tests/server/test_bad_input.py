"""Every refusal is a problem that names the limit and the value, and the server lives on."""

import struct
import zlib

import httpx2
import pytest

from vimserve.model.samples import BANDS_FORMS, RANGE_FORMS
from vimserve.server.images.formats import FORMATS


@pytest.fixture(scope="module")
def bomb():
    """The header of a PNG of 60,000 × 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    start = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + start + struct.pack(">I", 1000) + b"IDAT"


def check(answer, status, *, limit=None, value=None, **members):
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:vimserve:problem:")
    assert problem["title"]
    assert problem["detail"]
    assert problem.get("limit") == limit
    assert problem.get("value") == value
    for name, member in members.items():
        assert problem.get(name) == member


@pytest.fixture
def post(client, serve, picture, encode):
    """Post to the server, or to one with other settings; afterwards it must still answer."""
    used = [client]

    def send(query="", *, settings=None, **request):
        if settings:
            used.append(serve(**settings)[0])
        if not request:
            request = {"content": encode(picture(64, 64))}
        return used[-1].post(f"/v1/classify{query}", **request)

    yield send
    data = encode(picture(16, 16))
    assert used[-1].post("/v1/classify?resolution=16", content=data).status_code == 200


@pytest.mark.parametrize(
    ("query", "parameter", "limit", "value"),
    [
        ("top_k=0", "top_k", 1, 0),
        ("top_k=-1", "top_k", 1, -1),
        ("top_k=8", "top_k", 7, 8),
        ("top_k=many", "top_k", "a whole number of at least 1", "many"),
        ("top_k=3.0", "top_k", "a whole number of at least 1", "3.0"),
        ("top_k=1_0", "top_k", "a whole number of at least 1", "1_0"),
        ("resolution=0", "resolution", 1, 0),
        ("resolution=-224", "resolution", 1, -224),
        ("resolution=nan", "resolution", 1248, "nan"),
        ("resolution=inf", "resolution", 1248, "inf"),
        ("resolution=22.4", "resolution", 1248, "22.4"),
        ("resolution=", "resolution", 1248, ""),
        ("resolution=1_000", "resolution", 1248, "1_000"),
        ("resolution=" + "9" * 5000, "resolution", 1248, "9" * 5000),
        ("resolution=1249", "resolution", 1248, 1249),
        ("fit=stretch", "fit", "'crop' or 'contain'", "stretch"),
        ("topk=3", "topk", ["range", "bands", "top_k", "resolution", "fit", "model"], "3"),
        ("range=", "range", RANGE_FORMS, ""),
        ("range=1", "range", RANGE_FORMS, "1"),
        ("range=p2,98", "range", RANGE_FORMS, "p2,98"),
        ("range=5,5", "range", f"{RANGE_FORMS}, the lower one first", "5,5"),
        ("range=0,inf", "range", f"{RANGE_FORMS}, the lower one first", "0,inf"),
        ("range=p2,p101", "range", f"{RANGE_FORMS}, from p0 to p100", "p2,p101"),
        ("bands=1,2", "bands", BANDS_FORMS, "1,2"),
        ("bands=0", "bands", BANDS_FORMS, "0"),
        ("bands=" + "9" * 5000, "bands", BANDS_FORMS, "9" * 5000),
    ],
)
def test_wrong_parameters(post, query, parameter, limit, value):
    check(post(f"?{query}"), 422, parameter=parameter, limit=limit, value=value)


def test_unknown_model(post):
    check(post("?model=resnet"), 404, parameter="model", limit=["tiny"], value="resnet")


def test_empty_body(post):
    check(post(content=b""), 422, limit=1, value=0)


def test_zero_byte_file(post):
    check(post(files={"file": ("a.png", b"")}), 422, limit=1, value=0, file="a.png")


def test_not_an_image(post):
    answer = post(content=b"<html>not an image</html>")
    check(answer, 415, limit=list(FORMATS), value="<html>not an ima")


def test_truncated_image(post, picture, encode):
    data = encode(picture(64, 64))[:-500]
    check(post(content=data), 422, limit="a complete PNG", value=f"{len(data)} bytes")


def test_decompression_bomb(post, bomb):
    check(post(content=bomb), 413, limit=50_000_000, value=3_600_000_000)


def test_a_flood_of_chunks(post):
    checked = b"prVt" + struct.pack(">I", zlib.crc32(b"prVt"))
    start = b"\x89PNG\r\n\x1a\n"
    answer = post(content=start + (bytes(4) + checked) * 100_000)
    problem = answer.json()
    check(answer, 413, limit=problem["limit"], value=problem["limit"] + 1)
    assert problem["type"].endswith("image-too-complex")


def test_memory_for_decoding(post, picture, encode):
    answer = post(settings={"max_decode_bytes": 15_000_000}, content=encode(picture(1000, 1200)))
    limit, value = (answer.json()[name] for name in ("limit", "value"))
    check(answer, 413, limit=limit, value=value)
    assert 7_500_000 < limit < 15_000_000 < value
    assert "--max-decode-bytes" in answer.json()["detail"]


def test_pixel_limit(post):
    check(post(settings={"max_pixels": 4095}), 413, limit=4095, value=4096)


def test_byte_limit_by_the_declared_length(post):
    settings = {"max_body_bytes": 100_000}
    check(post(settings=settings, content=bytes(100_001)), 413, limit=100_000, value=100_001)


def test_byte_limit_without_a_declared_length(post):
    sent = 0

    def chunks():
        nonlocal sent
        while sent < 50_000_000:
            sent += 50_000
            yield bytes(50_000)

    try:
        answer = post(settings={"max_body_bytes": 120_000}, content=chunks())
    except httpx2.WriteError:
        pytest.skip("the client did not read the early answer")
    check(answer, 413, limit=120_000, value=answer.json()["value"])
    assert 120_000 < answer.json()["value"] < 1_000_000


def test_byte_limit_of_a_multipart_body(post):
    def parts():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(10):
            yield bytes(50_000)
        yield b"\r\n--x--\r\n"

    answer = post(
        settings={"max_body_bytes": 120_000},
        content=parts(),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    check(answer, 413, limit=120_000, value=answer.json()["value"])
    assert answer.json()["type"].endswith("body-too-large")


def test_multipart_without_a_file(post):
    check(post(files={"image": ("a.png", b"x")}), 422, parameter="file", limit=1, value=0)
    form = {"data": {"file": "text"}, "files": {"other": ("a.png", b"x")}}
    check(post(**form), 422, parameter="file", limit=1, value=0)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"no boundary here"),
        ("multipart/form-data; boundary=x", b"--x no headers"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=" + 100 * "x", b"x"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc',
        ),
    ],
)
def test_malformed_multipart(post, content_type, body):
    answer = post(content=body, headers={"Content-Type": content_type})
    problem = answer.json()
    check(answer, 400, limit="multipart/form-data (RFC 7578)", value=problem["value"])
    assert problem["value"]


def test_too_many_images(post):
    files = [("file", (f"{i}.png", b"x")) for i in range(4)]
    answer = post(settings={"max_images": 3}, files=files)
    check(answer, 413, parameter="file", limit=3, value=4)


def test_the_bad_image_among_good_ones_is_named(post, picture, encode):
    good = encode(picture(64, 64))
    files = [("file", ("good.png", good)), ("file", ("bad.png", b"bad")), ("file", ("b", good))]
    check(post(files=files), 415, limit=list(FORMATS), value="bad", file="bad.png")


def test_a_native_image_above_the_largest_resolution(post, picture, encode):
    answer = post("?resolution=native", content=encode(picture(64, 1300)))
    check(answer, 413, parameter="resolution", limit=1248, value=1296)


def test_an_image_above_the_token_budget(post):
    answer = post("?resolution=160", settings={"max_batch_tokens": 100})
    check(answer, 413, limit=100, value=101)


def test_what_the_framework_refuses_is_a_problem_too(client):
    for answer, status in [(client.get("/nowhere"), 404), (client.get("/v1/classify"), 405)]:
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "about:blank"
        assert answer.json()["status"] == status
    assert answer.headers["allow"] == "POST"
