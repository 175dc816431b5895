"""What CUDA's errors leave behind, on a real card: each is raised in a process of its own.

A gate's error counts what turned out differently: whether the error is taken for a lack of memory,
whether it is taken for the loss of the device, and whether the device then still computes.
``python -m vimserve.loadtests.gpu_check.error_gates CASE`` is such a process; it prints JSON.
"""

import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from vimserve.loadtests.gpu_check.gates import DEVICE, Gate
from vimserve.model.device_errors import is_broken, is_out_of_memory

TOO_MANY_BYTES = 1 << 50
FAR_AWAY = 1 << 40  # float32 numbers behind a tensor's first
SIDE = 256  # of a square whose transposition needs more shared memory than any multiprocessor has
MOST_ROWS = 65_535  # programs in a grid's second dimension
PATIENCE_S = 60.0
SOON_S = 0.01


@triton.jit
def _store(to, at):
    tl.store(to + at, 1.0)


@triton.jit
def _transpose(to, N: tl.constexpr):
    i = tl.arange(0, N)
    square = to + i[:, None] * N + i[None, :]
    tl.store(square, tl.trans(tl.load(square)))


@dataclass(frozen=True)
class Case:
    """How to raise an error, and what it should say and leave behind."""

    provoke: Callable[[], object]
    full: bool = False
    lost: bool = False

    @property
    def findings(self) -> dict[str, bool]:
        """What a process should find."""
        return {"full": self.full, "lost": self.lost, "computes": not self.lost}


def _fill_the_allocator() -> None:
    torch.empty(TOO_MANY_BYTES, dtype=torch.uint8, device=DEVICE)


def _fill_without_the_allocator() -> None:
    torch.ones(1, device=DEVICE)
    major = (torch.version.cuda or "").partition(".")[0]
    runtime = ctypes.CDLL(f"libcudart.so.{major}")  # PyTorch's own, which is loaded already
    runtime.cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(TOO_MANY_BYTES))
    torch.ones(1, device=DEVICE)  # PyTorch asks after each launch for the thread's last error


def _store_far_away() -> None:
    _store[(1,)](torch.zeros(1, device=DEVICE), FAR_AWAY)


def _until_triton_fails() -> None:
    here = torch.zeros(1, device=DEVICE)
    _store[(1,)](here, FAR_AWAY)
    end = time.monotonic() + PATIENCE_S / 2
    while time.monotonic() < end:
        time.sleep(SOON_S)
        _store[(1,)](here, 0)
    raise TimeoutError("Triton launches kernels on a lost device")


def _index_beyond_the_end() -> None:
    torch.zeros(1, device=DEVICE)[torch.full((1,), FAR_AWAY, device=DEVICE)]


def _ask_for_too_many_rows() -> None:
    _store[1, MOST_ROWS + 1](torch.zeros(1, device=DEVICE), 0)


def _ask_for_too_much_shared_memory() -> None:
    _transpose[(1,)](torch.zeros(SIDE, SIDE, device=DEVICE), N=SIDE, num_warps=16)


CASES = {
    "memory in PyTorch's allocator": Case(_fill_the_allocator, full=True),
    "memory outside PyTorch's allocator": Case(_fill_without_the_allocator, full=True),
    "illegal access, found by PyTorch": Case(_store_far_away, lost=True),
    "illegal access, found by Triton": Case(_until_triton_fails, lost=True),
    "index beyond the end": Case(_index_beyond_the_end, lost=True),
    "grid beyond its limit": Case(_ask_for_too_many_rows),
    "kernel beyond the shared memory": Case(_ask_for_too_much_shared_memory),
}


def error_gates() -> Iterator[Gate]:
    """Raise every error, all side by side, and compare what they left behind with what is right."""
    module = [sys.executable, "-m", "vimserve.loadtests.gpu_check.error_gates"]
    pipe = subprocess.PIPE
    processes = {
        name: subprocess.Popen([*module, name], stdout=pipe, stderr=pipe, text=True)  # noqa: S603
        for name in CASES
    }
    end = time.monotonic() + PATIENCE_S
    for name, process in processes.items():
        try:
            out, err = process.communicate(timeout=max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        yield judged(name, out, err)


def judged(name: str, out: str, err: str) -> Gate:
    """The gate of the case ``name``, from what its process printed and complained of."""
    expected = CASES[name].findings
    try:
        found = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        last = (err.splitlines() or ["no word"])[-1]
        return Gate(f"error: {name} (nothing was found: {last})", len(expected), 0)
    wrong = [key for key, right in expected.items() if found[key] != right]
    said = f" (wrong: {', '.join(wrong)}, after {found['said']})" if wrong else ""
    return Gate(f"error: {name}{said}", len(wrong), 0)


def find(case: Case) -> dict[str, str | bool]:
    """Raise the error of this case; what it is taken for, and whether the device then computes."""
    try:
        case.provoke()
        torch.cuda.synchronize(DEVICE)
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return {
            "said": said,
            "full": is_out_of_memory(error),
            "lost": is_broken(error, DEVICE),
            "computes": _computes(),
        }
    return {"said": "nothing was raised", "full": False, "lost": False, "computes": _computes()}


def _computes() -> bool:
    try:
        return torch.ones(2, device=DEVICE).sum().item() == 2
    except RuntimeError:
        return False


if __name__ == "__main__":
    print(json.dumps(find(CASES[sys.argv[1]])), flush=True)
