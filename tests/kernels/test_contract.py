"""Bad operands are refused with the name of the culprit; the side-by-side form adds up."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.closeness import assert_close
from vimserve.kernels import triton_config
from vimserve.kernels.add_norm import Turn, add_norm
from vimserve.kernels.conv1d import conv1d
from vimserve.kernels.selective_scan import cpu, naive, selective_scan

T, E, S, R, K = 20, 48, 16, 3, 2


def scan_operands() -> dict[str, Any]:
    torch.manual_seed(0)
    dt, B, C = torch.randn(K, T, R + 2 * S).split([R, S, S], 2)
    return {
        "x": torch.randn(K, T, E),
        "dt": dt,
        "dt_weight": torch.randn(K, E, R),
        "dt_bias": torch.randn(K, E),
        "A": -torch.rand(K, E, S),
        "B": B,
        "C": C,
        "D": torch.randn(K, E),
        "z": torch.randn(T, E),
        "cu_seqlens": torch.tensor([0, 1, 3, 3, T], dtype=torch.int32),
        "reverse": (False, True),
    }


def conv_operands() -> dict[str, Any]:
    return {
        "x": torch.randn(T, E),
        "weight": torch.randn(K, E, 4),
        "bias": torch.randn(K, E),
        "cu_seqlens": torch.tensor([0, T], dtype=torch.int32),
        "reverse": (False, True),
    }


def norm_operands() -> dict[str, Any]:
    return {
        "hidden": torch.randn(T, E),
        "residual": torch.randn(T, E),
        "weight": torch.randn(E),
        "turn": Turn(torch.randn(T, 2), torch.randn(2, E // 2), residual=True),
    }


def boundaries(*values: int) -> Callable[[Tensor], Tensor]:
    return lambda _: torch.tensor(values, dtype=torch.int32)


def turned(**changes: Any) -> Callable[[Turn], Turn]:
    return lambda turn: dataclasses.replace(turn, **changes)


SCAN = [
    ("x", lambda x: x[0], "x must have three axes, not [20, 48]"),
    ("x", lambda x: x[..., :40], "the E of x must be a multiple of 16, not 40"),
    ("A", lambda A: A[..., :7], "the S of A must be a multiple of 8, not 7"),
    ("A", lambda A: A.half(), "A must be float32, not torch.float16"),
    ("B", lambda B: B[:, 1:], "B must be [K, T, S] = [2, 20, 16], not [2, 19, 16]"),
    ("C", lambda C: C.double(), "C must be float32 or float16 or bfloat16, not torch.float64"),
    ("C", lambda C: C.to("meta"), "C is on meta, but the other tensors are on cpu"),
    ("dt", lambda dt: dt.mT.contiguous().mT, "dt must have contiguous rows"),
    ("z", lambda z: z.bfloat16(), "z must be float32, not torch.bfloat16"),
    ("reverse", lambda _: (True,), "reverse must have one flag for each of the 2 directions"),
    ("cu_seqlens", lambda c: c.long(), "cu_seqlens must be int32, not torch.int64"),
    ("cu_seqlens", lambda c: c[:1], "cu_seqlens must be [N + 1] with N >= 1, not [1]"),
    ("cu_seqlens", boundaries(1, T), "cu_seqlens must begin with 0, not 1"),
    ("cu_seqlens", boundaries(0, 9, 5, T), "cu_seqlens must ascend, but [1] = 9 and [2] = 5"),
    ("cu_seqlens", boundaries(0, 9), "cu_seqlens must end with T = 20, not 9"),
]
CONV = [
    ("x", lambda x: x[:, :40], "x must be [T, E] with E a multiple of 16, not [20, 40]"),
    ("weight", lambda w: w[..., :3], "weight must be [K, E, 4] = [2, 48, 4], not [2, 48, 3]"),
    ("bias", lambda b: b[:1], "bias must be [K, E] = [2, 48], not [1, 48]"),
    ("cu_seqlens", boundaries(0, 9), "cu_seqlens must end with T = 20, not 9"),
]
NORM = [
    ("hidden", lambda h: h[0], "hidden must be [T, D], not [48]"),
    ("hidden", lambda h: torch.randn(T, 2 * E)[:, :E], "hidden must be contiguous"),
    ("residual", lambda r: r.half(), "residual must be float32, not torch.float16"),
    ("weight", lambda w: w[1:], "weight must be [D] = [48], not [47]"),
    ("turn", turned(positions=torch.zeros(T, 3)), "positions must be [T, 2] = [20, 2]"),
    ("turn", turned(positions=torch.zeros(T, 2).half()), "positions must be float32"),
    ("turn", turned(positions=torch.zeros(T, 4)[:, :2]), "positions must be contiguous"),
    ("turn", turned(rates=torch.zeros(2, E)), "rates must be [2, D / 2] = [2, 24], not [2, 48]"),
    ("turn", turned(rates=torch.zeros(2, E // 2).to("meta")), "rates is on meta"),
]


@pytest.mark.parametrize(
    ("operation", "operands", "name", "spoil", "message"),
    [(selective_scan, scan_operands, *case) for case in SCAN]
    + [(conv1d, conv_operands, *case) for case in CONV]
    + [(add_norm, norm_operands, *case) for case in NORM],
)
def test_bad_operand(
    operation: Callable[..., Any],
    operands: Callable[[], dict[str, Any]],
    name: str,
    spoil: Callable[[Any], Any],
    message: str,
) -> None:
    given = operands()
    given[name] = spoil(given[name])

    with pytest.raises(ValueError, match=re.escape(message)):
        operation(**given)


@pytest.mark.parametrize("scan", [naive.selective_scan, cpu.selective_scan])
def test_side_by_side_adds_up(scan: Callable[..., Tensor]) -> None:
    given = scan_operands()

    apart = scan(**given, side_by_side=True)

    assert apart.shape == (T, K * E)
    total = scan(**given)
    assert_close("sum", apart.view(T, K, E).sum(1), total, atol=1e-5 * total.abs().max().item())


def test_schedule_follows_the_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_config, "_multiprocessors", lambda _: 132)
    cuda = torch.device("cuda")

    def chunk(T: int, N: int, max_seqlen: int | None = None) -> int:
        return triton_config.chunk_tokens(T, N, 2, 384, 12, max_seqlen, cuda)

    assert chunk(64 * 197, 64) == 0
    assert chunk(64 * 6085, 64) == 0
    assert chunk(6085, 1) == 70  # 87 chunks of 6 programs: four on each multiprocessor at a time
    assert chunk(6085 + 63 * 17, 64) == 0  # it cannot know that one of them is long
    assert chunk(6085 + 63 * 17, 64, max_seqlen=6085) > 0
