import mmap
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vimserve.model import device_memory as memory
from vimserve.model.device_memory import (
    PeakMeter,
    Usage,
    held_bytes,
    release_unused,
    usage,
)

CPU = torch.device("cpu")
MB = 1 << 20
NO_LIMIT = resource.RLIM_INFINITY


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that writes files of a made-up machine with 1000 MB available."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (NO_LIMIT, NO_LIMIT))

    def write(path: str, text: object) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    write("proc/meminfo", f"MemTotal: 9999999 kB\nMemAvailable: {1000 * 1024} kB\nHugePages: 0")
    write("proc/self/status", "Name:\tserver\nVmSize: 300 kB\nVmData: 200 kB\nVmRSS: 100 kB")
    return write


def filled(size: int) -> mmap.mmap:
    """Fresh pages from the kernel, each of them written: an allocator might use old ones again."""
    pages = mmap.mmap(-1, size)
    for page in range(0, size, mmap.PAGESIZE):
        pages[page] = 1
    return pages


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="for Linux")
def test_peak_of_the_resident_set():
    filled(200 * MB).close()  # an earlier peak, which must not show
    kept = filled(20 * MB)
    peaks = []
    for _ in range(5):  # the kernel may take idle pages back at any moment
        with PeakMeter(CPU) as meter:
            filled(50 * MB).close()
        peaks.append(meter.bytes)
    assert any(48 * MB < peak < 60 * MB for peak in peaks), peaks
    with PeakMeter(CPU) as meter:
        pass
    assert meter.bytes < 5 * MB
    kept.close()


def test_a_mark_that_cannot_be_reset_reads_too_high_not_too_low(machine):
    machine("proc/self/clear_refs/is_a_directory", "")
    machine("proc/self/status", "VmHWM: 900 kB\nVmRSS: 100 kB")
    with PeakMeter(CPU) as meter:
        machine("proc/self/status", "VmHWM: 900 kB\nVmRSS: 400 kB")
    assert meter.bytes == 800 * 1024


def test_the_mark_is_reset(machine):
    machine("proc/self/clear_refs", "")
    with PeakMeter(CPU):
        assert (memory.PROC / "self/clear_refs").read_text() == "5"


def test_without_proc_the_growth_of_the_mark_is_told(machine, monkeypatch):
    (memory.PROC / "self/status").unlink()
    marks = iter([1000, 1500])
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=next(marks)))
    with PeakMeter(CPU) as meter:
        pass
    assert meter.bytes == 500 * 1024


def test_the_peak_is_told_when_the_block_fails():
    with pytest.raises(KeyError), PeakMeter(CPU) as meter:
        raise KeyError
    assert meter.bytes >= 0


def test_peak_on_a_gpu(monkeypatch):
    calls = []  # type: ignore[var-annotated]
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", calls.append)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 170)
    device = torch.device("cuda", 1)
    with PeakMeter(device) as meter:
        assert calls == [device]
    assert meter.bytes == 70


def test_the_memory_of_one_gpu_among_several(monkeypatch):
    def segment(device, pool, size, active):
        return {"device": device, "segment_pool_id": pool, "total_size": size,
                "active_size": active}  # fmt: skip

    segments = [
        segment(0, (0, 0), 7000, 0),
        segment(1, (0, 0), 300, 100),
        segment(1, (0, 0), 50, 0),
        segment(1, (3, 0), 400, 10),
        segment(1, (0, 2), 40, 0),
    ]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda include_traces: segments)
    assert usage(torch.device("cuda", 1)) == Usage(free=1250, held=100, graphs=440)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert usage(torch.device("cuda")) == Usage(free=8000, held=0, graphs=0)


def test_free_is_what_the_machine_has_available(machine):
    assert usage(CPU).free == 1000 * MB


def test_free_without_proc_is_what_the_process_leaves(machine):
    (memory.PROC / "meminfo").unlink()
    assert 0 < usage(CPU).free < 1 << 50


def test_free_in_a_control_group(machine):
    machine("proc/self/cgroup", "0::/pod/server")
    machine("cgroup/pod/server/memory.max", "max")
    machine("cgroup/pod/memory.max", 500 * MB)
    machine("cgroup/pod/memory.current", 400 * MB)
    machine("cgroup/pod/memory.stat", f"anon {100 * MB}\ninactive_file {250 * MB}")
    assert usage(CPU).free == 350 * MB


def test_free_in_a_container_whose_group_is_the_root(machine):
    machine("proc/self/cgroup", "0::/../../docker/0123")
    machine("cgroup/memory.max", 500 * MB)
    machine("cgroup/memory.current", 400 * MB)
    machine("cgroup/memory.stat", "inactive_file 0")
    assert usage(CPU).free == 100 * MB


def test_free_in_a_control_group_of_version_1(machine):
    machine("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/0123\n0::/")
    machine("cgroup/memory/memory.limit_in_bytes", 500 * MB)
    machine("cgroup/memory/memory.usage_in_bytes", 400 * MB)
    machine("cgroup/memory/memory.stat", f"inactive_file 0\ntotal_inactive_file {50 * MB}")
    assert usage(CPU).free == 150 * MB


@pytest.mark.parametrize(
    ("limit", "free"), [(resource.RLIMIT_AS, 700 * 1024), (resource.RLIMIT_DATA, 800 * 1024)]
)
def test_free_under_a_limit_of_the_process(machine, monkeypatch, limit, free):
    limits = {limit: (1000 * 1024, NO_LIMIT)}
    monkeypatch.setattr(
        resource, "getrlimit", lambda which: limits.get(which, (NO_LIMIT, NO_LIMIT))
    )
    assert usage(CPU).free == free


def test_nothing_is_free_beyond_a_limit(machine, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, NO_LIMIT))
    assert usage(CPU).free == 0


def test_free_on_this_machine():
    release_unused(CPU)
    assert 10 * MB < usage(CPU).free < 1 << 50


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="for Linux")
def test_memory_that_was_kept_counts_above_what_was_held_before():
    peaks = []
    for _ in range(5):  # the kernel may take idle pages back at any moment
        held = held_bytes(CPU)
        kept = filled(50 * MB)
        with PeakMeter(CPU, held) as meter:
            pass
        peaks.append(meter.bytes)
        kept.close()
    assert any(48 * MB < peak < 60 * MB for peak in peaks), peaks
