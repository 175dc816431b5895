"""The CPU threads of forward passes: a fixed number, or one that adapts to what other processes do.

``torch.set_num_threads`` tells all of PyTorch's libraries and this project's kernels, for the
calling thread. After a pass the number is again what it was before, so that a program's other work
keeps its threads. Passes that run side by side divide the threads, and each gets more or fewer
while it runs as others end or begin (``kernels.thread_limit``).
"""

import functools
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, TypeVar

import torch

from vimserve.kernels.thread_limit import ThreadLimit
from vimserve.model.cpus import usable_cpus
from vimserve.model.thread_policy import ThreadPolicy

logger = logging.getLogger(__name__)

LOG_EVERY_S = 60.0

T = TypeVar("T")


class _Pass(threading.local):
    """The pass that the calling thread runs."""

    def __init__(self) -> None:
        self.policy: ThreadPolicy | None = None
        self.work = 0
        self.limit: ThreadLimit | None = None


class _Process:
    """What holds for the whole process."""

    adapts = True
    most = 0  # that a pass may use if it runs alone
    in_use = 0  # threads of the latest pass
    logged_threads = 0
    logged_at = -float("inf")
    # What passes learnt, by the most threads and the magnitude of their work. One that runs takes
    # its policy out, so another beside it begins to learn anew.
    policies: ClassVar[dict[tuple[int, int], ThreadPolicy]] = {}
    latest: ClassVar[dict[int, int]] = {}  # threads of the latest pass by the most


_pass = _Pass()


def use_threads(fixed: int | None) -> int:
    """Choose the threads of forward passes in this process.

    Args:
        fixed: a number of threads; None to adapt it, up to the CPUs that the process may use.

    Returns:
        The largest number that a pass will use.
    """
    most = fixed or usable_cpus()
    torch.set_num_threads(most)
    _Process.adapts = fixed is None
    _Process.most, _Process.in_use = most, 0
    return most


def threads_in_use() -> int:
    """Threads of the latest forward pass on a CPU; before the first, the largest number."""
    return _Process.in_use or torch.get_num_threads()


@contextmanager
def adaptive_threads(device: torch.device, work: int) -> Iterator[None]:
    """Run a forward pass on as many threads as are best at present; see ``each_block``.

    Inside of another pass this changes nothing.

    Args:
        device: that the model computes on; threads matter on a CPU.
        work: what one block computes, in any unit; passes of about the same work learn together.
    """
    if device.type != "cpu" or not _Process.adapts or _pass.policy is not None:
        yield
        return
    before = torch.get_num_threads()
    _pass.work = work
    _take_policy(before)
    try:
        yield
    finally:
        _set_threads(before)
        _show(_leave_policy())


@contextmanager
def limited_threads(limit: ThreadLimit) -> Iterator[None]:
    """Run what the calling thread computes on so many threads as the limit allows meanwhile."""
    _pass.limit, limit.followed = limit, limit.threads
    _set_threads(limit.followed)
    try:
        yield
    finally:
        _pass.limit = None


def follow_limit() -> ThreadLimit | None:
    """Let the number of threads change, between two parts of a forward pass.

    Returns:
        The limit, if there is one.
    """
    limit = _pass.limit
    if limit is not None and limit.threads != limit.followed:
        limit.followed = limit.threads
        if _pass.policy is None:
            _set_threads(limit.followed)
        else:
            _leave_policy()
            _take_policy(limit.followed)
    return limit


def each_block(blocks: Iterable[T]) -> Iterator[T]:
    """The blocks of a model, which do equal work; in between the number of threads may change.

    What a pass does after its blocks runs on the number that is thought best.
    """
    if _pass.policy is None and _pass.limit is None:
        yield from blocks
        return
    blocks = list(blocks)
    policy = None
    for done, block in enumerate(blocks):
        follow_limit()
        if _pass.policy is not None and _pass.policy is not policy:
            policy = _pass.policy
            policy.begin(time.monotonic(), len(blocks) - done)
        start, busy = time.perf_counter(), time.thread_time()
        yield block
        if policy is not None:
            seconds, busy_s = time.perf_counter() - start, time.thread_time() - busy
            _set_threads(policy.end_block(seconds, busy_s))
    if policy is not None:
        _set_threads(policy.threads)


def _set_threads(threads: int) -> None:
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def _take_policy(most: int) -> None:
    """Go on with what has been learnt of passes like the one that runs."""
    most = min(most, _usable_cpus())
    policy = _Process.policies.pop((most, _pass.work.bit_length()), None)
    if policy is None:
        # Whatever disturbs one size of passes disturbs the others too.
        policy = ThreadPolicy(most, _Process.latest.get(most, most), time.monotonic())
    _pass.policy = policy
    _set_threads(policy.threads)


def _leave_policy() -> ThreadPolicy:
    policy, _pass.policy = _pass.policy, None
    assert policy is not None
    _Process.policies[policy.most, _pass.work.bit_length()] = policy
    _Process.latest[policy.most] = policy.threads
    return policy


def _show(policy: ThreadPolicy) -> None:
    now, used = time.monotonic(), policy.threads
    _Process.in_use = used
    if policy.most < _Process.most:
        return  # it shares the CPUs with another pass
    first = not _Process.logged_threads and used == policy.most
    if first or used == _Process.logged_threads or now < _Process.logged_at + LOG_EVERY_S:
        return
    _Process.logged_threads, _Process.logged_at = used, now
    logger.info("forward passes now use %d of %d CPU threads, the fastest", used, policy.most)


_usable_cpus = functools.cache(usable_cpus)
