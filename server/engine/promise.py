"""Futures between threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def promise() -> Future[T]:
    """A future that its waiters cannot cancel; they can only stop waiting."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    return future


def call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call ``function`` in the event loop, from another thread, unless the loop is closed."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function)
