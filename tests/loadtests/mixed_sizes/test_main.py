import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from vimserve.loadtests.mixed_sizes import __main__ as mixed_sizes
from vimserve.loadtests.mixed_sizes.policies import POLICIES, Job, Limits, fill_in_order
from vimserve.loadtests.mixed_sizes.replay import Station, cut, replay
from vimserve.loadtests.mixed_sizes.trace import TRACE as RECORDED
from vimserve.loadtests.mixed_sizes.trace import Arrival, draw, read, repeat, write
from vimserve.model.catalog import load_model
from vimserve.server.engine.urgency import Urgency

SIZES = [(32, 32), (64, 48), (32, 32), (96, 96), (48, 64), (32, 32)]
TRACE = [Arrival(float(at), *size) for at, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def demo():
    return load_model("demo")


@pytest.fixture
def jobs():
    now = Urgency(0.0, 1000.0, priority=5)
    return [
        Job(index, (height, width), height // 16 * (width // 16) + 1, now)
        for index, (height, width) in enumerate(SIZES)
    ]


def make(name, batch_tokens=8192, queue_tokens=sys.maxsize, clock=lambda: 0.0):
    return POLICIES[name](Limits(batch_tokens, queue_tokens), clock)


def batches(policy, jobs):
    for job in jobs:
        policy.add(job)
    return [[job.index for job in batch] for batch in iter(policy.next, [])]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("server", [[0, 1, 2, 4, 5], [3]]),
        ("fill in order", [[0, 1, 2, 4, 5], [3]]),
        ("equal sizes", [[0, 2, 5], [1], [3], [4]]),
        ("one at a time", [[0], [1], [2], [3], [4], [5]]),
    ],
)
def test_what_a_policy_batches(name, expected, jobs):
    # 3 of 5 tokens and 2 of 13; that of 37 does not fit beside them.
    assert batches(make(name, 41), jobs) == expected


def test_equal_sizes_keep_to_the_budget(jobs):
    policy = make("equal sizes", 2 * jobs[0].tokens)
    assert batches(policy, jobs) == [[0, 2], [1], [3], [4], [5]]


@pytest.mark.parametrize("name", POLICIES)
def test_a_full_queue_takes_no_more(name, jobs):
    policy = make(name, 41, queue_tokens=sum(job.tokens for job in jobs[:3]))
    assert [policy.add(job) for job in jobs] == [True, True, True, False, False, False]


@pytest.mark.parametrize("name", POLICIES)
def test_what_has_expired_is_not_run(name, jobs):
    now = 0.0
    policy = make(name, clock=lambda: now)
    for job in jobs[:3]:
        policy.add(job)
    now = 1000.0
    later = Job(9, (32, 32), 5, Urgency(now, 1000.0, priority=5))
    policy.add(later)
    assert policy.next() == [later]
    assert policy.next() == []


def test_filling_in_order_passes_over_nobody_for_ever():
    def job(tokens):
        return Job(0, (0, 0), tokens, Urgency(0.0, 1.0, priority=5))

    pending = [job(5), large := job(10), *(job(5) for _ in range(40))]
    for _ in range(8):
        batch = fill_in_order([pending[0], large, *pending[2:]], 10)
        assert large not in batch
        pending = [one for one in pending if one not in batch or one is large]
        pending.sort(key=lambda one: one is large)
        pending.insert(1, pending.pop())
    assert fill_in_order(pending, 10) == pending[:1]


def stations(*names):
    return [Station(POLICIES[name], Limits(8192, sys.maxsize)) for name in names]


def test_every_image_gets_its_scores_and_its_latency_from_every_policy(demo):
    images = cut(demo, TRACE)
    alone = torch.cat([demo(image) for image in images])
    replays = replay(demo, TRACE, images, stations(*POLICIES), gap_s=0.02)
    assert len(replays) == len(POLICIES)
    for replayed in replays:
        torch.testing.assert_close(replayed.scores, alone, atol=1e-4, rtol=0)
        assert replayed.makespan_s >= TRACE[-1].at * 0.02
        assert all(0 < latency <= replayed.makespan_s for latency in replayed.latencies_s)


def test_waiting_counts_from_the_arrival(demo):
    images = cut(demo, TRACE)
    (replayed,) = replay(demo, TRACE, images, stations("one at a time"), gap_s=0)
    assert replayed.latencies_s == sorted(replayed.latencies_s)
    assert replayed.latencies_s[-1] == pytest.approx(replayed.makespan_s)


class Slow:
    """A model whose clock is its own: an image of n tokens takes n seconds."""

    def __init__(self, demo, monkeypatch):
        self.config, self.num_tokens = demo.config, demo.num_tokens
        self.passes, self._now = [], 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self._now)

    def __call__(self, batch):
        lengths = [self.num_tokens(grid) for grid in batch.grids]
        self.passes.append(lengths)
        self._now += sum(lengths)
        return torch.zeros(len(lengths), 1)


def test_a_policy_does_not_wait_for_the_passes_of_another(demo, monkeypatch):
    model: Any = Slow(demo, monkeypatch)
    images = cut(model, TRACE[:3])
    alone, beside = (
        replay(model, TRACE[:3], images, stations(*names), gap_s=1)[0]
        for names in (["one at a time"], ["one at a time", "fill in order", "equal sizes"])
    )
    # 5, 13 and 5 tokens arrive at 0, 1 and 2.
    assert alone.latencies_s == beside.latencies_s == [5, 17, 21]


def test_what_is_furthest_behind_in_its_own_time_runs_next(demo, monkeypatch):
    model: Any = Slow(demo, monkeypatch)
    images = cut(model, TRACE[:3])
    replays = replay(model, TRACE[:3], images, stations("one at a time", "fill in order"), gap_s=1)
    assert model.passes == [[5], [5], [13], [13, 5], [5]]
    assert [replayed.latencies_s for replayed in replays] == [[5, 17, 21], [5, 22, 21]]


def test_time_passes_between_arrivals_without_any_wait(demo, monkeypatch):
    model: Any = Slow(demo, monkeypatch)
    arrivals = [Arrival(0.0, 32, 32), Arrival(1.0, 32, 32)]
    (replayed,) = replay(model, arrivals, cut(model, arrivals), stations("server"), gap_s=1e9)
    assert replayed.latencies_s == [5, 5]
    assert replayed.makespan_s == 1e9 + 5


def test_the_recorded_trace_is_what_its_seed_gives():
    recorded = read(RECORDED)
    seed = json.loads(RECORDED.read_text())["seed"]
    assert recorded == draw(len(recorded), seed)
    sides = [side for arrival in recorded for side in (arrival.height, arrival.width)]
    assert (min(sides), max(sides)) == (96, 1248)
    assert len({(arrival.height, arrival.width) for arrival in recorded}) > 20


def test_a_trace_is_read_back(tmp_path):
    write(tmp_path / "trace.json", TRACE, 7)
    assert read(tmp_path / "trace.json") == TRACE


def test_a_trace_goes_on_a_gap_after_its_end():
    twice = repeat(TRACE, 2)
    assert twice[: len(TRACE)] == TRACE
    assert [arrival.at for arrival in twice] == [float(at) for at in range(2 * len(TRACE))]


@pytest.mark.parametrize("text", ["", "[]", '{"arrivals": [{"at": 1}]}', '{"arrivals": []}'])
def test_what_is_no_trace(text, tmp_path, capsys):
    file = tmp_path / "trace.json"
    file.write_text(text)
    with pytest.raises(SystemExit):
        mixed_sizes.main(["--trace", str(file)])
    assert str(file) in capsys.readouterr().err


@pytest.fixture
def few(tmp_path) -> Path:
    write(tmp_path / "few.json", TRACE, 0)
    return tmp_path / "few.json"


def test_measures_all_policies(few, tmp_path, capsys):
    report = tmp_path / "report.json"
    arguments = ["--trace", str(few), "--images", "5", "--rounds", "2", "--json", str(report)]
    assert mixed_sizes.main(arguments) == 0
    runs = json.loads(report.read_text())["runs"]
    assert [run["policy"] for run in runs] == 4 * [*POLICIES]
    for run in runs:
        assert 0 < run["p50_ms"] <= run["p95_ms"] <= run["p99_ms"]
        assert run["images_per_second"] > 0
    assert {run["policy"]: run["images_per_batch"] for run in runs[:4]} == {
        "server": 5,
        "fill in order": 5,
        "equal sizes": 1.25,
        "one at a time": 1,
    }
    assert "all at once     server" in capsys.readouterr().out


def test_the_best_other_policy_is_found_round_by_round():
    def runs(*p50s):
        return [mixed_sizes.Run("", 0.5, 1, 1, p50, 1, 1, 0) for p50 in p50s]

    # The machine was twice as slow in the second round, and something disturbed the third.
    replays = {"server": runs(11, 22, 11), "steady": runs(10, 20, 10), "hit": runs(10, 30, 40)}
    assert mixed_sizes.to_best("server", replays, "p50_ms") == pytest.approx(1.1)
    assert mixed_sizes.to_best("steady", replays, "p50_ms") == pytest.approx(10 / 11)
    assert mixed_sizes.to_best("hit", replays, "p50_ms") == pytest.approx(1.5)


def test_a_simulated_device_needs_no_model(few, monkeypatch, capsys):
    monkeypatch.delattr(mixed_sizes, "load_classifier")
    assert mixed_sizes.main(["--trace", str(few), "--simulate", "gpu", "--load", "2"]) == 0
    printed = capsys.readouterr().out
    assert [line[7:20].strip() for line in printed.splitlines()[1:]] == [*POLICIES]


def test_no_speed_is_reported_for_wrong_scores(few, monkeypatch, capsys):
    def mistaken(*arguments):
        replays = replay(*arguments)
        replays[2].scores[3] += 0.01
        return replays

    monkeypatch.setattr(mixed_sizes, "replay", mistaken)
    assert mixed_sizes.main(["--trace", str(few), "--rounds", "1"]) == 1
    captured = capsys.readouterr()
    assert "off what the image gets alone" in captured.err
    assert "all at once" not in captured.out
