"""Predictions follow the card's rates, the shapes and the schedule."""

from dataclasses import replace

import pytest
import torch

from vimserve.loadtests.gpu_check.simulator.cards import CARDS
from vimserve.loadtests.gpu_check.simulator.launches import Launch
from vimserve.loadtests.gpu_check.simulator.predict import (
    FAST,
    SLOW,
    Range,
    compiled,
    on_device,
    on_host,
)
from vimserve.loadtests.gpu_check.simulator.scoreboard import cycles_per_round
from vimserve.loadtests.gpu_check.simulator.trace import Operation, Step, block
from vimserve.model.config import VIM_TINY

H100 = CARDS["H100"]
LATENCY_S = 2 * H100.memory_latency / H100.clock_hz


def steps(lengths: list[int]) -> dict[str, Step]:
    made = block(VIM_TINY, lengths, torch.bfloat16, H100.multiprocessors)
    return {step.name: step for step in made}


def test_a_scan_takes_the_cycles_of_its_tokens_for_each_wave() -> None:
    """3 channel blocks × 2 directions × 88 images are one program a multiprocessor and wave."""
    walk = steps([50] * 88 * 6)["walk_outputs"]
    assert isinstance(walk, Launch)
    assert walk.programs == 3 * 2 * 88 * 6
    code = compiled(walk, 90)
    resident = H100.resident_programs(4, code.usage.registers, 0)
    assert resident == 4
    loop = code.program.hot_loop()
    prefetched = any(instruction.prefetches for instruction in loop)
    latency = H100.l2_latency if prefetched else round(1.5 * H100.memory_latency)
    cycles = [
        cycles_per_round(loop, warps, latency, H100.units)
        for warps in (resident, 24 - 5 * resident)
    ]

    seconds = on_device([walk], H100).high
    expected = 50 * SLOW.crowded * (5 * cycles[0] + cycles[1]) / H100.clock_hz
    assert walk.programs == 24 * 132  # five waves of four programs a multiprocessor, and a sixth
    assert seconds == pytest.approx(expected + SLOW.start_s + LATENCY_S)


def test_a_long_sequence_is_predicted_in_chunks() -> None:
    launches = steps([6085])
    walks = [launches[name] for name in ("walk_states", "carry", "walk_outputs")]
    whole = steps([6085] * 64)["walk_outputs"]

    assert on_device(walks, H100).high < on_device([whole], H100).low / 10


def test_bytes_bound_what_only_moves_them() -> None:
    copy = Operation("add_", (2**30,), 3 * 2**31)
    seconds = on_device([copy], H100)

    assert seconds.low == pytest.approx(3 * 2**31 / (0.92 * 3350e9), rel=1e-2)
    assert seconds.high == pytest.approx(3 * 2**31 / (0.75 * 3350e9), rel=1e-2)
    fast = on_device([copy], replace(H100, bytes_per_s=2 * H100.bytes_per_s))
    assert fast.low == pytest.approx(seconds.low / 2, rel=1e-2)


def test_what_fits_the_cache_is_read_from_it_at_best() -> None:
    small = Operation("add_", (2**22,), 3 * 2**23)

    at_memory_rate = 3 * 2**23 / (0.92 * 3350e9)
    assert on_device([small], H100).low - FAST.start_s - LATENCY_S < at_memory_rate


def test_products_take_their_operations_and_few_tiles_fill_few_multiprocessors() -> None:
    large = Operation("linear", (2**16, 4096), 0, flops=2**41)
    one = Operation("linear", (128, 64), 0, flops=2**31)

    assert on_device([large], H100).low == pytest.approx(2**41 / (0.75 * 989e12), rel=1e-2)
    alone = 2**31 / (0.75 * 989e12 / 132)
    assert on_device([one], H100).low == pytest.approx(alone + FAST.start_s + LATENCY_S)


def test_the_host_takes_as_long_as_there_are_launches() -> None:
    nothing = Operation("add", (1,), 12)

    assert on_host([nothing] * 200).low == pytest.approx(200 * FAST.operation_s)


def test_ranges() -> None:
    seconds = Range(1e-3, 2e-3) + Range(1e-3, 3e-3)

    assert f"{seconds:.1f}" == "2.0–5.0"
    assert 3e-3 in seconds
    assert 6e-3 not in seconds
