import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import torch

from tests.kernels.cases import scan_inputs
from vimserve.kernels.selective_scan import cpu


def test_many_threads_may_run_kernels_and_pytorch_at_once() -> None:
    """A thread pool that is not made for it aborts the process here."""
    inputs = scan_inputs([50, 81], 64, 16, 4, 2)
    matrix = torch.randn(200, 200)
    expected = cpu.selective_scan(**inputs, reverse=(False, True))

    def work(_: int) -> bool:
        torch.mm(matrix, matrix)
        return torch.equal(cpu.selective_scan(**inputs, reverse=(False, True)), expected)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))


def test_kernels_run_on_the_threads_of_pytorch() -> None:
    """One OpenMP library in the process, and no thread beside PyTorch's."""
    script = """
import os, re, torch
from vimserve.kernels.conv1d import cpu
torch.set_num_threads(3)
a = torch.randn(600, 600); a @ a
before = len(os.listdir("/proc/self/task"))
cpu.conv1d(torch.randn(900, 64), torch.ones(1, 64, 4), torch.ones(1, 64),
           torch.tensor([0, 900], dtype=torch.int32), (False,))
libraries = set(re.findall(r"/lib[gi]?omp[^/]*$", open("/proc/self/maps").read(), re.MULTILINE))
print(len(os.listdir("/proc/self/task")) - before, len(libraries))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["0", "1"]


def test_compiled_kernels_are_kept_on_disk(tmp_path: object) -> None:
    script = "import time; t = time.perf_counter(); import kernels.selective_scan.cpu as m; \
print(m._scan._cache_hits)"
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin"}
    hits = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            env=environment,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert hits == ["0", "1"]
