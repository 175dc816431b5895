from typing import Any

import pytest
import torch

from tests.kernels.interpreted.operands import assert_as_good, boundaries
from vimserve.kernels.selective_scan import naive, triton


def operands(E: int, S: int, K: int, dtype: torch.dtype) -> dict[str, Any]:
    """As a block makes them: z is half of one tensor, dt, B and C are parts of another."""
    torch.manual_seed(E + S + K)
    T, R = int(boundaries()[-1]), 4 if S == 16 else 3
    dt, B, C = torch.randn(K, T, R + 2 * S).to(dtype).split([R, S, S], 2)
    return {
        "x": torch.randn(K, T, E).to(dtype),
        "dt": dt,
        "dt_weight": (torch.randn(K, E, R) * 0.2).to(dtype),
        "dt_bias": torch.linspace(-6, 3, K * E).view(K, E),
        "A": -torch.rand(K, E, S) * S,
        "B": B,
        "C": C,
        "D": torch.randn(K, E),
        "z": torch.randn(T, 2 * E).to(dtype)[:, E:],
        "cu_seqlens": boundaries(),
    }


@pytest.mark.parametrize(
    ("E", "S", "reverse", "dtype"),
    [
        (16, 8, (True,), torch.float32),
        (48, 16, (False, True), torch.float32),
        (96, 8, (False,), torch.bfloat16),
        (16, 8, (False, True), torch.float16),
    ],
)
def test_sequential(
    E: int, S: int, reverse: tuple[bool, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(E, S, reverse, dtype, 0, monkeypatch)


@pytest.mark.parametrize(
    ("E", "S", "reverse", "dtype", "chunk"),
    [
        (16, 8, (False, True), torch.float32, 3),  # more chunks than are carried together
        (48, 16, (False, True), torch.float32, 16),
        (16, 16, (True,), torch.bfloat16, 24),
        (96, 8, (True,), torch.float16, 16),
    ],
)
def test_chunked(
    E: int,
    S: int,
    reverse: tuple[bool, ...],
    dtype: torch.dtype,
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compare(E, S, reverse, dtype, chunk, monkeypatch)


def compare(
    E: int,
    S: int,
    reverse: tuple[bool, ...],
    dtype: torch.dtype,
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(triton, "chunk_tokens", lambda *_: chunk)
    monkeypatch.setattr(triton, "channel_block", lambda *_: 64)  # fewer programs to interpret
    given = operands(E, S, len(reverse), dtype)
    exact = {name: t.float() if t.is_floating_point() else t for name, t in given.items()}

    actual = triton.selective_scan(**given, reverse=reverse, side_by_side=True)

    assert_as_good(
        "side by side",
        actual,
        naive.selective_scan(**given, reverse=reverse, side_by_side=True),
        naive.selective_scan(**exact, reverse=reverse, side_by_side=True),
    )


def test_directions_add_up() -> None:
    given = operands(16, 8, 2, torch.float32)
    head = {
        name: t[..., :20, :] if name in ("x", "dt", "B", "C", "z") else t
        for name, t in given.items()
    }
    head["cu_seqlens"] = torch.tensor([0, 20], dtype=torch.int32)

    actual = triton.selective_scan(**head, reverse=(False, True))

    expected = naive.selective_scan(**head, reverse=(False, True))
    assert_as_good("sum", actual, expected, expected)
