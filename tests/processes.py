"""Processes of their own, forked from one that has imported already what takes seconds."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Self, TypeVar

from tests.patience import PATIENCE_S
from vimserve.server.__main__ import main

T = TypeVar("T")

OPERATIONS = (
    "add_norm", "conv1d", "cut_rgbx", "nms", "paste_masks", "roi_align", "selective_scan",
    "upsample_add", "upsample_argmax",
)  # fmt: skip
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tests.processes",
        "vimserve.server.commands.serve",
        *(f"vimserve.kernels.{operation}.cpu" for operation in OPERATIONS),
        "torch._dynamo",  # PyTorch imports it when a model is built on the meta device
    ]
)


def in_a_process(function: Callable[..., T], *arguments: Any) -> T:
    """What a function of a module returns in a process of its own."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_call, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        assert receiver.poll(PATIENCE_S), "waited too long"
        result: T = receiver.recv()
    finally:
        process.kill()
        process.join()
    return result


class Command:
    """``vimserve ARGUMENTS``, which has ended when the block is left.

    Attributes:
        log: its lines on standard error, as they come.
    """

    def __init__(self, *arguments: str) -> None:
        receiver, sender = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_run, args=(sender, arguments))
        self._process.start()
        sender.close()
        self.log = os.fdopen(os.dup(receiver.fileno()))
        receiver.close()
        self._hang = threading.Timer(PATIENCE_S, self._process.kill)
        self._hang.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hang.cancel()
        self._process.kill()
        self._process.join()
        self.log.close()

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def ended(self) -> tuple[int, str]:
        """Exit status, and the rest of the log."""
        rest = self.log.read()
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode, rest


def _call(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    sender.send(function(*arguments))


def _run(log: Connection, arguments: tuple[str, ...]) -> None:
    from vimserve.server.http import server

    server.CLIENT_TIMEOUT_S = PATIENCE_S
    os.dup2(log.fileno(), sys.stderr.fileno())
    sys.exit(main(arguments))
