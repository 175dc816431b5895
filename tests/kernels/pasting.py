"""Masks to paste, and when run lengths are right."""

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco
from torch import Tensor

from vimserve.kernels.paste_masks import naive

CASES = {
    # side of the masks, (height, width) of the picture, side of the boxes, threshold
    "as in COCO": (28, (97, 131), 60, 0.5),
    "larger than the picture": (28, (50, 30), 200, 0.5),
    "smaller than the mask": (28, (40, 40), 9, 0.5),
    "smaller than a pixel": (28, (40, 40), 0.9, 0.5),
    "one number": (1, (20, 30), 15, 0.4),
    "lanes filled": (30, (33, 70), 40, 0.5),
    "lanes overfull": (31, (33, 70), 40, 0.5),
    "low threshold": (14, (60, 45), 30, 0.01),
    "highest threshold": (14, (60, 45), 30, 1.0),
    "one row": (28, (1, 200), 60, 0.3),
    "one column": (28, (200, 1), 60, 0.3),
}
NO_BOX = {
    "a point": (4.0, 4.0, 4.0, 4.0),
    "a line": (4.0, 0.0, 4.0, 8.0),
    "turned over": (8.0, 0.0, 0.0, 8.0),
    "no number": (0.0, 0.0, torch.nan, 8.0),
    "endless": (-torch.inf, 0.0, torch.inf, 8.0),
    "nowhere": (torch.inf, 0.0, torch.inf, 8.0),
}
COUNT = 12  # masks
TIE = 1e-5  # probabilities that are as good as equal: coordinates have rounding errors


def make_case(name: str, count: int = COUNT) -> tuple[Tensor, Tensor, tuple[int, int], float]:
    """Arguments of ``paste_masks``: noise, and smooth blobs as a model makes them."""
    S, (H, W), side, threshold = CASES[name]
    random = torch.Generator().manual_seed(S + H)
    coarse = torch.randn(count, 1, 4, 4, generator=random)
    blobs = F.interpolate(coarse, (S, S), mode="bicubic")[:, 0].mul(4).sigmoid()
    noise = torch.rand(count, S, S, generator=random)
    masks = torch.where(torch.arange(count)[:, None, None] % 2 == 0, blobs, noise)
    if threshold == 1:
        masks = (2 * masks).clamp(max=1)
    middle = torch.rand(count, 2, generator=random) * torch.tensor([W, H])
    half = (torch.rand(count, 2, generator=random) + 0.5) * side / 2
    return masks, torch.cat([middle - half, middle + half], 1), (H, W), threshold


def decode(runs: Tensor, starts: Tensor, size: tuple[int, int]) -> Tensor:
    """``[R, H, W]`` bool."""
    H, W = size
    pictures = [
        (torch.arange(len(one)) % 2).repeat_interleave(one).view(W, H).T
        for one in runs.tensor_split(starts[1:-1].tolist())
    ]
    return torch.stack(pictures).bool()


def assert_encodes(runs: Tensor, starts: Tensor, inside: Tensor) -> None:
    """The very bytes that pycocotools makes of ``[R, H, W]`` bool."""
    R, *size = inside.shape
    assert runs.dtype == starts.dtype == torch.int32
    assert starts.shape == (R + 1,)
    assert starts[0] == 0
    assert starts[-1] == len(runs)
    for one, picture in zip(runs.tensor_split(starts[1:-1].tolist()), inside, strict=True):
        ours = coco.frPyObjects({"size": size, "counts": one.tolist()}, *size)
        assert ours == coco.encode(np.asfortranarray(picture.byte().numpy()))


def assert_pastes(
    pasted: tuple[Tensor, Tensor],
    masks: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    threshold: float,
) -> None:
    """The pixels of the reference, but where its probability is as good as the threshold."""
    inside = decode(*pasted, size)
    assert_encodes(*pasted, inside)  # no run is empty but the first, and none is cut in two
    values = naive.probabilities(masks, boxes, size)
    tied = (values - threshold).abs() <= TIE
    assert ((inside == (values >= threshold)) | tied).all()
    if threshold < 1:
        assert tied.sum() <= 2 + 1e-3 * tied.numel()


def areas(runs: Tensor, starts: Tensor) -> list[int]:
    """The pixels of each instance."""
    return [int(one[1::2].sum()) for one in runs.tensor_split(starts[1:-1].tolist())]


def far_away() -> tuple[Tensor, Tensor, list[tuple[tuple[int, int], Tensor]], list[int]]:
    """Masks and boxes, sizes of long pictures with shifts to their ends, and the areas there.

    The sides are below 2^23 / 16, so that float32 has quarters of pixels everywhere.
    """
    side, near = 2**19, 200
    random = torch.Generator().manual_seed(0)
    masks = torch.rand(5, 28, 28, generator=random)
    boxes = torch.randint(20, 180, (5, 2), generator=random).float()
    boxes = torch.cat([boxes - 15, boxes + 15], 1)
    by = float(side - near)
    far = [
        ((near, side), torch.tensor([by, 0, by, 0])),
        ((side, near), torch.tensor([0, by, 0, by])),
    ]
    return masks, boxes, far, areas(*naive.paste_masks(masks, boxes, (near, near), 0.5))
