"""How much memory a device has left, and how much a piece of work takes at its peak."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

if sys.platform != "win32":
    import resource

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


class PeakMeter:
    """``with PeakMeter(device) as meter: ...``, then ``meter.bytes``.

    That is how far the device's peak during the block lies above what it held when the block began,
    or above ``held`` bytes. On a CPU it is the growth of the process's resident set, whichever
    thread caused it. Memory that the allocator kept from earlier work and uses again does not count
    as growth, unless ``held`` is from before that work or ``release_unused`` is called first.

    The high-water mark of the resident set is reset when the block begins. Where the kernel does
    not allow that, the mark of the process's whole life is taken, so that the figure is too high
    rather than too low. Without ``/proc``, the figure is how far the block raised that mark.
    """

    bytes: int

    def __init__(self, device: torch.device, held: int | None = None) -> None:
        self._device = device
        self._held = held

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            forget_highest_resident()
        self._before = held_bytes(self._device) if self._held is None else self._held
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device)
        else:
            peak = highest_resident()
        self.bytes = max(0, peak - self._before)


def held_bytes(device: torch.device) -> int:
    """What tensors hold of a GPU, or what is resident of this process."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status().get("VmRSS", highest_resident())


def release_unused(device: torch.device) -> None:
    """Give back what allocators keep of freed memory, where they can be told to."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True)
class Usage:
    """A device's memory, in bytes.

    Attributes:
        free: what can be allocated before the device, or a limit of this process, is exceeded.
        held: what this process's tensors hold of a GPU outside CUDA graphs; on a CPU 0.
        graphs: what CUDA graphs have set aside, used or not; nothing else may use it.
    """

    free: int
    held: int
    graphs: int


def usage(device: torch.device) -> Usage:
    """How much of the device is free and held.

    On a CPU, free is the least of the machine's available memory, what is left of the limits of the
    process's control groups (page cache that can be dropped counts as free), and what is left of
    its limits of address space and data.
    """
    if device.type != "cuda":
        return Usage(max(0, min([_available(), *_left_of_cgroups(), *_left_of_rlimits()])), 0, 0)
    index = torch.cuda.current_device() if device.index is None else device.index
    segments = torch.cuda.memory_snapshot(include_traces=False)
    segments = [segment for segment in segments if segment["device"] == index]
    ordinary = [segment for segment in segments if tuple(segment["segment_pool_id"]) == (0, 0)]
    reserved = sum(segment["total_size"] for segment in ordinary)
    held = sum(segment["active_size"] for segment in ordinary)
    free, _ = torch.cuda.mem_get_info(device)
    graphs = sum(segment["total_size"] for segment in segments) - reserved
    return Usage(free + reserved - held, held, graphs)


def _available() -> int:
    with suppress(OSError, KeyError):
        return _kilobytes(PROC / "meminfo")["MemAvailable"]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") - highest_resident()


def _left_of_cgroups() -> Iterator[int]:
    """Of every group that the process is in: a limit may be set at any level."""
    try:
        lines = (PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, names = CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = root / path.strip("/")
        # In a container the path may be the host's, and the container's own group the root here.
        for directory in (group, *group.parents):
            if directory.is_relative_to(root):
                with suppress(OSError, KeyError, ValueError):  # no such file, or the limit "max"
                    limit, used = (int((directory / name).read_text()) for name in names[:2])
                    yield limit - used + _cache(directory / "memory.stat", names[2])


def _cache(stat: Path, field: str) -> int:
    return int(dict(line.split() for line in stat.read_text().splitlines())[field])


def _left_of_rlimits() -> Iterator[int]:
    if sys.platform == "win32":
        return
    used = _status()
    for limit, field in (resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData"):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            yield soft - used.get(field, 0)


def _status() -> dict[str, int]:
    try:
        return _kilobytes(PROC / "self/status")
    except OSError:
        return {}


def _kilobytes(path: Path) -> dict[str, int]:
    """The fields that are in kB, in bytes."""
    lines = (line.split() for line in path.read_text().splitlines() if line.endswith("kB"))
    return {name.rstrip(":"): 1024 * int(size) for name, size, _ in lines}


def highest_resident() -> int:
    """The most bytes that were resident of this process since they were last forgotten, or ever."""
    if (peak := _status().get("VmHWM")) is not None:
        return peak
    if sys.platform == "win32":
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def forget_highest_resident() -> None:
    """Begin anew to note the most bytes that are resident, if the kernel allows it."""
    with suppress(OSError):
        (PROC / "self/clear_refs").write_text("5")
