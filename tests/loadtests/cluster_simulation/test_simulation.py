"""The simulated cluster: what it counts adds up, and it comes out the same on every machine."""

import random
from itertools import islice

import pytest

from vimserve.loadtests.cluster_simulation import __main__ as cluster_simulation
from vimserve.loadtests.cluster_simulation.arrivals import DAY_S, PEAK_S, SWING, arrive, daily
from vimserve.loadtests.cluster_simulation.cluster import HOP_S, Cluster
from vimserve.loadtests.cluster_simulation.costs import router_cost
from vimserve.loadtests.cluster_simulation.day import Part, scale
from vimserve.loadtests.cluster_simulation.policies import POLICIES
from vimserve.loadtests.cluster_simulation.runs import run
from vimserve.loadtests.mixed_sizes.simulate import DEVICES, Device
from vimserve.loadtests.mixed_sizes.trace import TRACE, Arrival, read

SIZES = read(TRACE)
ALIKE = [Arrival(0.0, 160, 160)]
QUICK = Device(1000, launch=0.0, per_image=0.2, per_token=0.0)
STEADY = Device(1000, launch=0.0, per_image=1.0, per_token=0.0)


def small(policy="tokens", **options):
    options = {"replicas": 4, "load": 0.8, "images": 200, **options}
    return run(DEVICES["cpu"], SIZES, policy, **options)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_run_repeats(policy):
    assert small(policy) == small(policy)
    assert small(policy) != small(policy, seed=1)


def test_who_comes_alone_waits_for_its_own_image_and_the_ways():
    one = run(STEADY, ALIKE, "tokens", replicas=1, load=0.01, images=40)
    assert one.percentiles_s[0] == pytest.approx(1 + 2 * HOP_S, rel=0.05)
    assert one.unanswered == 0
    assert one.images_per_batch == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_what_no_replica_takes_is_refused_and_all_others_are_answered(policy):
    cluster = Cluster(DEVICES["cpu"], policy, report_s=0.1)
    for _ in range(2):
        cluster.start()
    choice = random.Random(0)  # noqa: S311
    cluster.run(islice(arrive(SIZES, lambda _: 1000.0, 0.1, 60, choice), 600))
    outcome = cluster.outcome
    assert outcome.refused > 0
    assert len(outcome.answered) + outcome.refused == outcome.arrived == 600
    assert all(one.in_flight == 0 for one in cluster.replicas.values())


def test_all_replicas_get_their_share_from_several_ingresses():
    cluster = Cluster(DEVICES["cpu"], "tokens", ingresses=3)
    replicas = [cluster.start() for _ in range(4)]
    choice = random.Random(0)  # noqa: S311
    cluster.run(islice(arrive(SIZES, lambda _: 150.0, 0.5, 60, choice), 600))
    assert max(one.busy_s for one in replicas) < 1.2 * min(one.busy_s for one in replicas)


def test_tokens_beat_chance():
    p99 = {policy: small(policy, images=500).percentiles_s[2] for policy in POLICIES}
    assert p99["tokens"] < 0.8 * p99["random"]


def test_a_stopped_replica_answers_what_it_has_and_gets_no_more():
    cluster = Cluster(STEADY, "tokens")
    first, second = cluster.start(), cluster.start()
    cluster.after(20.0, lambda: cluster.stop(second))
    choice = random.Random(0)  # noqa: S311
    cluster.run(islice(arrive(ALIKE, lambda _: 1.0, 1.0, 60, choice), 60))
    assert cluster.outcome.unanswered == 0
    assert 0 < second.answered < 20 < first.answered


def test_the_day_has_its_peak_and_its_mean():
    hours = [daily(hour * 3600) for hour in range(24)]
    assert max(hours) == daily(PEAK_S) == 1 + SWING
    assert sum(hours) / 24 == pytest.approx(1)
    assert daily(PEAK_S + DAY_S) == pytest.approx(daily(PEAK_S))


def test_replicas_come_with_the_load_and_go_with_it():
    part = Part("burst", lambda at: 2.5 if 30 < at < 120 else 0.3, 0.0, 300.0)
    scaled = scale(QUICK, ALIKE, part, start_up_s=5.0, down_after_s=20.0)
    assert scaled.replicas[0] == scaled.replicas[-1] == 1, scaled
    assert max(scaled.replicas) >= 3
    assert scaled.unanswered == 0
    assert 1 < scaled.mean < max(scaled.replicas)


def test_ranking_and_hearing_cost_time():
    few, many = router_cost(4), router_cost(400)
    assert few.rank_s > 0
    assert many.tell_s > few.tell_s > 0
    assert many.hear_s > few.hear_s > 0
    assert many.of_the_registry(2) == pytest.approx(2 * many.of_the_registry(1))
    assert many.of_a_router(200.0) > many.of_a_router(100.0)


@pytest.mark.parametrize(("section", "lines"), [("loads", 19), ("day", 8)])
def test_prints_a_table(section, lines, capsys):
    cluster_simulation.main(["--only", section, "--images", "40"])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == lines + 1
    assert printed[-1] == ""
