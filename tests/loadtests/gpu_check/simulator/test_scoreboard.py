"""The scoreboard issues as the rules say, on loops that can be counted by hand."""

import pytest

from vimserve.loadtests.gpu_check.simulator.sass import Instruction
from vimserve.loadtests.gpu_check.simulator.scoreboard import (
    SPECIAL_CYCLES,
    SPECIAL_LATENCY,
    Units,
    cycles_per_round,
    occupancy,
)

WIDE, NARROW = Units(float_cycles=1, load_bytes=128), Units(float_cycles=2, load_bytes=64)
PRODUCT = Instruction("FMUL R0, R1, R2")
EXPONENTIAL = Instruction("MUFU.EX2 R0, R1")


def cycles(loop: list[Instruction], warps: int = 1, latency: int = 300, units: Units = WIDE) -> int:
    result = cycles_per_round(loop, warps, latency, units)
    assert result == round(result)
    return round(result)


def test_one_instruction_a_cycle() -> None:
    assert cycles([PRODUCT] * 10) == 10
    assert cycles([PRODUCT] * 10, warps=3) == 30


def test_half_as_many_lanes_take_twice_as_long() -> None:
    assert cycles([PRODUCT] * 10, units=NARROW) == 20


def test_stall_counts_delay_their_own_warp_only() -> None:
    loop = [Instruction("FMUL R0, R0, R2", stall=4)] * 10

    assert cycles(loop) == 40
    assert cycles(loop, warps=2) == 40
    assert cycles(loop, warps=8) == 80


@pytest.mark.parametrize("warps", [1, 2, 4])
def test_special_functions_share_their_unit(warps: int) -> None:
    assert cycles([EXPONENTIAL] * 19, warps) == 19 * SPECIAL_CYCLES * warps


def test_a_chain_of_exponentials_waits_for_each() -> None:
    loop = [Instruction("MUFU.EX2 R0, R0", stall=1, result=2, waits=(2,))] * 5

    assert cycles(loop) == 5 * SPECIAL_LATENCY
    assert cycles(loop, warps=2) == 5 * SPECIAL_LATENCY
    assert cycles(loop, warps=4) == 5 * 4 * SPECIAL_CYCLES


def test_a_load_that_is_used_at_once_costs_its_latency() -> None:
    load = Instruction("LDG.E R0, desc[UR6][R2.64]", stall=1, result=0)
    used = Instruction("FMUL R1, R0, R0", stall=4, waits=(0,))

    assert cycles([load, used], latency=300) == 304
    assert cycles([load, used], warps=4, latency=300) <= 304 + 3 * 4  # one port for four loads


def test_a_load_for_the_next_round_is_hidden_by_this_one() -> None:
    load = Instruction("LDG.E R0, desc[UR6][R2.64]", stall=1, result=0)
    used = Instruction("FMUL R1, R0, R0", stall=1, waits=(0,))
    work = [PRODUCT] * 298

    assert cycles([used, load, *work], latency=250) == 300
    assert cycles([used, load, *work], latency=400) == 401


def test_loads_write_a_register_of_every_lane_after_the_other() -> None:
    load = Instruction("LDG.E.128.CONSTANT R0, desc[UR6][R2.64]")

    # 32 lanes × 16 bytes for each of four schedulers.
    assert cycles([load] * 4) == 4 * 4 * 32 * 16 // 128
    assert cycles([load] * 4, units=NARROW) == 4 * 4 * 32 * 16 // 64


def test_occupancy_adds_up_what_each_unit_does() -> None:
    loop = [PRODUCT, EXPONENTIAL, EXPONENTIAL, Instruction("IADD3 R0, R1, R2, RZ")]

    assert occupancy(loop, WIDE) == {"issue": 4, "float": 1, "special": 16, "integer": 2}
