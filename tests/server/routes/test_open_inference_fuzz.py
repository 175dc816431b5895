"""Whatever comes to the Open Inference Protocol: no failure of the server, and no hang."""

import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

HEADER = "Inference-Header-Content-Length"
PATH = "/v2/models/tiny/infer"
ZEROS = [0] * 3072


@pytest.fixture(scope="module")
def client(serve_tiny):
    with serve_tiny(max_images=4, max_resolution=320) as client:
        yield client
        assert client.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)  # fmt: skip
NAMES = st.sampled_from(["name", "shape", "data", "parameters"])
NESTED = st.recursive(
    JUNK,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
TENSORS = st.fixed_dictionaries(
    {
        "name": st.just("image") | JUNK,
        "datatype": st.sampled_from(["BYTES", "UINT8", "FP32", "INT8"]) | JUNK,
        "shape": st.lists(st.sampled_from([1, 2, 3, 16, 32]) | st.integers(), max_size=5) | NESTED,
    },
    optional={
        "data": NESTED | st.just(ZEROS),
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data_size": st.integers(0, 64) | JUNK}
        ) | NESTED,
    },
)  # fmt: skip
MESSAGES = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=2) | NESTED},
    optional={
        "id": JUNK, "outputs": NESTED,
        "parameters": st.dictionaries(
            st.sampled_from(["priority", "timeout", "binary_data_output", "fit", "x"]), JUNK),
    },
)  # fmt: skip
LENGTHS = st.none() | st.integers(-2, 80).map(str) | st.sampled_from(["", "0", "x", "1e3"])


@settings(max_examples=80)
@given(message=MESSAGES | NESTED, blob=st.binary(max_size=64), exact=st.booleans(), length=LENGTHS)
def test_fuzzed_messages(client, message, blob, exact, length):
    text = json.dumps(message).encode()
    length = str(len(text)) if exact else length
    refused(
        client.post(PATH, content=text + blob, headers={} if length is None else {HEADER: length})
    )


@settings(max_examples=60)
@given(
    body=st.binary(max_size=200), length=LENGTHS, coding=st.sampled_from([None, "gzip", "deflate"])
)
def test_fuzzed_bytes(client, body, length, coding):
    headers = {} if length is None else {HEADER: length}
    if coding:
        headers["Content-Encoding"] = coding
    refused(client.post(PATH, content=body, headers=headers))
    if coding:
        refused(client.post(PATH, content=zlib.compress(body), headers=headers))


@settings(max_examples=80)
@given(
    datatype=st.sampled_from(["BYTES", "UINT8", "FP32"]),
    shape=st.lists(st.sampled_from([1, 2, 3, 16]), min_size=1, max_size=4),
    blob=st.binary(max_size=100) | st.integers(0, 2).map(lambda n: bytes(768 * 4**n)),
)
def test_fuzzed_tensors(client, datatype, shape, blob):
    tensor = {"name": "image", "datatype": datatype, "shape": shape}
    tensor["parameters"] = {"binary_data_size": len(blob)}
    text = json.dumps({"inputs": [tensor]}).encode()
    refused(client.post(PATH, content=text + blob, headers={HEADER: str(len(text))}))


def refused(answer):
    if answer.status_code != 200:  # it may be right by chance
        assert 400 <= answer.status_code < 500, answer.text
        assert list(answer.json()) == ["error"]
