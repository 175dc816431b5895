"""What comes from a server is read to the last bit, or not at all."""

import json

import httpx2
import numpy as np
import pytest

from tests.server.scenes.fake_time import run
from tests.server.scenes.fleet import LENGTH, MODEL, Fleet, packed, refusal, scored, scores_of
from vimserve.server.scenes.remote.trouble import Refused

SCORES = scores_of(0)
OUTPUT = {
    "name": "scores", "shape": [1, *SCORES.shape], "datatype": "FP32",
    "parameters": {"binary_data_size": SCORES.nbytes},
}  # fmt: skip
BLOB = SCORES.tobytes()


def text(body, length=None):
    headers = {} if length is None else {LENGTH: length}
    return httpx2.Response(200, content=body, headers=headers)


def answering(fleet, answer):
    async def script(number):
        return answer

    fleet["a"].script = script


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (text(b""), "Invalid JSON: EOF while parsing"),
        (text(b"<html>"), "Invalid JSON: expected value"),
        (text(b"[1]"), "Input should be an object"),
        (text(b"{}", "x"), "must be the length of the JSON in bytes, not 'x'"),
        (text(b"{}", "3"), "is 3, but the body has only 2 bytes"),
        (text(b"\xff\xfe", "2"), "Invalid JSON"),
        (packed([]), "it has no output 'scores'"),
        (packed([OUTPUT], BLOB[:-1]), f"has {len(BLOB)} bytes, of which {len(BLOB) - 1} came"),
        (packed([OUTPUT], BLOB, b"x"), "1 bytes follow its last output"),
        (packed([OUTPUT | {"parameters": {"binary_data_size": -4}}]), "has -4 bytes"),
        (packed([OUTPUT | {"parameters": None, "data": [1.0]}]), "of shape [1, 2, 8, 12] has 0 b"),
        (packed([OUTPUT | {"shape": [1, 2, 8, 11]}], BLOB), "of shape [1, 2, 8, 11] has 768 bytes"),
        (packed([OUTPUT | {"shape": [1, 2, -8, -12]}], BLOB), "has the shape [1, 2, -8, -12]"),
        (packed([OUTPUT | {"shape": [2**62, 2**62]}], BLOB), "has 768 bytes"),
        (packed([OUTPUT | {"shape": [1, 2, 96]}], BLOB), "must have the shape [1, 2, 8, 12], not"),
        (packed([OUTPUT | {"shape": [1, 2, 12, 8]}], BLOB), "not float32 [1, 2, 12, 8]"),
        (packed([OUTPUT | {"datatype": "INT32"}], BLOB), "not int32 [1, 2, 8, 12]"),
        (packed([OUTPUT | {"datatype": "FP64"}], BLOB), "Input should be 'BYTES'"),
        (packed([OUTPUT | {"datatype": "BYTES", "shape": [2**40]}], BLOB), "BYTES tensor"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_asked_of_another(answer, words):
    fleet = Fleet("a", "b")
    answering(fleet, answer)
    run(fleet.answers(1))
    assert [server.windows for server in fleet.values()] == [[0], [0]]
    del fleet["b"]
    with pytest.raises(Refused, match=r"^servers failed 10 times at one window") as caught:
        run(fleet.answers(1))
    assert "http://a: its answer to POST /v2/models/coast/infer cannot be used: " in (
        str(caught.value)
    )
    assert words in str(caught.value)


def test_scores_may_lie_anywhere_and_have_any_value():
    scores = SCORES.copy()
    scores.reshape(-1)[:6] = [-0.0, np.inf, -np.inf, np.nan, 1e-45, np.pi]
    for spaces in range(4):
        answer = scored(scores)
        length = int(answer.headers[LENGTH])
        body = answer.content[:length] + b" " * spaces + answer.content[length:]
        fleet = Fleet("a")
        answering(fleet, text(body, str(length + spaces)))
        found = run(ask(fleet))
        assert found.tobytes() == scores.tobytes()
        assert found.flags.writeable
        assert found.flags.aligned


async def ask(fleet, picture=None, **options):
    async with fleet.servers(**options) as servers:
        await servers.described()
        return await servers.ask(np.zeros((32, 48, 3), np.uint8))


DETECTOR = MODEL | {"task": "detect", "cell": None, "masks": True}
BOXES = np.array([[[0, 1, 2, 3], [4.125, 5, 47.9, 32]]], "<f4")


def detected(**changes):
    """Two objects, the second without a pixel."""
    counts = [json.dumps({"size": [32, 48], "counts": text}) for text in ("0P`1", "P`1")]
    values = {
        "boxes": ("FP32", [1, 2, 4], BOXES.tobytes()),
        "scores": ("FP32", [1, 2], np.array([0.9, 0.1], "<f4").tobytes()),
        "classes": ("INT32", [1, 2], np.array([1, 0], "<i4").tobytes()),
        "masks": (
            "BYTES",
            [1, 2],
            b"".join(len(one).to_bytes(4, "little") + one.encode() for one in counts),
        ),
        **changes,
    }
    outputs = [
        {"name": name, "datatype": kind, "shape": shape,
         "parameters": {"binary_data_size": len(blob)}}
        for name, (kind, shape, blob) in values.items()
    ]  # fmt: skip
    return packed(outputs, *(blob for _, _, blob in values.values()))


def detector(answer):
    fleet = Fleet("a")
    fleet["a"].models = {"models": [DETECTOR]}
    answering(fleet, answer)
    return fleet


@pytest.mark.parametrize(
    ("name", "kind", "value", "words"),
    [
        ("boxes", "FP32", BOXES[:, :1], "output 'scores' must have the shape [1, 1]"),
        ("classes", "INT32", np.array([[2, 0]], "<i4"), "a class beyond the 2 of the model"),
        ("classes", "INT32", np.array([[0, -1]], "<i4"), "a class beyond the 2 of the model"),
        ("masks", "BYTES", b"\1\0\0\0x\1\0\0\0x", "expected value"),
        ("masks", "BYTES", 2 * (b"\0\x10\0\0" + 4096 * b"["), "recursion limit"),
        ("masks", "BYTES", b"\2\0\0\0{}\2\0\0\0{}", "a mask is not one of 32x48 pixels"),
        ("masks", "BYTES", b"\1\0\0\0", "ends at byte 5 of its data"),
    ],
)
def test_what_is_no_object(name, kind, value, words):
    blob, shape = value, [1, 2]
    if not isinstance(value, bytes):
        blob, shape = value.tobytes(), [*value.shape]
    fleet = detector(detected(**{name: (kind, shape, blob)}))
    with pytest.raises(Refused) as caught:
        run(ask(fleet, task="detect"))
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_mask_of_another_size():
    mask = json.dumps({"size": [32, 48], "counts": "P`2"}).encode()
    blob = (len(mask).to_bytes(4, "little") + mask) * 2
    fleet = detector(detected(masks=("BYTES", [1, 2], blob)))
    with pytest.raises(Refused, match="do not add up to 32x48 pixels"):
        run(ask(fleet, task="detect"))


def test_nothing_detected():
    none = {
        "boxes": ("FP32", [1, 0, 4], b""), "scores": ("FP32", [1, 0], b""),
        "classes": ("INT32", [1, 0], b""), "masks": ("BYTES", [1, 0], b""),
    }  # fmt: skip
    found = run(ask(detector(detected(**none)), task="detect"))
    assert (found.size, found.instances) == ((32, 48), [])


def test_a_refusal_too_deep_to_be_read():
    fleet = Fleet("a")
    answering(fleet, httpx2.Response(400, content=100_000 * b"["))
    with pytest.raises(Refused, match=r"answers 400 \["):
        run(ask(fleet))


@pytest.mark.parametrize("detail", ["", "x" * 1000])
def test_the_server_s_own_words_are_cut(detail):
    fleet = Fleet("a")
    answering(fleet, refusal(400, detail))
    with pytest.raises(Refused) as caught:
        run(ask(fleet))
    assert 10 < len(str(caught.value)) < 350
