"""The number of threads during forward passes, and after them."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import cast

import pytest
import torch

from vimserve.kernels.thread_limit import ThreadLimit
from vimserve.model import threads
from vimserve.model.batch import PackedBatch
from vimserve.model.deit import DeiT
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.resnet.config import ResNetConfig
from vimserve.model.families.resnet.model import ResNet
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.threads import (
    adaptive_threads,
    each_block,
    follow_limit,
    limited_threads,
    threads_in_use,
    use_threads,
)
from vimserve.model.upernet import UPerNetSegmenter
from vimserve.model.vim import Vim

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Alternating:
    """A policy that wants one thread after every second block, and one for the rest."""

    most = 2
    blocks = 0

    def __init__(self, most: int, threads: int, now: float) -> None:
        self.threads = 1
        self.begun_with = (most, threads)
        self.ended: list[tuple[float, float]] = []

    def begin(self, now: float, blocks: int) -> None:
        self.blocks = blocks

    def end_block(self, seconds: float, busy_s: float) -> int:
        self.ended.append((seconds, busy_s))
        return 2 if len(self.ended) % 2 else 1


class Steady(Alternating):
    """A policy that wants as many threads as it may have."""

    def __init__(self, most: int, threads: int, now: float) -> None:
        super().__init__(most, threads, now)
        self.most = self.threads = most

    def end_block(self, seconds: float, busy_s: float) -> int:
        super().end_block(seconds, busy_s)
        return self.threads


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch):
    """Two CPUs, whatever this machine has, and nothing learnt."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "_usable_cpus", lambda: 2)
    monkeypatch.setattr(threads, "usable_cpus", lambda: 2)
    monkeypatch.setattr(threads, "ThreadPolicy", Alternating)
    nothing = {
        "adapts": True, "in_use": 0, "logged_threads": 0, "logged_at": -float("inf"),
        "policies": {}, "latest": {},
    }  # fmt: skip
    for name, value in nothing.items():
        monkeypatch.setattr(threads._Process, name, value)
    use_threads(None)
    yield
    torch.set_num_threads(before)


def counted(blocks=5, device=CPU, work=100):
    """Threads of every block and of what follows them."""
    with adaptive_threads(device, work):
        return [torch.get_num_threads() for _ in each_block(range(blocks))] + [
            torch.get_num_threads()
        ]


def learnt() -> list[Alternating]:
    return list(cast("dict[object, Alternating]", threads._Process.policies).values())


def test_blocks_run_on_the_number_that_the_policy_says():
    assert counted() == [1, 2, 1, 2, 1, 1]
    assert torch.get_num_threads() == 2
    assert threads_in_use() == 1


def test_each_block_is_timed():
    counted()
    (policy,) = learnt()
    assert policy.blocks == len(policy.ended) == 5
    assert all(0 <= busy_s <= seconds + 0.01 for seconds, busy_s in policy.ended)


def test_the_number_is_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), adaptive_threads(CPU, 1):
        assert [1 / (1 - number) for number in each_block(range(3))]
    assert torch.get_num_threads() == 2
    assert counted() == [1, 2, 1, 2, 1, 1]


def test_a_fixed_number_stays():
    assert use_threads(2) == 2
    assert counted() == [2] * 6
    assert threads_in_use() == 2


def test_more_threads_than_cpus_if_they_are_fixed():
    assert use_threads(3) == 3
    assert counted() == [3] * 6


def test_by_default_all_usable_cpus_are_the_most():
    assert use_threads(None) == threads_in_use() == torch.get_num_threads() == 2


def test_a_program_that_sets_more_threads_than_cpus_gets_no_more_than_those():
    torch.set_num_threads(4)
    counted()
    (policy,) = learnt()
    assert policy.begun_with == (2, 2)
    assert torch.get_num_threads() == 4


def test_a_gpu_needs_no_threads():
    assert counted(device=GPU) == [2] * 6
    assert threads_in_use() == 2


def test_blocks_outside_of_a_pass_run_as_they_are():
    assert [torch.get_num_threads() for _ in each_block(range(3))] == [2, 2, 2]


def test_a_pass_inside_another_one_belongs_to_it():
    with adaptive_threads(CPU, 1):
        inner = counted(work=1000)
        assert torch.get_num_threads() == 1
    assert inner == [1, 2, 1, 2, 1, 1]
    assert len(learnt()) == 1


def test_sizes_learn_apart_and_a_new_one_begins_where_the_latest_is():
    counted(work=100)
    counted(work=120)
    counted(work=1000)
    assert [p.begun_with for p in learnt()] == [(2, 2), (2, 1)]


def test_any_thread_goes_on_with_what_others_learnt():
    counted()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(counted).result() == [1, 1, 2, 1, 2, 1]  # the sixth block is even
    (policy,) = learnt()
    assert len(policy.ended) == 10


def test_passes_at_once_do_not_share_what_they_learn():
    with adaptive_threads(CPU, 100), ThreadPoolExecutor(1) as pool:
        pool.submit(counted).result()
        (other,) = learnt()
        assert len(other.ended) == 5
    (policy,) = learnt()
    assert policy is not other


def test_a_pass_follows_a_limit_that_changes_and_learns_apart_for_each(monkeypatch):
    monkeypatch.setattr(threads, "ThreadPolicy", Steady)
    limit = ThreadLimit(1)
    with limited_threads(limit), adaptive_threads(CPU, 100):
        had = []
        for limit.threads in each_block((1, 2, 2, 1)):
            had.append(torch.get_num_threads())
        limit.threads = 2
        follow_limit()
        had.append(torch.get_num_threads())
    assert had == [1, 1, 2, 2, 2]
    assert {policy.most: len(policy.ended) for policy in learnt()} == {1: 2, 2: 2}


def test_a_fixed_number_follows_a_limit_too():
    use_threads(2)
    limit = ThreadLimit(2)
    with limited_threads(limit), adaptive_threads(CPU, 100):
        had = [torch.get_num_threads() for limit.threads in each_block((1, 2, 1))]
        follow_limit()
        assert torch.get_num_threads() == 1
    assert had == [2, 1, 2]


def test_a_change_is_logged_once(caplog):
    with caplog.at_level(logging.INFO, threads.logger.name):
        for _ in range(3):
            counted()
    assert caplog.messages == ["forward passes now use 1 of 2 CPU threads, the fastest"]


def small(family):
    """A model of a few blocks that runs them one by one, as a Vim of one kernel does not."""
    torch.manual_seed(0)
    deit = DeiTConfig(width=64, heads=1, depth=4, num_classes=0)
    return {
        "vim": lambda: Vim(VimConfig(width=64, depth=6, num_classes=5, bidirectional="layer")),
        "deit": lambda: DeiT(replace(deit, num_classes=5)),
        "upernet": lambda: UPerNetSegmenter(deit, (0, 1, 2, 3), 32, 5),
        "resnet": lambda: ResNet(ResNetConfig(blocks=(1, 2, 5, 1), width=8, inner=8)),
    }[family]().eval()


@pytest.mark.parametrize("family", ["vim", "deit", "upernet", "resnet"])
def test_a_model_gives_the_same_answers_while_its_threads_change(family):
    model = small(family)
    config = model.config
    image = torch.randint(256, (3, 64, 96), dtype=torch.uint8)
    batch = PackedBatch.from_images([image], config.patch_size, config.stride)
    wanted = [(64, 96)]
    adapted = model.answer(batch, wanted).outputs[0]
    (policy,) = learnt()
    assert len(policy.ended) == policy.blocks > 2
    use_threads(2)
    torch.testing.assert_close(adapted, model.answer(batch, wanted).outputs[0])
