"""The gates for CUDA's errors: how they judge, and what of them shows without a GPU."""

import json
import subprocess
import sys

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from vimserve.loadtests.gpu_check import error_gates as gates
from vimserve.loadtests.gpu_check.error_gates import CASES, SIDE, Case, find, judged

MOST_SHARED = 227 * 1024  # bytes a block can have on Hopper and Blackwell, the most of any GPU
FULL = torch.AcceleratorError("CUDA error: out of memory")
LOST = RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered")


def printed(**found: bool | str) -> str:
    return json.dumps({"said": "what was said", "full": False, "lost": False, **found}) + "\n"


def test_what_was_expected_is_green() -> None:
    gate = judged(
        "illegal access, found by Triton", "noise\n" + printed(lost=True, computes=False), ""
    )
    assert gate.green
    assert gate.name == "error: illegal access, found by Triton"


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ({"lost": False, "computes": False}, "lost"),
        ({"lost": True, "computes": True}, "computes"),
        ({"full": True, "lost": True, "computes": False}, "full"),
    ],
)
def test_what_turned_out_differently_is_red_and_named(found: dict[str, bool], named: str) -> None:
    gate = judged("illegal access, found by Triton", printed(**found), "")
    assert not gate.green
    assert f"wrong: {named}, after what was said" in gate.name


@pytest.mark.parametrize("out", ["", "no JSON"])
def test_a_process_that_dies_is_red(out: str) -> None:
    gate = judged("grid beyond its limit", out, "first\nSegmentation fault")
    assert not gate.green
    assert "Segmentation fault" in gate.name


@pytest.mark.parametrize("error", [FULL, LOST])
def test_a_process_tells_what_the_error_is_taken_for(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def provoke() -> None:
        raise error

    monkeypatch.setattr(gates, "DEVICE", torch.device("cpu"))
    assert find(Case(provoke)) == {
        "said": f"{type(error).__name__}: {error}",
        "full": error is FULL,
        "lost": error is LOST,
        "computes": True,
    }


def test_an_error_that_is_not_raised_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert find(Case(lambda: None))["said"] == "nothing was raised"


def test_no_gpu_can_transpose_the_square() -> None:
    kernel = gates._transpose
    assert isinstance(kernel, JITFunction)
    source = ASTSource(kernel, {"to": "*fp32", "N": "constexpr"}, {(1,): SIDE})
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 16})
    assert compiled.metadata.shared > MOST_SHARED


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_a_case_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "memory in PyTorch's allocator"
    monkeypatch.setattr(gates, "CASES", {name: CASES[name]})
    (gate,) = gates.error_gates()
    assert not gate.green
    assert "nothing was found" in gate.name


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=-1, stdout=-1, stderr=-1, text=True
    )
    monkeypatch.setattr(gates, "PATIENCE_S", 0.0)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: hang)
    monkeypatch.setattr(gates, "CASES", {"grid beyond its limit": CASES["grid beyond its limit"]})
    (gate,) = gates.error_gates()
    assert not gate.green
    assert hang.returncode


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_every_error_is_known() -> None:
    assert [gate.name for gate in gates.error_gates() if not gate.green] == []
