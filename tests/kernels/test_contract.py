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
from vimserve.kernels.nms import nms
from vimserve.kernels.paste_masks import paste_masks
from vimserve.kernels.roi_align import roi_align
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


def region_operands() -> dict[str, Any]:
    return {
        "maps": [torch.randn(2 * T, E), torch.randn(T, E)],
        "places": torch.tensor([[[0, 4, 5], [20, 2, 10]], [[0, 2, 3], [6, 1, 14]]]).int(),
        "strides": [4, 8],
        "boxes": torch.randn(3, 4),
        "images": torch.tensor([0, 1, 1], dtype=torch.int32),
        "levels": torch.tensor([1, 0, 1], dtype=torch.int32),
        "size": 7,
    }


def nms_operands() -> dict[str, Any]:
    order = torch.tensor([[0, 1, 2], [4, 3, -1]], dtype=torch.int32)
    return {"boxes": torch.rand(5, 4), "order": order, "threshold": 0.5}


def paste_operands() -> dict[str, Any]:
    masks, boxes = torch.rand(3, 28, 28), torch.rand(3, 4)
    return {"masks": masks, "boxes": boxes, "size": (40, 50), "threshold": 0.5}


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
REGIONS = [
    ("maps", lambda _: [], "maps must be [P, C] for each level, with channels, not []"),
    ("maps", lambda m: [m[0][0]], "maps must be [P, C] for each level, with channels, not [[48]]"),
    ("maps", lambda m: [m[0], m[1][:, :40]], "maps[1] must be [P, C] = [20, 48], not [20, 40]"),
    ("maps", lambda m: [m[0], m[1].half()], "maps[1] must be float32, not torch.float16"),
    ("maps", lambda m: [m[0].double(), m[1]], "maps[0] must be float32 or float16 or bfloat16"),
    ("maps", lambda m: [torch.randn(E, T).T, m[1]], "maps[0] must have contiguous rows"),
    ("maps", lambda m: [m[0].half(), m[1].half()], "CPU kernels compute in float32, but maps[0]"),
    ("maps", lambda m: [m[0][:39], m[1]], "places[0, 1] is 2 x 10 pixels from row 20 on, but maps"),
    ("places", lambda p: p[0], "places must be [L, N, 3], not [2, 3]"),
    ("places", lambda p: p[:1], "places must be [L, N, 3] = [2, 2, 3], not [1, 2, 3]"),
    ("places", lambda p: p.long(), "places must be int32, not torch.int64"),
    ("places", lambda p: p - 1, "places[0, 0] is 3 x 4 pixels from row -1 on, but maps[0] has 40"),
    ("places", lambda p: p * torch.tensor([1, 0, 1]).int(), "places[0, 0] is 0 x 5 pixels"),
    ("strides", lambda _: [4], "strides must have a positive number for each of the 2 maps"),
    ("strides", lambda _: [4, 0], "strides must have a positive number for each of the 2 maps"),
    ("boxes", lambda b: b[:, :3], "boxes must be [R, 4] = [3, 4], not [3, 3]"),
    ("boxes", lambda b: b.half(), "boxes must be float32, not torch.float16"),
    ("images", lambda i: i[1:], "images must be [R] = [3], not [2]"),
    ("images", lambda i: i + 1, "images must be from 0 to 1, not 2"),
    ("levels", lambda levels: levels - 1, "levels must be from 0 to 1, not -1"),
    ("levels", lambda levels: levels.to("meta"), "levels is on meta, but the other tensors"),
    ("size", lambda _: 0, "size must be at least 1, not 0"),
]
NMS = [
    ("boxes", lambda b: b[0], "boxes must be [B, 4], not [4]"),
    ("boxes", lambda b: b[:, :3], "boxes must be [B, 4] = [5, 4], not [5, 3]"),
    ("boxes", lambda b: b.half(), "boxes must be float32, not torch.float16"),
    ("order", lambda o: o[0], "order must be [G, M], not [3]"),
    ("order", lambda o: o.long(), "order must be int32, not torch.int64"),
    ("order", lambda o: o.to("meta"), "order is on meta"),
    ("order", lambda o: o + 1, "order must be below the 5 rows of boxes, but has 5"),
    ("threshold", lambda _: 1.5, "threshold must be from 0 to 1, not 1.5"),
    ("threshold", lambda _: torch.nan, "threshold must be from 0 to 1, not nan"),
]
PASTE = [
    ("masks", lambda m: m[0], "masks must be [R, S, S] with S at least 1, not [28, 28]"),
    ("masks", lambda m: m[:, 1:], "masks must be [R, S, S] with S at least 1, not [3, 27, 28]"),
    ("masks", lambda m: m[:, :0, :0], "masks must be [R, S, S] with S at least 1, not [3, 0, 0]"),
    ("masks", lambda m: m.bfloat16(), "masks must be float32, not torch.bfloat16"),
    ("boxes", lambda b: b[1:], "boxes must be [R, 4] = [3, 4], not [2, 4]"),
    ("boxes", lambda b: b.to("meta"), "boxes is on meta"),
    ("size", lambda _: (0, 5), "size must be 1 to 16777216 pixels high and wide, not (0, 5)"),
    ("size", lambda _: (5, 2**24 + 1), "size must be 1 to 16777216 pixels high and wide, not"),
    ("size", lambda _: (2**16, 2**15), "at most 2147483647 pixels, not 65536 x 32768 = 2147483648"),
    ("threshold", lambda _: 0.0, "threshold must be above 0 and at most 1, not 0.0"),
    ("threshold", lambda _: 1.1, "threshold must be above 0 and at most 1, not 1.1"),
]


@pytest.mark.parametrize(
    ("operation", "operands", "name", "spoil", "message"),
    [(selective_scan, scan_operands, *case) for case in SCAN]
    + [(conv1d, conv_operands, *case) for case in CONV]
    + [(add_norm, norm_operands, *case) for case in NORM]
    + [(roi_align, region_operands, *case) for case in REGIONS]
    + [(nms, nms_operands, *case) for case in NMS]
    + [(paste_masks, paste_operands, *case) for case in PASTE],
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
