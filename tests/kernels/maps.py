"""When two class maps, and their probabilities, are the same."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.closeness import assert_close
from vimserve.kernels.upsample_argmax import naive

SHAPES = [
    # K, (h, w), (H, W): single positions, ragged sizes, up, down and both at once
    (1, (1, 1), (3, 5)),
    (2, (5, 7), (20, 28)),
    (16, (4, 4), (16, 16)),
    (21, (10, 1), (40, 7)),
    (150, (5, 9), (9, 37)),
    (150, (9, 33), (5, 70)),
    (256, (6, 6), (3, 2)),
]
TIE = 1e-5


def channels_last(K: int, h: int, w: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(K + h + w)
    return torch.randn(h, w, K).to(dtype).permute(2, 0, 1)


def assert_same_map(classes: Tensor, scores: Tensor, size: tuple[int, int]) -> None:
    """Equal to the reference but where the two best interpolated scores are as good as equal."""
    assert classes.dtype == torch.uint8
    assert tuple(classes.shape) == size
    expected, _ = naive.upsample_argmax(scores, size, probability=False)
    full = F.interpolate(scores[None].float(), size, mode="bilinear", align_corners=False)[0]
    chosen = full.gather(0, classes[None].long())[0]
    tied = full.amax(0) - chosen <= TIE
    assert ((classes == expected) | tied).all()


def assert_same_probabilities(
    probabilities: Tensor | None, scores: Tensor, size: tuple[int, int]
) -> None:
    """Equal to the reference's up to rounding."""
    _, expected = naive.upsample_argmax(scores, size, probability=True)
    assert probabilities is not None
    assert expected is not None
    assert_close("probabilities", probabilities, expected, atol=1e-6)
