from typing import Any

import pytest
import torch

from tests.closeness import assert_close
from tests.kernels.cases import TURNS, make_turn
from vimserve.kernels.add_norm import cpu, naive
from vimserve.kernels.add_norm.turn import Turn


@pytest.mark.parametrize(("T", "D"), [(1, 16), (63, 192), (65, 48), (300, 384)])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("turns", TURNS)
def test_cpu_matches_reference(T: int, D: int, first: bool, turns: str) -> None:
    torch.manual_seed(T)
    hidden, weight = torch.randn(T, D), torch.randn(D)
    residual = None if first else torch.randn(T, D)

    turn = make_turn(T, D, turns)

    given = None if residual is None else residual.clone()
    normed, total = cpu.add_norm(hidden, given, weight, turn=turn)

    expected_normed, expected_total = naive.add_norm(hidden, residual, weight, turn=turn)
    assert_close("normed", normed, expected_normed, atol=4e-6 if turn else 2e-6)
    assert_close("total", total, expected_total, atol=2e-6 if turn else 1e-30)


def test_the_residual_is_updated_in_place() -> None:
    hidden, residual = torch.randn(5, 16), torch.randn(5, 16)
    before = residual.clone()

    _, total = cpu.add_norm(hidden, residual, torch.ones(16))

    assert total.data_ptr() == residual.data_ptr()
    assert torch.equal(residual, before + hidden)


@pytest.mark.parametrize("add_norm", [naive.add_norm, cpu.add_norm])
@pytest.mark.parametrize("residual_turns", [True, False])
def test_pairs_of_channels_turn(add_norm: Any, residual_turns: bool) -> None:
    """By the complex numbers of which they are the parts."""
    torch.manual_seed(0)
    hidden, residual = torch.randn(9, 32), torch.randn(9, 32)
    positions, rates = 13 * torch.rand(9, 2), torch.rand(2, 16)
    turn = Turn(positions, rates, residual_turns)

    _, total = add_norm(hidden, residual.clone(), torch.ones(32), turn=turn)

    def pairs(x: torch.Tensor) -> torch.Tensor:
        return torch.view_as_complex(x.double().unflatten(1, (16, 2)))

    phase = torch.exp(1j * (positions.double() @ rates.double()))
    expected = pairs(hidden) * phase + pairs(residual) * (phase if residual_turns else 1)
    assert_close("total", total, torch.view_as_real(expected).flatten(1), atol=1e-5)


@pytest.mark.parametrize("add_norm", [naive.add_norm, cpu.add_norm])
def test_a_token_without_a_position_stays(add_norm: Any) -> None:
    hidden, rates = torch.randn(3, 16), torch.rand(2, 8)
    _, total = add_norm(hidden, None, torch.ones(16), turn=Turn(torch.zeros(3, 2), rates, True))
    assert torch.equal(total, hidden)


def test_turning_leaves_the_hidden_state_as_it_was() -> None:
    hidden = torch.randn(5, 16)
    before = hidden.clone()
    cpu.add_norm(hidden, None, torch.ones(16), turn=make_turn(5, 16, "both"))
    assert torch.equal(hidden, before)


def test_large_angles_lose_no_more_than_their_own_precision() -> None:
    positions = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3e4, 0.0], [-3e4, 0.0], [0.0, 1e5]])
    rates = torch.ones(2, 8)
    hidden = torch.tensor([1.0, 0.0] * 8).expand(5, 16).contiguous()

    _, total = cpu.add_norm(hidden, None, torch.ones(16), turn=Turn(positions, rates, False))

    angles = positions.sum(1).double()
    expected = torch.stack((angles.cos(), angles.sin()), 1).repeat(1, 8)
    assert_close("cos and sin", total, expected, atol=1e-6)
