"""What takes CPU time from a process: busy neighbours, and the quota of a control group."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vimserve.model.cpus import cpu_groups

PERIOD_US = 100_000  # of a quota: the kernel's default


@dataclass(frozen=True)
class Disturbance:
    """What shall disturb a process.

    Attributes:
        name: for tables.
        busy: processes that keep a core busy each.
        quota: CPUs' worth of time that the disturbed process gets; None for no limit.
    """

    name: str
    busy: int = 0
    quota: float | None = None


@contextmanager
def busy_processes(count: int) -> Iterator[list[int]]:
    """Run so many processes that do nothing but compute.

    Yields:
        Their ids.
    """
    with ExitStack() as stack:
        started = []
        for _ in range(count):
            process = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", "while True: pass"])
            )
            stack.callback(process.kill)
            started.append(process.pid)
        yield started


@contextmanager
def quota_group(cpus: float) -> Iterator[Path]:
    """A control group with a quota, inside the one that this process is in.

    A process enters it by writing its id to the group's ``cgroup.procs``; all must have left or
    ended before the context does.

    Raises:
        OSError: if none may be made here; usually that takes root, and version 2 of control groups
            wants a group without processes of its own to make it in.
    """
    quota_us = round(cpus * PERIOD_US)
    made = None
    for outer in cpu_groups():
        version_1 = (outer / "cpu.cfs_quota_us").exists() or (outer / "cpu.shares").exists()
        group = outer / f"vimserve-contention-{os.getpid()}"
        if not version_1 and "cpu" not in _words(outer / "cgroup.subtree_control"):
            continue
        group.mkdir()
        made = group
        break
    if made is None:
        raise OSError("no control group here hands CPU quotas on")
    try:
        if version_1:
            (made / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (made / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (made / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        yield made
    finally:
        made.rmdir()


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
