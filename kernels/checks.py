"""Checks of a caller's arguments, before a kernel reads past the end of a tensor.

The values of ``cu_seqlens`` are only checked in host memory, because a copy from a GPU would wait
for all of its work.
"""

from itertools import pairwise

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def check_tensor(
    name: str,
    tensor: Tensor,
    letters: str,
    shape: tuple[int, ...],
    device: torch.device,
    dtypes: tuple[torch.dtype, ...] = FLOATS,
) -> None:
    """Check a tensor's shape, dtype, device and layout; ``letters`` names the axes of ``shape``.

    Raises:
        ValueError: if one is wrong; the message names the tensor and what was expected.
    """
    if tensor.shape != shape:
        raise ValueError(f"{name} must be [{letters}] = {list(shape)}, not {list(tensor.shape)}")
    if tensor.dtype not in dtypes:
        raise ValueError(f"{name} must be {_either(dtypes)}, not {tensor.dtype}")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}, but the other tensors are on {device}")
    if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
        raise ValueError(
            f"{name} must have contiguous rows, but its last stride is {tensor.stride(-1)}: "
            "call .contiguous()"
        )


def check_boundaries(cu_seqlens: Tensor, T: int, device: torch.device) -> None:
    """Require ``[N + 1]`` int32 boundaries that ascend from 0 to T.

    Raises:
        ValueError: if they are wrong; the message says what was expected.
    """
    if cu_seqlens.ndim != 1 or len(cu_seqlens) < 2:
        raise ValueError(f"cu_seqlens must be [N + 1] with N >= 1, not {list(cu_seqlens.shape)}")
    check_tensor("cu_seqlens", cu_seqlens, "N + 1", (len(cu_seqlens),), device, (torch.int32,))
    if device.type != "cpu":
        return
    boundaries = cu_seqlens.tolist()
    if boundaries[0] != 0:
        raise ValueError(f"cu_seqlens must begin with 0, not {boundaries[0]}")
    for n, (begin, end) in enumerate(pairwise(boundaries)):
        if begin > end:
            raise ValueError(f"cu_seqlens must ascend, but [{n}] = {begin} and [{n + 1}] = {end}")
    if boundaries[-1] != T:
        raise ValueError(f"cu_seqlens must end with T = {T}, not {boundaries[-1]}")


def _either(dtypes: tuple[torch.dtype, ...]) -> str:
    return " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
