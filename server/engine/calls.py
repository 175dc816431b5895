"""Functions that other threads want run in the device's thread."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from vimserve.server.engine.promise import promise
from vimserve.server.errors import NotReady

T = TypeVar("T")


class Calls:
    """Functions that wait to be run, true if there are any. Any thread may add one."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._ended = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, function: Callable[[], T]) -> Future[T]:
        """A future of the function's result; it fails with ``NotReady`` if ``end`` comes first."""
        future: Future[T] = promise()
        self._waiting.append((function, future))
        if self._ended:
            self.end()
        return future

    def run_one(self, run: Callable[[Callable[[], Any]], Any]) -> None:
        """Run the oldest by ``run(function)``."""
        function, future = self._waiting.popleft()
        try:
            future.set_result(run(function))
        except Exception as error:
            future.set_exception(error)

    def end(self) -> None:
        """Refuse those that wait, and all that come."""
        self._ended = True
        while self._waiting:
            _, future = self._waiting.popleft()
            future.set_exception(NotReady("the server is stopping"))
