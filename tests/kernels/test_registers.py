"""What the scan's loop keeps in registers, and that it is right, on CPUs other than this one."""

import json
import os
import platform
import subprocess
import sys

import pytest

from tests.paths import ROOT
from tests.patience import PATIENCE_S

AVX2 = "+avx,+avx2,+fma,+f16c,+bmi,+bmi2"
AVX512 = f"{AVX2},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
TRY = """
import torch
from tests.closeness import assert_close
from tests.kernels.cases import RAGGED, scan_inputs
from vimserve.kernels import target
from vimserve.kernels.selective_scan import cpu, naive
both = False, True
inputs = scan_inputs(RAGGED["ragged"], 48, 16, 3, 2)
inputs["dt_bias"][:, :16] = 150  # decays of nothing
expected = naive.selective_scan(**inputs, reverse=both)
actual = cpu.selective_scan(**inputs, reverse=both)
assert_close("out", actual, expected, atol=2e-6 * expected.abs().max().item())
print(target.REGISTER_LANES)
"""


def run(arguments: list[str], cpu: str, features: str) -> str:
    settings = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT, env=os.environ | settings,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(platform.machine() != "x86_64", reason="runs code for x86-64")
@pytest.mark.parametrize(
    ("cpu", "features", "lanes"),
    [("haswell", AVX2, 8), ("x86-64", "", 4)],
    ids=["AVX2", "SSE2"],
)
def test_narrower_registers_give_the_same_result(cpu: str, features: str, lanes: int) -> None:
    assert int(run(["-c", TRY], cpu, features).split()[-1]) == lanes


@pytest.mark.parametrize(
    ("cpu", "features", "target", "most"),
    [
        ("skylake-avx512", AVX512, [], 0),
        ("haswell", AVX2, [], 9),
        ("x86-64", "", [], 20),
        ("x86-64", "", ["aarch64", "neoverse-n1"], 4),
    ],
    ids=["AVX-512", "AVX2", "SSE2", "ARM"],
)
def test_the_scan_leaves_its_states_in_registers(
    cpu: str, features: str, target: list[str], most: int
) -> None:
    """As far as there are enough of them; README.md explains the rest."""
    counted = json.loads(run(["-m", "tests.kernels.hot_loop", *target], cpu, features))
    assert counted["stored"] + counted["loaded"] <= most
    assert counted["calls"] == 0  # as fmaf would be, for every lane
