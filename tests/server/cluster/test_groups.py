"""Which replicas the settings ask for, and what is wrong with them in one line."""

import pytest

from vimserve.server.cluster.groups import Machine, layout_of, layout_on_demand
from vimserve.server.config.cluster import ClusterConfig

TWO_CPUS = [Machine(2)]
EIGHT_GPUS = [Machine(64, 8)]


def groups(machines, **settings):
    layout = layout_of(ClusterConfig(**settings), machines)
    return [(one.name, one.models, one.least, one.most) for one in layout.groups]


def test_by_default_one_replica_has_the_machine():
    layout = layout_of(ClusterConfig(model=("demo",)), [Machine(16)])
    assert [(one.least, one.most) for one in layout.groups] == [(1, 1)]
    assert (layout.cpus, layout.gpus, layout.neighbours) == (16, 0, 1)


def test_by_default_there_is_one_for_each_gpu():
    layout = layout_of(ClusterConfig(model=("demo",), device="cuda"), [*EIGHT_GPUS, Machine(8, 4)])
    assert [(one.least, one.most) for one in layout.groups] == [(12, 12)]
    assert (layout.cpus, layout.gpus, layout.spare) == (2, 1, False)


@pytest.mark.parametrize(
    ("replicas", "threads", "machines", "cpus"),
    [
        ("2", None, TWO_CPUS, 1),
        ("1-2", None, TWO_CPUS, 1),
        ("2", None, [Machine(7)], 3),
        ("3", None, [Machine(8), Machine(4)], 4),
        ("2", 3, [Machine(8)], 3),
        ("auto", 2, [Machine(8), Machine(3)], 2),
    ],
)
def test_replicas_share_the_cpus(replicas, threads, machines, cpus):
    layout = layout_of(ClusterConfig(replicas=replicas, threads=threads), machines)
    assert layout.cpus == cpus


def test_there_may_be_room_for_one_more():
    assert layout_of(ClusterConfig(replicas="2", threads=1), [Machine(3)]).spare
    assert not layout_of(ClusterConfig(replicas="2"), TWO_CPUS).spare


def test_on_machines_that_are_not_there_yet():
    layout = layout_on_demand(ClusterConfig(replicas="1-4", device="cuda"))
    assert [(one.least, one.most) for one in layout.groups] == [(1, 4)]
    assert (layout.cpus, layout.gpus, layout.neighbours, layout.spare) == (1, 1, 1, False)
    assert layout_on_demand(ClusterConfig(replicas="2", threads=6)).cpus == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 2}, "replicas: say how many"),
        ({"replicas": "2"}, "threads: say how many CPUs"),
        ({"replicas": "2", "threads": 2, "placement": "other=1"}, "there is no model 'other'"),
    ],
)
def test_what_machines_that_are_not_there_cannot_tell(settings, message):
    with pytest.raises(ValueError, match=message):
        layout_on_demand(ClusterConfig(**settings))


def test_placement():
    asked = {"model": ("demo", "mine=./my.pth"), "placement": "mine=1-3,demo=2"}
    assert groups([Machine(8)], **asked) == [
        ("mine", ("mine=./my.pth",), 1, 3),
        ("demo", ("demo",), 2, 2),
    ]
    assert groups([Machine(8)], **asked | {"placement": ("mine=1-3", "demo=2")})


@pytest.mark.parametrize(
    ("settings", "machines", "message"),
    [
        (
            {"replicas": "9", "device": "cuda"},
            EIGHT_GPUS,
            "9 replicas need a GPU each, but there are 8 of them",
        ),
        ({"device": "cuda"}, TWO_CPUS, "1 replicas need a GPU each, but there are 0 of them"),
        ({"replicas": "3"}, TWO_CPUS, "3 replicas with 1 CPU threads each do not fit"),
        ({"replicas": "2", "threads": 2}, TWO_CPUS, "the machines have 2 CPUs, enough for 1"),
        ({"replicas": "none"}, TWO_CPUS, "replicas: a number of replicas is N, LEAST-MOST or auto"),
        ({"replicas": "0"}, TWO_CPUS, "not '0'"),
        ({"replicas": "3-2"}, TWO_CPUS, "not '3-2'"),
        ({"placement": "vim-small=1"}, TWO_CPUS, "placement: there is no model 'vim-small'"),
        ({"placement": "demo"}, TWO_CPUS, "placement: write MODEL=NUMBER, such as demo=2"),
        ({"placement": "demo=1"}, TWO_CPUS, "nothing would serve demo-seg, demo-det"),
        ({"placement": "demo=x"}, TWO_CPUS, "placement: a number of replicas"),
        (
            {"model": ("demo",), "placement": "demo=1,demo=1"},
            TWO_CPUS,
            "no model 'demo', or it is named twice",
        ),
    ],
)
def test_what_cannot_be(settings, machines, message):
    with pytest.raises(ValueError, match=message) as caught:
        layout_of(ClusterConfig(**settings), machines)
    assert "\n" not in str(caught.value)
