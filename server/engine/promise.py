"""Futures between threads."""

from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def promise() -> Future[T]:
    """A future that whoever waits for it can leave, but not cancel."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    return future
