"""An event loop whose time does not pass while anything happens, and jumps when nothing does."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.patience import PATIENCE_S

R = TypeVar("R")


class _Selector(selectors.DefaultSelector):
    passed = 0.0

    def select(self, timeout=None):
        ready = super().select(PATIENCE_S if timeout is None else 0)
        if not ready:
            assert timeout is not None, "nothing will ever happen"
            self.passed += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed


def run(work: Coroutine[Any, Any, R]) -> R:
    """As ``asyncio.run``; it must not wait for other threads or processes."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


def now() -> float:
    return asyncio.get_running_loop().time()
