"""Classes of pixels as targets of class scores that lie four pixels apart."""

import torch
from torch import Tensor

CELL = 4  # pixels along each side of what a score is for


def class_shares(classes: Tensor, num_classes: int) -> Tensor:
    """The share of each class in every 4×4 pixels.

    Args:
        classes: ``[N, H, W]``, from 0; numbers of ``num_classes`` and more are of no class.
        num_classes: C.

    Returns:
        ``[N, C, H / 4, W / 4]``; where pixels are of no class, shares add up to less than 1.
    """
    N, H, W = classes.shape
    shares = torch.zeros(N, num_classes + 1, H // CELL, W // CELL)
    part = torch.tensor(1 / CELL**2).expand(N, 1, H // CELL, W // CELL)
    for down in range(CELL):
        for right in range(CELL):
            index = classes[:, None, down::CELL, right::CELL].long().clamp(max=num_classes)
            shares.scatter_add_(1, index, part)
    return shares[:, :num_classes]
