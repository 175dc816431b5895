"""Tells when a pass has ended, to a thread that waits for something else as well."""

import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue

import torch

from vimserve.server.engine.runner import Pass


class Watch:
    """Waits for passes in a thread of its own.

    CUDA has no way to wait for an event and a condition at once. To ask the event again and again
    costs a core, or, with pauses, delays the answer by half a pause; to be called back by CUDA
    (``cudaLaunchHostFunc``) holds up the stream until Python has run.

    Args:
        device: the device that runs the passes.
        tell: called in the watch's thread after each pass that it has seen end.
    """

    def __init__(self, device: torch.device, tell: Callable[[], None]) -> None:
        self._device = device
        self._tell = tell
        self._passes: SimpleQueue[tuple[Pass, threading.Event] | None] = SimpleQueue()
        # It must not keep the process: on a device that hangs it waits for ever.
        threading.Thread(target=self._run, name="engine-watch", daemon=True).start()

    def end_of(self, result: Pass) -> threading.Event:
        """An event that is set when the pass has ended, or failed, which its outputs then tell."""
        ended = threading.Event()
        self._passes.put((result, ended))
        return ended

    def close(self) -> None:
        """End the thread, after the passes that it waits for."""
        self._passes.put(None)

    def _run(self) -> None:
        on_gpu = self._device.type == "cuda"
        # Otherwise this thread would make a context on the first GPU too.
        with torch.cuda.device(self._device) if on_gpu else contextlib.nullcontext():
            self._watch()

    def _watch(self) -> None:
        while (watched := self._passes.get()) is not None:
            result, ended = watched
            with contextlib.suppress(Exception):
                result.wait()
            ended.set()
            self._tell()
