"""Runs ``vimserve predict`` on a scene in a process of its own, and watches it."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.05


@dataclass(frozen=True)
class Outcome:
    """A run that has ended.

    Attributes:
        seconds: in all.
        rows_a_second: rows of windows, from the first to the last one that it noted; None if there
            are fewer than three.
        peak_bytes: the most memory that was resident in the process.
        status: that it ended with; negative for a signal.
        rows: that were joined.
    """

    seconds: float
    rows_a_second: float | None
    peak_bytes: int
    status: int
    rows: int


def run(arguments: Sequence[str], output: Path, kill_at: int | None = None) -> Outcome:
    """Run ``vimserve predict`` to its end, or kill it when so many rows are joined."""
    began = time.monotonic()
    command = [sys.executable, "-m", "vimserve.server", "predict", *arguments, "-o", str(output)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
    noted: dict[int, float] = {}
    peak = 0
    state = output.with_name(output.name + ".partial") / "state.json"
    while process.poll() is None:
        peak = max(peak, _peak_bytes(process.pid))
        rows = _rows(state)
        if rows is not None:
            noted.setdefault(rows, time.monotonic())
        if kill_at is not None and (rows or 0) >= kill_at:
            process.kill()
        time.sleep(EVERY_S)
    first, last = min(noted, default=0), max(noted, default=0)
    known = sorted(rows for rows in noted if rows > first)
    rate = None
    if len(known) > 1:
        rate = (known[-1] - known[0]) / (noted[known[-1]] - noted[known[0]])
    return Outcome(time.monotonic() - began, rate, peak, process.returncode, last)


def _peak_bytes(pid: int) -> int:
    """The kernel's high-water mark; 0 if the process has just ended."""
    try:
        status = Path("/proc", str(pid), "status").read_text()
    except OSError:
        return 0
    marks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(marks[0]) if marks else 0


def _rows(state: Path) -> int | None:
    try:
        return json.loads(state.read_text())["rows"]
    except (OSError, ValueError):
        return None
