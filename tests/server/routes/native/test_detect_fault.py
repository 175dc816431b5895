"""How a load test checks detections."""

import copy

import pytest

from vimserve.server.routes.native.detect import RENDERING


def detection(score, left=10.0, index=0):
    return {
        "index": index,
        "label": "cat",
        "score": score,
        "box": {"x1": left, "y1": 5.0, "x2": left + 20, "y2": 30.0},
    }


def result(*detections):
    return {"detections": list(detections)}


FIRST = result(*(detection(0.95 - 0.02 * i, 2.0 * i) for i in range(30)), detection(0.06))


def fault(now, before=FIRST):
    return RENDERING.fault(now, before, 100)


def test_the_same_and_nearly_the_same():
    assert fault(FIRST) is None
    moved = copy.deepcopy(FIRST)
    for one in moved["detections"]:
        one["score"] -= 0.01
        one["box"]["x1"] += 0.5
    assert fault(moved) is None


def test_one_of_many_may_come_or_go_and_what_is_barely_good_enough():
    fewer = result(*FIRST["detections"][1:-1])
    assert fault(fewer) is None
    assert fault(FIRST, fewer) is None


@pytest.mark.parametrize("kept", [0, 20])
def test_many_may_not(kept):
    assert "differ from an earlier answer" in (fault(result(*FIRST["detections"][:kept])) or "")


def test_another_class_or_place():
    alone = result(detection(0.9))
    assert "2 detections differ" in (fault(result(detection(0.9, index=1)), alone) or "")
    assert "2 detections differ" in (fault(result(detection(0.9, left=12.0)), alone) or "")


def test_malformed():
    assert "not sorted" in (fault(result(detection(0.5), detection(0.9))) or "")
    assert "no box in 100x100 pixels" in (fault(result(detection(0.5, left=90.0))) or "")


def test_what_it_asks_for_can_be_asked():
    query = dict(pair.split("=") for pair in RENDERING.check_query.split("&"))
    assert RENDERING.query.model_validate(query)
