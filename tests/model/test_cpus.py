"""Quotas of control groups, read from folders like those of the kernel."""

import os
from pathlib import Path

import pytest

from vimserve.model import cpus
from vimserve.model.cpus import cpu_quota, usable_cpus

VERSION_2 = "30 24 0:26 {root} {at} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
CPU = "31 24 0:27 {root} {at} rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct"
MEMORY = "32 24 0:28 {root} {at} rw,nosuid shared:11 - cgroup cgroup rw,memory"
DISK = "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


class Kernel:
    """The files of one process and of its groups, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.process = folder / "proc"
        self.process.mkdir()
        self.tree = folder / "control groups"
        self.mounts: list[str] = [DISK]

    def mount(self, kind: str, name: str, root: str = "/") -> Path:
        at = str(self.tree / name).replace(" ", r"\040")
        self.mounts.append(kind.format(root=root, at=at))
        return self.tree / name

    def quota(self, *groups: str) -> float | None:
        (self.process / "cgroup").write_text("".join(group + "\n" for group in groups))
        (self.process / "mountinfo").write_text("".join(mount + "\n" for mount in self.mounts))
        return cpu_quota(self.process)


@pytest.fixture
def kernel(tmp_path):
    return Kernel(tmp_path)


def limit_2(group: Path, quota: str) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "cpu.max").write_text(f"{quota} 100000\n")


def limit_1(group: Path, quota: int, period: int = 100_000) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (group / "cpu.cfs_period_us").write_text(f"{period}\n")


def test_version_2(kernel):
    group = kernel.mount(VERSION_2, "unified") / "pod" / "server"
    limit_2(group, "150000")
    assert kernel.quota("0::/pod/server") == 1.5
    limit_2(group, "max")
    assert kernel.quota("0::/pod/server") is None


def test_version_1(kernel):
    group = kernel.mount(CPU, "cpu,cpuacct") / "pod"
    limit_1(group, 25_000, 50_000)
    assert kernel.quota("5:memory:/other", "4:cpu,cpuacct:/pod", "0::/") == 0.5
    limit_1(group, -1)
    assert kernel.quota("5:memory:/other", "4:cpu,cpuacct:/pod", "0::/") is None


@pytest.mark.parametrize(("outer", "inner", "quota"), [(2, 3, 2), (3, 2, 2), (2, None, 2)])
def test_the_smallest_limit_of_nested_groups_counts(kernel, outer, inner, quota):
    top = kernel.mount(VERSION_2, "unified")
    limit_2(top / "a", str(outer * 100_000))
    limit_2(top / "a" / "b" / "c", "max" if inner is None else str(inner * 100_000))
    assert kernel.quota("0::/a/b/c") == quota


def test_both_versions_at_once(kernel):
    """As a hybrid system mounts them: the tree of version 2 has no limits, or smaller ones."""
    limit_1(kernel.mount(CPU, "cpu") / "a", 300_000)
    limit_1(kernel.mount(MEMORY, "memory") / "a", 100_000)
    unified = kernel.mount(VERSION_2, "unified")
    assert kernel.quota("2:cpu,cpuacct:/a", "1:memory:/a", "0::/b") == 3
    limit_2(unified / "b", "200000")
    assert kernel.quota("2:cpu,cpuacct:/a", "1:memory:/a", "0::/b") == 2


def test_a_container_sees_its_own_group_as_the_root_of_the_mount(kernel):
    limit_1(kernel.mount(CPU, "cpu", root="/docker/abc"), 200_000)
    assert kernel.quota("4:cpu,cpuacct:/docker/abc") == 2


@pytest.mark.parametrize("path", ["/../elsewhere", "/elsewhere"])
def test_a_group_outside_the_mount_is_bound_by_its_root(kernel, path):
    limit_1(kernel.mount(CPU, "cpu", root="/docker/abc"), 200_000)
    assert kernel.quota(f"4:cpu,cpuacct:{path}") == 2


def test_without_control_groups_there_is_no_quota(kernel):
    assert kernel.quota() is None
    assert cpu_quota(kernel.process / "absent") is None


@pytest.mark.parametrize(
    ("quota", "expected"), [(None, 3), (0.2, 1), (1.0, 1), (1.5, 2), (2.5, 3), (64, 3)]
)
def test_a_quota_is_rounded_up_and_affinity_bounds_it(monkeypatch, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7})
    monkeypatch.setattr(cpus, "cpu_quota", lambda: quota)
    assert usable_cpus() == expected
