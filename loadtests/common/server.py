"""A server in a process of its own."""

import asyncio
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vimserve.loadtests.common.client import is_ready

READY_S = 600
STOP_S = 600


SERVE = ("vimserve.server", "serve", "--host", "127.0.0.1", "--port", "0", "--log-level", "info")


class ServerProcess:
    """``python -m vimserve.server serve`` on a free port of the loopback, or another server.

    Args:
        flags: besides those of ``command``.
        log: file to write what the process prints to, among it ``listening on`` its address.
        command: the server's module and flags.
        ready: path of the server that answers 200 once it is ready.

    Attributes:
        url: without a slash at the end; empty until the server is ready.
        pid: of the process.
    """

    def __init__(
        self,
        flags: Sequence[str],
        log: Path,
        command: Sequence[str] = SERVE,
        ready: str = "/readyz",
    ) -> None:
        self._log = log
        self._ready = ready
        self._terminated = False
        arguments = [sys.executable, "-m", *command, *flags]
        with log.open("wb") as output:
            self._process = subprocess.Popen(arguments, stderr=output, stdout=output)  # noqa: S603
        self.pid = self._process.pid
        self.url = ""

    def wait_until_ready(self) -> None:
        """Return once the server is ready for requests; not to be called within an event loop.

        Raises:
            RuntimeError: with what the process printed, if it ends or takes longer than
                ``READY_S``.
        """
        end = time.monotonic() + READY_S
        while time.monotonic() < end and self._process.poll() is None:
            found = re.search(r"listening on (http://[\d.:]+)", self.log)
            if found and asyncio.run(is_ready(found[1], self._ready)):
                self.url = found[1]
                return
            time.sleep(0.1)
        raise RuntimeError(f"the server did not become ready: {self.log.strip()[-2000:]}")

    @property
    def log(self) -> str:
        """What the process has printed so far."""
        return self._log.read_text(errors="replace")

    def terminate(self) -> None:
        """Tell the process to end, at most once: a second signal would cut its requests short."""
        if not self._terminated and self._process.poll() is None:
            self._terminated = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End the process, by force after ``STOP_S``.

        Returns:
            Its exit status, negative if a signal ended it.
        """
        self.terminate()
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextmanager
def serving(
    flags: Sequence[str] = (), command: Sequence[str] = SERVE, ready: str = "/readyz"
) -> Iterator[ServerProcess]:
    """Start a server and wait until it is ready; it ends with the block.

    The arguments are those of ``ServerProcess``.

    Raises:
        RuntimeError: if it does not become ready.
    """
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(flags, Path(folder, "log"), command, ready)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()
