"""What a process holds and uses, as Linux tells it."""

import os
from collections import defaultdict
from contextlib import suppress
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


def thread_cpu_seconds(pid: int) -> dict[str, float]:
    """Seconds of processor time of the threads that process ``pid`` has now, by their names.

    Threads of one name count together; what others have used that have ended is left out.

    Raises:
        OSError: if there is no such process.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for folder in Path("/proc", str(pid), "task").iterdir():
        with suppress(OSError):  # it has just ended
            name = (folder / "comm").read_text().rstrip("\n")
            seconds[name] += _seconds((folder / "stat").read_text())
    return dict(seconds)


def descendants(pid: int) -> list[int]:
    """The processes that process ``pid`` has started, those that they have started, and so on."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(_fields(file.read_text())[1])
            children.setdefault(parent, []).append(int(file.parent.name))
    found, left = [], [pid]
    while left:
        own = children.get(left.pop(), [])
        found += own
        left += own
    return found


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time that all threads of process ``pid`` have used, in the kernel too.

    Raises:
        OSError: if there is none.
    """
    return _seconds(Path("/proc", str(pid), "stat").read_text())


def _seconds(stat: str) -> float:
    user, system = map(int, _fields(stat)[11:13])
    return (user + system) / os.sysconf("SC_CLK_TCK")


def _fields(stat: str) -> list[str]:
    # The name comes before the last bracket, and may hold spaces and brackets.
    return stat.rpartition(")")[2].split()
