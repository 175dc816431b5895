"""What the Open Inference Protocol refuses: with {"error": …}, never as the server's fault."""

import base64
import gzip
import json
import math
import struct

import numpy as np
import pytest

from vimserve.server.routes.json_body import MOST_VALUES

HEADER = "Inference-Header-Content-Length"
PATH = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def client(serve_tiny):
    with serve_tiny(max_images=4, max_resolution=320) as client:
        yield client
        pixels = tensor("UINT8", [1, 32, 32, 3], data=[7] * 3072)
        assert client.post(PATH, json={"inputs": [pixels]}).status_code == 200


def tensor(datatype="BYTES", shape=(1,), name="image", **members):
    return {"name": name, "datatype": datatype, "shape": list(shape), **members}


def binary(size, datatype="BYTES", shape=(1,)):
    return tensor(datatype, shape, parameters={"binary_data_size": size})


def element(data=b"x"):
    return struct.pack("<I", len(data)) + data


def check(answer, status, words):
    assert (answer.status_code, list(answer.json())) == (status, ["error"]), answer.text
    assert words in answer.json()["error"]
    assert answer.headers["content-type"] == "application/json"


ZEROS = [0] * 3072


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "inputs: List should have at least 1 item"),
        ([tensor(data=["aGk="])] * 2, "inputs: List should have at most 1 item"),
        ([tensor(data=["aGk="], name="input")], "inputs.0.name: Input should be 'image', not 'in"),
        ([tensor("INT64", data=[1])], "Input should be 'BYTES', 'UINT8' or 'FP32', not 'INT64'"),
        ([tensor("UINT8", [3072], data=ZEROS)], "must be [n, H, W, 3], none of them 0, not [3072]"),
        ([tensor("UINT8", [1, 3, 32, 32], data=ZEROS)], "must be [n, H, W, 3]"),
        ([tensor("FP32", [1, 32, 32, 3], data=ZEROS)], "must be [n, 3, H, W]"),
        ([tensor("UINT8", [1, 0, 32, 3], data=[])], "none of them 0"),
        ([tensor("BYTES", [1, 1], data=["aGk="])], "must be [n]"),
        ([tensor("BYTES", [0], data=[])], "none of them 0"),
        ([tensor("UINT8", [1, -1, 32, 3], data=ZEROS)], "greater than or equal to 0, not -1"),
        ([tensor("UINT8", [1, 1.5, 32, 3], data=ZEROS)], "should be a valid integer, not 1.5"),
        ([tensor("UINT8", [1, 2**40, 32, 3], data=ZEROS)], "less than or equal to 2147483647"),
        ([tensor("UINT8", [1] * 9, data=ZEROS)], "at most 8 items"),
        ([tensor("UINT8", [1, 33, 32, 3], data=ZEROS)], "not data of shape [3072]"),
        ([tensor("UINT8", [1, 32, 32, 3], data=[[1], [2, 3]])], "lists of different lengths"),
        ([tensor("UINT8", [1, 32, 32, 3], data=[0.5] * 3072)], "not values of another type"),
        ([tensor("UINT8", [1, 32, 32, 3], data=[256] * 3072)], "from 0 to 255"),
        ([tensor("UINT8", [1, 32, 32, 3], data=[2**70] * 3072)], "not values of another type"),
        ([tensor("UINT8", [1, 32, 32, 3], data=["a"] * 3072)], "not values of another type"),
        ([tensor("UINT8", [1, 32, 32, 3], data={"a": 1})], "not values of another type"),
        ([tensor("UINT8", [1, 32, 32, 3], data=None)], "not values of another type"),
        ([tensor("FP32", [1, 3, 32, 32], data=[1e30] * 3072)], "must be normalised"),
        ([tensor("FP32", [1, 3, 32, 32], data=[1e300] * 3072)], "must be normalised"),
        ([tensor("FP32", [1, 3, 32, 32], data=[True] * 3072)], "not values of another type"),
        ([tensor("FP32", [1, 3, 33, 32], data=[0] * 3168)], "multiples of 16, from 16 on"),
        ([tensor("FP32", [1, 3, 8, 384], data=[0] * 9216)], "not 8x384"),
        ([tensor(data="aGk=")], "a list of texts in base64"),
        ([tensor(data=[1])], "a list of texts in base64"),
        ([tensor(data=["aGk=", "aGk="])], "1 texts, as the shape says, not 2"),
        ([tensor(data=["http://127.0.0.1/a.png"])], "neither a URL nor a path"),
        ([tensor(data=["a"])], "must be an image in base64"),
        ([tensor(data=[""])], "the image has no bytes"),
        ([tensor()], "either data or binary_data_size, not neither"),
        ([tensor(data=["aGk="], parameters={"binary_data_size": 2})], "not both"),
        ([tensor(data=["aGk="], parameters={"binary_data_size": -1})], "greater than or equal"),
        ([tensor(data=["aGk="], parameters={"binary_data_size": True})], "valid integer"),
        ([tensor(parameters={"shared_memory_region": "a"})], "shared_memory_region: there is no"),
        ([tensor(data=["aGk="], made_up=1)], "inputs.0.made_up: there is no such name"),
        ([binary(5)], "has 5 bytes of binary data, but 0 bytes follow"),
    ],
)  # fmt: skip
def test_wrong_inputs(client, inputs, words):
    check(client.post(PATH, json={"inputs": inputs}), 400, words)


GOOD = tensor("UINT8", [1, 32, 32, 3], data=ZEROS)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"id": 3}, "id: Input should be a valid string, not 3"),
        ({"made_up": 1}, "made_up: there is no such name"),
        ({"parameters": []}, "parameters: Input should be a valid dictionary"),
        ({"parameters": {"made_up": 1}}, "there is no parameter 'made_up'; a model that can class"),
        ({"parameters": {"top_k": 1}}, "there is no parameter 'top_k'"),
        ({"parameters": {"sequence_id": 1}}, "'sequence_id' is reserved"),
        ({"parameters": {"headers": "x"}}, "'headers' is reserved"),
        ({"parameters": {"triton_final_response": True}}, "'triton_final_response' is reserved"),
        ({"parameters": {"priority": 10}}, "from 1 to 9, or 0 for the default, not '10'"),
        ({"parameters": {"priority": True}}, "priority must be a whole number"),
        ({"parameters": {"timeout": -1}}, "timeout must be a whole number from 1 to 3600000000"),
        ({"parameters": {"timeout": 1e3}}, "timeout must be a whole number"),
        ({"parameters": {"binary_data_output": 1}}, "must be true or false, not '1'"),
        ({"parameters": {"resolution": 3000}}, "from 1 to 320, not '3000'"),
        ({"parameters": {"resolution": True}}, "resolution must be text or a number, not True"),
        ({"outputs": [{"name": "mask"}]}, "outputs of model 'tiny' are logits, scores, labels"),
        ({"outputs": [{"name": "logits"}, {"name": "logits"}]}, "each at most once"),
        ({"outputs": [{"name": "a"}] * 17}, "at most 16 items"),
        ({"outputs": [{"name": "labels", "parameters": {"classification": 2}}]}, "not labels"),
        ({"outputs": [{"name": "logits", "parameters": {"classification": -2}}]}, "not -2"),
        ({"outputs": [{"name": "logits", "parameters": {"binary_data": 1}}]}, "valid boolean"),
        ({"outputs": [{"name": "logits", "parameters": {"shared_memory_region": "a"}}]}, "no such"),
    ],
)  # fmt: skip
def test_wrong_members(client, members, words):
    check(client.post(PATH, json={"inputs": [GOOD], **members}), 400, words)


def test_what_is_chosen_for_a_normalised_image(client):
    given = tensor("FP32", [1, 3, 32, 32], data=ZEROS)
    for name in ("resolution", "fit", "range", "bands"):
        message = {"inputs": [given], "parameters": {name: "1"}}
        check(client.post(PATH, json=message), 400, f"parameter {name} is for images that are not")
    nan = np.full((1, 3, 32, 32), math.nan, "<f4").tobytes()
    text = json.dumps({"inputs": [binary(len(nan), "FP32", [1, 3, 32, 32])]}).encode()
    headers = {HEADER: str(len(text))}
    check(client.post(PATH, content=text + nan, headers=headers), 400, "there is nan")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("-1", "must be the length of the JSON"),
        ("one", "must be the length of the JSON"),
        ("1.0", "must be the length of the JSON"),
        ("9" * 30, "must be the length of the JSON"),
        ("100000", "but the body has only"),
        ("5", "no JSON"),
    ],
)
def test_wrong_lengths_of_the_json(client, header, words):
    content = json.dumps({"inputs": [GOOD]}).encode()
    check(client.post(PATH, content=content, headers={HEADER: header}), 400, words)


@pytest.mark.parametrize(
    ("given", "blob", "words"),
    [
        (binary(5), element() + b"y", "has 5 bytes of binary data, but 6 bytes follow"),
        (binary(9), element(), "has 9 bytes of binary data, but 5 bytes follow"),
        (binary(3), b"\1\0\0", "ends at byte"),
        (binary(4), struct.pack("<I", 2**32 - 1), "ends at byte 4294967299 of its data"),
        (binary(10), element() * 2, "1 elements of the BYTES tensor take 5 bytes; its data has 10"),
        (binary(5, shape=[2]), element(), "ends at byte"),
        (binary(4), element(b""), "the image has no bytes"),
        (binary(5, "UINT8", [1, 32, 32, 3]), element(), "has 3072 bytes, not 5"),
        (binary(5, "FP32", [1, 3, 32, 32]), element(), "has 12288 bytes, not 5"),
        (tensor(data=["aGk="]), element(), "has 0 bytes of binary data, but 5 bytes follow"),
    ],
)  # fmt: skip
def test_wrong_binary_data(client, given, blob, words):
    message = json.dumps({"inputs": [given]}).encode()
    headers = {HEADER: str(len(message))}
    check(client.post(PATH, content=message + blob, headers=headers), 400, words)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"1" * 100_000, b"\xff", b"NaN"])
def test_no_json(client, content):
    check(client.post(PATH, content=content), 400, "no JSON" if content else "the body is empty")


def test_limits(client, encode, picture):
    check(client.post(PATH, content=b"[" + b"1," * MOST_VALUES), 413, f"limit is {MOST_VALUES}")
    many = {"inputs": [tensor(shape=[5], data=["aGk="] * 5)]}
    check(client.post(PATH, json=many), 413, "5 images, more than the 4 accepted")
    large = tensor("FP32", [1, 3, 336, 32], data=[0] * (3 * 336 * 32))
    check(client.post(PATH, json={"inputs": [large]}), 413, "may have 320")
    given = [base64.b64encode(encode(picture(64, 64))).decode(), "aGk="]
    both = {"inputs": [tensor(shape=[2], data=given)]}
    check(client.post(PATH, json=both), 415, "image 1: the bytes are not an image")


def test_pixel_and_byte_limits(serve_tiny):
    with serve_tiny(max_pixels=1023, max_body_bytes=10_000) as client:
        check(client.post(PATH, json={"inputs": [GOOD]}), 413, "1024 pixels")
        bomb = gzip.compress(bytes(10_001))
        assert len(bomb) < 100
        answer = client.post(PATH, content=bomb, headers={"Content-Encoding": "gzip"})
        check(answer, 413, "the limit is 10000")
        broken = client.post(PATH, content=b"no", headers={"Content-Encoding": "deflate"})
        check(broken, 400, "cannot be decoded")
        other = client.post(PATH, content=b"no", headers={"Content-Encoding": "br"})
        check(other, 415, "is not decoded")


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/v2/models/nobody/infer", 404, "no model 'nobody' is served"),
        ("POST", "/v2/models/tiny/versions/2/infer", 404, "has no version '2', only '1'"),
        ("GET", "/v2/models/tiny/versions/2", 404, "has no version '2', only '1'"),
        ("GET", "/v2/models/nobody", 404, "no model 'nobody' is served"),
        ("GET", "/v2/models/nobody/ready", 404, "no model 'nobody' is served"),
        ("GET", "/v2/models/nobody/stats", 404, "no model 'nobody' is served"),
        ("GET", "/v2/nowhere", 404, "Not Found"),
        ("GET", "/v2/models/tiny/infer", 405, "Method Not Allowed"),
        ("POST", "/v2/repository/models/tiny/load", 403, "--model-control"),
        ("POST", "/v2/repository/models/tiny/unload", 403, "--model-control"),
    ],
)
def test_other_errors_have_the_same_form(client, method, path, status, words):
    content = b"{}" if method == "POST" else b""
    check(client.request(method, path, content=content), status, words)
