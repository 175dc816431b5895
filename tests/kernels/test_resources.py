"""Every kernel that serving can launch compiles without spills, and the scan's loop is short."""

import pytest
import torch
import triton

from tests.kernels.resources import (
    ARCHITECTURES,
    CASES,
    TABLE,
    Case,
    compile_case,
    hot_loop,
    table,
    usages,
)
from vimserve.loadtests.gpu_check.simulator.cards import CARDS
from vimserve.loadtests.gpu_check.simulator.sass import disassemble
from vimserve.loadtests.gpu_check.simulator.scoreboard import cycles_per_round


def test_no_kernel_spills() -> None:
    reports = usages()

    assert len(reports) == len(CASES) * len(ARCHITECTURES)
    assert not {key: use for key, use in reports.items() if use.stack_bytes}
    # Turing, the oldest architecture served, lends a program 64 KiB.
    assert max(use.shared_bytes for use in reports.values()) <= 64 * 1024
    if f"Triton {triton.__version__};" in TABLE.read_text():
        assert TABLE.read_text() == table(reports), "run python -m tests.kernels.resources"


@pytest.fixture(scope="module")
def loops() -> dict[tuple[int, int], list[str]]:
    """The scan's hot loop on sm_90 by width and states: one token of a thread's one channel."""
    return {
        (D, S): hot_loop(compile_case(Case("walk_outputs", torch.bfloat16, D, S), 90))
        for D, S in [(192, 16), (192, 8), (384, 16)]
    }


def test_instructions_per_state(loops: dict[tuple[int, int], list[str]]) -> None:
    """The floor is 5: two multiplications, two fused multiply-adds, one exponential."""
    inner_step = (len(loops[192, 16]) - len(loops[192, 8])) / 8
    # From Vim-Ti to Vim-S the rank grows by 12, which is Vim-Ti's own.
    dt_projection = (len(loops[384, 16]) - len(loops[192, 16])) / 16
    everything = len(loops[192, 16]) / 16
    print(f"per state {inner_step}, dt projection {dt_projection}, loop {everything}")

    assert inner_step <= 6
    # Of which 1.5 are what it costs to load a token ahead and to prefetch.
    assert everything - dt_projection <= 10
    assert everything <= 11


def test_nothing_but_the_exponentials_of_the_mathematics(
    loops: dict[tuple[int, int], list[str]],
) -> None:
    exponentials = [line for line in loops[192, 16] if "MUFU.EX2" in line]

    assert len(exponentials) == 16 + 1 + 1  # the states, softplus, the gate


def test_states_stay_in_registers(loops: dict[tuple[int, int], list[str]]) -> None:
    """All that a loop moves is x, z and rows of dt, B and C in, and one output."""
    code = [line.split()[1] if line.startswith("@") else line.split()[0] for line in loops[192, 16]]

    assert not [name for name in code if name.startswith(("LDL", "STL", "LDS", "STS", "SHFL"))]
    assert sum(name.startswith("STG") for name in code) == 1
    assert sum(name.startswith("LDG") for name in code) == 2 + (12 + 16 + 16) // 4


def test_simulated_cycles_of_a_token() -> None:
    """Bounds with a tenth of air; ``docs/gpu.md`` has the figures of every architecture."""
    loop = disassemble(compile_case(Case("walk_outputs", torch.bfloat16, 192), 90)).hot_loop()
    card = CARDS["H100"]
    cycles = {
        (warps, latency): cycles_per_round(loop, warps, latency, card.units)
        for warps in (1, 4)
        for latency in (card.l2_latency, card.memory_latency)
    }
    print(cycles)

    assert cycles[1, card.l2_latency] <= 690
    assert cycles[1, card.memory_latency] <= 930
    assert cycles[4, card.l2_latency] <= 920
    assert cycles[4, card.memory_latency] <= 1030
