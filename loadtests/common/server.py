"""A server in a process of its own."""

import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

READY_S = 600
STOP_S = 60


class ServerProcess:
    """``python -m vimserve.server serve`` with these flags, on a free port of the loopback.

    Attributes:
        url: without a slash at the end.
        pid: of the process.
    """

    def __init__(self, flags: Sequence[str], log: Path) -> None:
        self._log = log
        self._asked = False
        command = [sys.executable, "-m", "vimserve.server", "serve", *flags, "--host", "127.0.0.1"]
        command += ["--port", "0", "--log-level", "info"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stderr=output, stdout=output)  # noqa: S603
        self.pid = self._process.pid
        self.url = ""

    def wait_until_ready(self) -> None:
        """Return once the models are warm.

        Raises:
            RuntimeError: with what it wrote, if it ends or takes longer than ``READY_S``.
        """
        end = time.monotonic() + READY_S
        while time.monotonic() < end and self._process.poll() is None:
            found = re.search(r"listening on (http://[\d.:]+)", self.log)
            if found and _answers(f"{found[1]}/readyz"):
                self.url = found[1]
                return
            time.sleep(0.1)
        raise RuntimeError(f"the server did not become ready: {self.log.strip()[-2000:]}")

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def terminate(self) -> None:
        """Ask it to end, once: a second signal would cut short what is under way."""
        if not self._asked and self._process.poll() is None:
            self._asked = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it, by force after ``STOP_S``; its exit status, negative for a signal."""
        self.terminate()
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextmanager
def serving(flags: Sequence[str] = ()) -> Iterator[ServerProcess]:
    """A server that is ready; it has ended when the block is left.

    Raises:
        RuntimeError: if it does not become ready.
    """
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(flags, Path(folder, "log"))
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310, a URL of ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
