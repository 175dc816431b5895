"""One answer of several."""

import json

from vimserve.server.cluster.merge import listed, merged, models, statistics


def test_each_model_once_and_ready_if_it_is_anywhere():
    first = [{"name": "a", "status": "loading"}, {"name": "b", "status": "ready"}]
    second = [{"name": "a", "status": "ready"}, {"name": "b", "status": "failed"}]
    assert listed([{"models": first}, {"models": second}]) == {"models": [second[0], first[1]]}
    one, other = [{"name": "a", "state": "UNAVAILABLE"}], [{"name": "a", "state": "READY"}]
    assert models([one, other]) == models([other, one]) == other


def test_counts_are_added():
    def stats(number):
        success = {"count": number, "ns": 10 * number}
        return {
            "model_stats": [
                {
                    "name": "a",
                    "version": "1",
                    "last_inference": number,
                    "inference_count": number,
                    "inference_stats": {"success": success},
                    "batch_stats": [],
                }
            ]
        }

    (one,) = json.loads(merged(statistics, [json.dumps(stats(n)).encode() for n in (1, 4)]))[
        "model_stats"
    ]
    assert one == {
        "name": "a",
        "version": "1",
        "last_inference": 4,
        "inference_count": 5,
        "inference_stats": {"success": {"count": 5, "ns": 50}},
        "batch_stats": [],
    }
