"""Images, and what ``upsample_add`` must make of them."""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, tuple[int, int], int, list[tuple[int, int]]]
SHAPES: list[Shape] = [
    # N, (H, W), C, and (h, w) of each map: factors 2, 4 and 8; odd ones; as large or larger than
    # the image; single rows, columns and positions; more rows than a program walks down
    (1, (8, 16), 32, [(4, 8), (2, 4), (1, 2)]),
    (2, (9, 10), 20, [(3, 2)]),
    (1, (5, 7), 64, [(3, 4), (5, 7), (1, 1), (10, 3)]),
    (2, (1, 9), 16, [(1, 4), (1, 1)]),
    (1, (9, 1), 3, [(2, 1)]),
    (1, (1, 1), 16, [(6, 6)]),
    (1, (38, 9), 70, [(19, 2)]),
]
CASES = list(product(SHAPES, (1, 3)))


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(dtype)


def draw_case(shape: Shape, K: int, dtype: torch.dtype) -> tuple[Tensor, list[Tensor], Tensor]:
    """An image, maps and a bias."""
    N, size, C, sizes = shape
    torch.manual_seed(C + K)
    maps = [draw(N, *of, K * K, C, dtype=dtype) / K for of in sizes]
    return draw(N, *size, C, dtype=dtype), maps, draw(C, dtype=dtype)


def convolved(image: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """``[N, h, w, inputs]`` upsampled to a size, and convolved there: ``[N, H, W, C]``."""
    full = F.interpolate(image.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False)
    return F.conv2d(full, weight, padding=weight.shape[2] // 2).permute(0, 2, 3, 1)


def products(image: Tensor, weight: Tensor) -> Tensor:
    """``[N, h, w, inputs]`` times ``[C, inputs, K, K]``: ``[N, h, w, K², C]``."""
    return torch.einsum("nhwi,ciyx->nhwyxc", image, weight).flatten(3, 4)
