"""Futures between threads."""

from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def promise() -> Future[T]:
    """A future that its waiters cannot cancel; they can only stop waiting."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    return future
