"""The CPU threads of forward passes: a fixed number, or one that adapts to what other processes do.

``torch.set_num_threads`` tells all of PyTorch's libraries and this project's kernels, for the
calling thread. After a pass the number is again what it was before, so that a program's other work
keeps its threads.
"""

import functools
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from vimserve.model.cpus import usable_cpus
from vimserve.model.thread_policy import ThreadPolicy

logger = logging.getLogger(__name__)

LOG_EVERY_S = 60.0

T = TypeVar("T")


class _Passes(threading.local):
    """The passes of the calling thread; each thread has an OpenMP team of its own."""

    def __init__(self) -> None:
        self.policies: dict[tuple[int, int], ThreadPolicy] = {}
        self.running: ThreadPolicy | None = None
        self.threads = 0  # of the latest pass


class _Process:
    """What holds for the whole process."""

    adapts = True
    most = 0  # that a pass may use if it runs alone
    in_use = 0  # threads of the latest pass
    logged_threads = 0
    logged_at = -float("inf")


_passes = _Passes()


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
    if device.type != "cpu" or not _Process.adapts or _passes.running is not None:
        yield
        return
    before = torch.get_num_threads()
    policy = _passes.running = _policy(min(before, _usable_cpus()), work)
    _set_threads(policy.threads)
    try:
        yield
    finally:
        _passes.running = None
        _set_threads(before)
        _passes.threads = policy.threads
        _show(policy)


def each_block(blocks: Iterable[T]) -> Iterator[T]:
    """The blocks of a model, which do equal work; in between the number of threads may change.

    What a pass does after its blocks runs on the number that is thought best.
    """
    policy = _passes.running
    if policy is None:
        yield from blocks
        return
    blocks = list(blocks)
    policy.begin(time.monotonic(), len(blocks))
    for block in blocks:
        start, busy = time.perf_counter(), time.thread_time()
        yield block
        seconds, busy_s = time.perf_counter() - start, time.thread_time() - busy
        _set_threads(policy.end_block(seconds, busy_s))
    _set_threads(policy.threads)


def _set_threads(threads: int) -> None:
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def _policy(most: int, work: int) -> ThreadPolicy:
    key = most, work.bit_length()
    if key not in _passes.policies:
        # Whatever disturbs one size of passes disturbs the others too.
        likely = min(_passes.threads, most) or most
        _passes.policies[key] = ThreadPolicy(most, likely, time.monotonic())
    return _passes.policies[key]


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
