"""The thread that waits for passes, whose ends are events here."""

import contextlib
import queue
import threading
from collections.abc import Iterator

import pytest
import torch

from tests.patience import PATIENCE_S, wait_until
from vimserve.model.served import Answers
from vimserve.server.engine.runner import Pass
from vimserve.server.engine.watch import Watch


class Until(Pass):
    """A pass that lasts until ``end`` is set, and then may fail."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__(Answers.of_scores(torch.zeros(1, 7)))
        self.end = threading.Event()
        self.failure = failure

    def wait(self) -> None:
        assert self.end.wait(PATIENCE_S)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def told() -> queue.SimpleQueue[str]:
    """What the watch has told."""
    return queue.SimpleQueue()


@pytest.fixture
def watch(told: queue.SimpleQueue[str]) -> Iterator[Watch]:
    watch = Watch(torch.device("cpu"), lambda: told.put(threading.current_thread().name))
    yield watch
    watch.close()


def test_it_tells_each_end_when_it_comes(watch: Watch, told: queue.SimpleQueue[str]) -> None:
    passes = [Until(), Until()]
    ends = [watch.end_of(one) for one in passes]
    for one, ended in zip(passes, ends, strict=True):
        assert not ended.is_set()
        assert told.empty()
        one.end.set()
        assert told.get(timeout=PATIENCE_S) == "engine-watch"
        assert ended.is_set()


def test_a_pass_that_fails_has_ended(watch: Watch, told: queue.SimpleQueue[str]) -> None:
    failing, next_one = Until(RuntimeError("boom")), Until()
    ended = watch.end_of(failing)
    failing.end.set()
    told.get(timeout=PATIENCE_S)
    assert ended.is_set()
    next_one.end.set()
    assert watch.end_of(next_one).wait(PATIENCE_S)


@pytest.mark.parametrize("name", ["cuda:1", "cuda"])
def test_it_uses_its_device_and_ends_when_it_is_closed(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A device without a number is refused by ``torch.cuda.set_device``, but not here."""
    used: list[tuple[torch.device, threading.Thread]] = []

    @contextlib.contextmanager
    def on(device: torch.device) -> Iterator[None]:
        used.append((device, threading.current_thread()))
        yield

    monkeypatch.setattr(torch.cuda, "device", on)
    Watch(torch.device(name), lambda: None).close()
    wait_until(lambda: used)
    ((device, thread),) = used
    assert device == torch.device(name)
    assert thread.daemon
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
