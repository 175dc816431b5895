"""One pool of threads for PyTorch and the kernels, and nothing compiled twice."""

import errno
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.kernels.cases import scan_inputs
from tests.paths import ROOT
from tests.patience import PATIENCE_S
from vimserve.kernels import openmp
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
libraries = set(re.findall(r"/lib[gi]?omp[^/\\n]*$", open("/proc/self/maps").read(), re.MULTILINE))
print(json.dumps({
    "more threads": len(os.listdir("/proc/self/task")) - before,
    "libraries": len(libraries),
    "from disk": scan._scan._cache_hits,
}))
"""

WITHOUT_A_CACHE = """
import torch
from vimserve.kernels.add_norm import cpu
from vimserve.kernels.conv1d import cpu as conv1d
out, _ = cpu.add_norm(torch.full((2, 16), 3.0), None, torch.ones(16))
print(cpu.__file__, *out.square().mean(1).round(decimals=3).tolist())
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


@pytest.fixture
def no_folder(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Sources beside which nothing can be written, and variables with which nowhere else can."""
    package = tmp_path / "vimserve"
    shutil.copytree(ROOT / "kernels", package / "kernels", ignore=shutil.ignore_patterns("__py*"))
    (package / "__init__.py").touch()
    for folder in (package / "kernels").rglob("*/"):
        (folder / "__pycache__").touch()  # a file where a folder would be, for root as well
    nowhere = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "NUMBA_CACHE_DIR": os.devnull}
    return tmp_path, os.environ | nowhere | {"PYTHONDONTWRITEBYTECODE": "1"}


def test_where_nothing_can_be_written_kernels_run_and_the_log_says_it_once(
    no_folder: tuple[Path, dict[str, str]],
) -> None:
    folder, environment = no_folder
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_CACHE],
        capture_output=True, text=True, check=True, timeout=PATIENCE_S, cwd=folder, env=environment,
    )  # fmt: skip
    file, *norm = done.stdout.split()
    assert Path(file).is_relative_to(folder)
    assert list(map(float, norm)) == [1.0, 1.0]
    assert done.stderr.count("\n") == 1
    assert "set NUMBA_CACHE_DIR to a folder that can be written" in done.stderr


def test_a_full_disk_keeps_no_kernel_from_running(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def save(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def count(a):
        while openmp.next_task(a) >= 0:
            pass

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", save)
    openmp._say_uncached.cache_clear()
    openmp.Kernel(openmp.task_loop(count))(5)
    assert "NUMBA_CACHE_DIR" in caplog.text
