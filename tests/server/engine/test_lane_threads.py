"""Which threads lanes have, without an engine."""

import threading

import pytest
import torch

from tests.patience import PATIENCE_S
from vimserve.server.engine.lanes import Lanes, wait_for_one
from vimserve.server.engine.runner import Pass


class Gate:
    """Passes that last until the gate opens, and then fail."""

    def __init__(self):
        self.open = threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self) -> Pass:
        self.threads.append(threading.current_thread())
        assert self.open.wait(PATIENCE_S)
        raise KeyError


def ended(thread):
    thread.join(PATIENCE_S)
    return not thread.is_alive()


def test_before_a_pass_gets_all_threads_the_other_lane_ends():
    told = threading.Semaphore(0)
    lanes = Lanes(4, told.release)
    first, threads = lanes.call(lambda: (threading.current_thread(), torch.get_num_threads()))
    assert threads == 4
    assert told.acquire(timeout=PATIENCE_S)
    gates = [Gate(), Gate()]
    passes = [lanes.start(gate) for gate in gates]
    assert not any(one.done for one in passes)
    lanes.widen()
    assert first.is_alive()
    gates[0].open.set()
    wait_for_one(passes)
    assert [one.done for one in passes] == [True, False]
    lanes.widen()
    assert ended(first)
    gates[1].open.set()
    for one in passes:
        with pytest.raises(KeyError):
            one.outputs()
        assert told.acquire(timeout=PATIENCE_S)
    alone = lanes.start(gates[1])
    alone.wait()
    assert told.acquire(timeout=PATIENCE_S)
    second, again = gates[1].threads
    assert again is second
    lanes.close()
    assert ended(second)
