"""One pool of threads for PyTorch and the kernels, and nothing compiled twice."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.kernels.cases import scan_inputs
from tests.paths import ROOT
from tests.patience import PATIENCE_S
from vimserve.kernels.selective_scan import cpu

SCRIPT = """
import json, os, re, torch
from vimserve.kernels.conv1d import cpu
from vimserve.kernels.selective_scan import cpu as scan
torch.set_num_threads(3)
a = torch.randn(600, 600); a @ a
before = len(os.listdir("/proc/self/task"))
cpu.conv1d(torch.randn(900, 64), torch.ones(1, 64, 4), torch.ones(1, 64),
           torch.tensor([0, 900], dtype=torch.int32), (False,))
libraries = set(re.findall(r"/lib[gi]?omp[^/]*$", open("/proc/self/maps").read(), re.MULTILINE))
print(json.dumps({
    "more threads": len(os.listdir("/proc/self/task")) - before,
    "libraries": len(libraries),
    "from disk": scan._scan._cache_hits,
}))
"""


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


@pytest.fixture(scope="module")
def another() -> dict[str, int]:
    """What another process sees, after this one has compiled the kernels."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True, text=True, check=True, timeout=PATIENCE_S, cwd=ROOT,
    )  # fmt: skip
    seen: dict[str, int] = json.loads(done.stdout)
    return seen


def test_kernels_run_on_the_threads_of_pytorch(another: dict[str, int]) -> None:
    """One OpenMP library in the process, and no thread beside PyTorch's."""
    assert (another["more threads"], another["libraries"]) == (0, 1)


def test_compiled_kernels_are_kept_on_disk(another: dict[str, int]) -> None:
    assert another["from disk"] == 1
