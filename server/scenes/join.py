"""Runs a scene's windows through a model, and hands the results on in their order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from vimserve.model.slide import Window
from vimserve.server.scenes.grid import Grid

RGB = np.ndarray[Any, np.dtype[np.uint8]]
R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)

# A model's answer for a picture, uint8 [H, W, 3].
Ask = Callable[[RGB], Awaitable[R]]


class Joiner(Protocol[R_contra]):
    """Makes one result of those for the windows, in the files of a ``Partial``.

    What it holds in memory does not grow with the scene. What it has after ``end_row`` is on the
    disk, so that a new process goes on from there.
    """

    def add(self, window: Window, result: R_contra | None) -> None:
        """Take the result for the next window of a row; None if it shows nothing.

        Raises:
            OSError: if it cannot be written.
        """
        ...

    def end_row(self, number: int) -> None:
        """All windows of the row with this number were added; keep what the next rows need.

        Raises:
            OSError: if it cannot be written.
        """
        ...

    def finish(self, output: Path, form: str) -> None:
        """All rows were added; write the result.

        Args:
            output: the file, which appears when it is complete.
            form: its format, one of the task's.

        Raises:
            OSError: if it cannot be written.
        """
        ...


async def join(
    grid: Grid,
    first: int,
    read: Callable[[Window], RGB | None],
    ask: Ask[R],
    joiner: Joiner[R],
    at_once: int,
    tick: Callable[[], object],
) -> None:
    """Run all windows from one row on.

    Reading and joining happen in other threads; results are joined by one, in the order of the
    windows.

    Args:
        grid: the windows.
        first: number of the first row that was not joined yet.
        read: reads a window's picture; None if it shows nothing, which no model is asked about.
        ask: the model.
        joiner: takes the results.
        at_once: most windows between reading and joining.
        tick: is called after each window.

    Raises:
        ServerError: the error of the first window that cannot be answered.
        OSError: if the result cannot be written.
    """
    loop = asyncio.get_running_loop()
    waiting: deque[tuple[int, Window, bool, asyncio.Task[R | None]]] = deque()

    async def answer(window: Window) -> R | None:
        picture = await asyncio.to_thread(read, window)
        return None if picture is None else await ask(picture)

    async def next_joined() -> None:
        number, window, last, task = waiting.popleft()
        result = await task
        await loop.run_in_executor(thread, joiner.add, window, result)
        if last:
            await loop.run_in_executor(thread, joiner.end_row, number)
        tick()

    # A kernel that was called from many threads would keep threads of its own for each.
    thread = ThreadPoolExecutor(1, "join")
    try:
        for number in range(first, len(grid.tops)):
            for window in grid.row(number):
                if len(waiting) == at_once:
                    await next_joined()
                last = window.left == grid.lefts[-1]
                waiting.append((number, window, last, asyncio.create_task(answer(window))))
        while waiting:
            await next_joined()
    finally:
        tasks = [task for *_, task in waiting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        thread.shutdown()
