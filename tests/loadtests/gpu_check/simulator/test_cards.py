"""The cards' figures agree with each other, and programs fit as the manuals say."""

import pytest
import torch

from vimserve.loadtests.gpu_check.simulator.cards import CARDS, Card, of_architecture
from vimserve.loadtests.gpu_check.simulator.predict import FAST, SLOW


@pytest.mark.parametrize(
    ("registers", "programs"), [(128, 4), (129, 3), (168, 3), (100, 4), (96, 5), (32, 16)]
)
def test_registers_bound_resident_programs(registers: int, programs: int) -> None:
    assert CARDS["H100"].resident_programs(4, registers, 0) == programs


def test_turing_holds_half_as_many_warps() -> None:
    assert CARDS["T4"].resident_programs(4, 32, 0) == 8


def test_shared_memory_bounds_resident_programs() -> None:
    assert CARDS["H100"].resident_programs(4, 32, 20_000) == 3


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_tensor_rates_are_whole_operations_of_a_cycle(card: Card) -> None:
    """Each generation's matrix units do a power of two of multiply-adds a cycle."""
    per_cycle = card.tensor_flops / (2 * card.multiprocessors * card.clock_hz)
    nearest = min((256, 512, 1024, 2048), key=lambda power: abs(power - per_cycle))

    assert per_cycle == pytest.approx(nearest, rel=0.1)
    assert card.architecture in FAST.attention.keys() & SLOW.attention.keys()


def test_turing_has_no_bfloat16() -> None:
    assert CARDS["T4"].dtype == torch.float16
    assert CARDS["A10"].dtype == torch.bfloat16


def test_an_architecture_without_card_is_said_to_be_an_h100() -> None:
    assert of_architecture(89) == CARDS["L4"]
    assert of_architecture(120).architecture == 120
    assert of_architecture(120).multiprocessors == CARDS["H100"].multiprocessors
