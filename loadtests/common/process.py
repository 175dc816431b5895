"""What a process holds and uses, as Linux tells it."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """The memory and handles that a process holds."""

    resident_bytes: int
    file_descriptors: int
    threads: int


def usage(pid: int) -> Usage:
    """What process ``pid`` holds now.

    Raises:
        OSError: if there is none, or it is not ours to look at.
    """
    folder = Path("/proc", str(pid))
    lines = (folder / "status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in status:
        raise ProcessLookupError(f"process {pid} has ended")
    return Usage(
        resident_bytes=int(status["VmRSS"].split()[0]) * 1024,
        file_descriptors=len(list((folder / "fd").iterdir())),
        threads=int(status["Threads"]),
    )


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time that all threads of process ``pid`` have used, in the kernel too.

    Raises:
        OSError: if there is none.
    """
    # The process's name comes before the last bracket, and may hold spaces and brackets.
    fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    user, system = map(int, fields[11:13])
    return (user + system) / os.sysconf("SC_CLK_TCK")
