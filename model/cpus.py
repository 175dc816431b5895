"""How many CPUs this process may use: by its affinity and by the quotas of its control groups."""

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

OWN = Path("/proc/self")


def usable_cpus() -> int:
    """CPUs that this process may run on, and no more than its quota pays for, rounded up."""
    allowed = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return allowed if quota is None else min(allowed, max(1, math.ceil(quota)))


def cpu_quota(process: Path = OWN) -> float | None:
    """CPUs' worth of time that control groups grant a process; None if they set no limit.

    A group's limit binds the groups inside it, so the smallest counts, from the process's own group
    up to the outermost that can be seen. Both versions of control groups are read.

    Args:
        process: its folder in ``/proc``.
    """
    quotas = (quota for group in cpu_groups(process) for quota in _quotas(group))
    return min(quotas, default=None)


def cpu_groups(process: Path = OWN) -> Iterator[Path]:
    """Folders of the groups that may limit the CPU time of a process, in each tree its own first.

    The formats of both files are those of the manual pages cgroups(7) and proc_pid_mountinfo(5).
    """
    try:
        lines = (process / "cgroup").read_text().splitlines()
        mounts = (process / "mountinfo").read_text().splitlines()
    except OSError:  # not Linux, or a process that has ended
        return
    # Version 2 has one tree of groups, which names no controllers.
    paths = {
        controller: path
        for _, controllers, path in (line.split(":", 2) for line in lines)
        for controller in controllers.split(",")
        if controller in ("", "cpu")
    }
    for mount in mounts:
        fields, _, filesystem = mount.partition(" - ")
        root, folder = map(_unescape, fields.split()[3:5])
        kind, _, options = filesystem.split(maxsplit=2)
        controller = "" if kind == "cgroup2" else "cpu"
        if not kind.startswith("cgroup") or controller not in ["", *options.split(",")]:
            continue
        path = Path(paths.get(controller, root))
        # A group outside the mounted tree is seen as its root.
        inside = path.relative_to(root) if path.is_relative_to(root) else Path()
        while True:
            yield folder / inside
            if inside == Path():
                break
            inside = inside.parent


def _unescape(path: str) -> Path:
    """A path of ``mountinfo``, which has blanks as octal numbers."""
    return Path(re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), path))


def _quotas(group: Path) -> Iterator[float]:
    with suppress(OSError, ValueError):  # version 2; "max" is no number
        quota, period = map(int, (group / "cpu.max").read_text().split())
        yield quota / period
    with suppress(OSError, ValueError):  # version 1; -1 is no limit
        quota = int((group / "cpu.cfs_quota_us").read_text())
        if quota > 0:
            yield quota / int((group / "cpu.cfs_period_us").read_text())
