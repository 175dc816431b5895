"""Runs of blocks against the operations that they are made of."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.closeness import assert_close
from tests.kernels.cases import RAGGED, TURNS, boundaries, make_turn
from vimserve.kernels.add_norm import Turn, naive
from vimserve.kernels.conv1d.naive import conv1d
from vimserve.kernels.selective_scan.naive import selective_scan
from vimserve.kernels.thread_limit import ThreadLimit
from vimserve.kernels.vim_blocks import BlockWeights, has_vim_blocks
from vimserve.kernels.vim_blocks.cpu import VimBlocks

D, E, S, R = 48, 96, 8, 3
EPS = 1e-5
DIRECTIONS = {
    "one": ((False,), (False,)),
    "back": ((True,), (True,)),
    "one convolution for both": ((False, True), (False,)),
    "both": ((False, True), (False, True)),
}


def make_block(directions: str, seed: int) -> BlockWeights:
    random = torch.Generator().manual_seed(seed)
    reverse, conv_reverse = DIRECTIONS[directions]
    K, C = len(reverse), len(conv_reverse)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random) * shape[-1] ** -0.5

    return BlockWeights(
        norm=1 + normal(D), in_proj=normal(2 * E, D), conv_weight=normal(C, E, 4),
        conv_bias=normal(C, E), conv_reverse=conv_reverse, x_proj=normal(C, R + 2 * S, E),
        dt_weight=normal(K, E, R), dt_bias=normal(K, E) - 3, A=-torch.exp(normal(K, E, S)),
        D=normal(K, E), reverse=reverse, out_proj=normal(D, E),
    )  # fmt: skip


def apart(
    blocks: Sequence[BlockWeights],
    hidden: Tensor,
    residual: Tensor | None,
    cu_seqlens: Tensor,
    turn: Turn | None,
) -> tuple[Tensor, Tensor]:
    for w in blocks:
        normed, residual = naive.add_norm(hidden, residual, w.norm, EPS, turn)
        x, z = F.linear(normed, w.in_proj).chunk(2, dim=1)
        convolved = conv1d(x, w.conv_weight, w.conv_bias, cu_seqlens, w.conv_reverse)
        K = len(w.reverse)
        dt, B, C = (convolved @ w.x_proj.mT).expand(K, -1, -1).split([R, S, S], 2)
        mixed = selective_scan(
            convolved.expand(K, -1, -1), dt, w.dt_weight, w.dt_bias, w.A, B, C, w.D, z, cu_seqlens,
            w.reverse,
        )  # fmt: skip
        hidden = F.linear(mixed, w.out_proj)
    assert residual is not None
    return hidden, residual


@pytest.mark.parametrize(
    ("directions", "turns", "lengths"),
    [
        *((directions, "nothing", lengths) for directions in DIRECTIONS for lengths in RAGGED),
        *(("both", turns, "single") for turns in TURNS[1:]),
    ],
)
def test_runs_match_the_operations(directions: str, turns: str, lengths: str) -> None:
    blocks = [make_block(directions, seed) for seed in range(3)]
    T, cu_seqlens = sum(RAGGED[lengths]), boundaries(RAGGED[lengths])
    hidden = torch.randn(T, D, generator=torch.Generator().manual_seed(T))
    turn = make_turn(T, D, turns)
    before, run = hidden.clone(), VimBlocks(blocks, EPS)

    middle, residual, _ = run(0, 2, hidden, None, cu_seqlens, turn)
    expected, _ = apart(blocks[:2], hidden.clone(), None, cu_seqlens, turn)
    assert_close("middle", middle, expected, atol=5e-5)
    end, stream, _ = run(2, 3, middle, residual, cu_seqlens, turn)

    assert torch.equal(hidden, before)
    assert stream.data_ptr() == residual.data_ptr()
    expected, expected_stream = apart(blocks, hidden.clone(), None, cu_seqlens, turn)
    assert_close("hidden", end, expected, atol=5e-5)
    assert_close("residual", stream, expected_stream, atol=5e-5)


@pytest.mark.parametrize("threads", [1, 7])
def test_any_number_of_threads_gives_the_same(threads: int) -> None:
    run = VimBlocks([make_block("both", seed) for seed in range(3)], EPS)
    hidden, cu_seqlens = torch.randn(90, D), boundaries([40, 50])
    expected, before = run(0, 3, hidden, None, cu_seqlens), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for _ in range(30):
            actual = run(0, 3, hidden, None, cu_seqlens)
            assert all(map(torch.equal, actual[:2], expected[:2]))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 7])
def test_a_run_ends_after_the_block_in_which_its_limit_changes(threads: int) -> None:
    run = VimBlocks([make_block("both", seed) for seed in range(3)], EPS)
    hidden, cu_seqlens = torch.randn(90, D), boundaries([40, 50])
    whole = run(0, 3, hidden, None, cu_seqlens)
    assert whole[2] == 3
    before, limit = torch.get_num_threads(), ThreadLimit(threads)
    torch.set_num_threads(threads)
    try:
        *unchanged, end = run(0, 3, hidden, None, cu_seqlens, None, limit)
        assert all(map(torch.equal, unchanged, whole[:2]))
        assert end == 3
        limit.threads += 1
        state: tuple[Tensor, Tensor | None, int] = hidden, None, 0
        for block in range(3):
            state = run(block, 3, *state[:2], cu_seqlens, None, limit)
            assert state[2] == block + 1
        assert_close("hidden", state[0], whole[0], atol=1e-6)
        assert state[1] is not None
        assert_close("residual", state[1], whole[1], atol=1e-6)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("norm", torch.ones(40), "D must be a multiple of 16, not 40"),
        ("A", torch.ones(2, E, 12), "S must be a multiple of 8, not 12"),
        ("in_proj", torch.ones(E, D), r"in_proj must be \[2 E, D\] = \[192, 48\], not \[96, 48\]"),
        ("x_proj", torch.ones(2, R + 2 * S, E).double(), "x_proj must be float32"),
        ("reverse", (True,), "there must be one convolution or 1"),
    ],
)
def test_weights_that_do_not_fit_are_refused(name: str, value: Any, message: str) -> None:
    block = dataclasses.replace(make_block("both", 0), **{name: value})
    with pytest.raises(ValueError, match=message):
        VimBlocks([block], EPS)


@pytest.mark.parametrize(
    ("hidden", "residual", "message"),
    [
        (torch.ones(9, D - 16), None, r"hidden must be \[T, D\] = \[9, 48\], not \[9, 32\]"),
        (torch.ones(9, D).half(), None, "hidden must be float32"),
        (torch.ones(9, D), torch.ones(8, D), "residual must be"),
        (torch.ones(9, 2 * D)[:, :D], None, "hidden must be contiguous"),
        (torch.ones(8, D), None, "cu_seqlens must end with T = 8, not 9"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(
    hidden: Tensor, residual: Tensor | None, message: str
) -> None:
    run = VimBlocks([make_block("both", 0)], EPS)
    with pytest.raises(ValueError, match=message):
        run(0, 1, hidden, residual, boundaries([9]))


def test_only_float32_on_a_cpu_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.delenv("VIMSERVE_KERNELS", raising=False)
    assert has_vim_blocks(cpu, torch.float32)
    assert not has_vim_blocks(cpu, torch.bfloat16)
    monkeypatch.setenv("VIMSERVE_KERNELS", "naive")
    assert not has_vim_blocks(cpu, torch.float32)
