"""What a detector returns for an image: boxes, scores, classes and masks, as one tensor.

A batch's answers are one tensor for each image, whatever the task. A detector's has a row for each
detection, and rows of zeros behind them, so that its size is known before the detections are.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

MOST = 300  # detections of an image that may be wanted, which bounds the work of the mask head
FIELDS = 6  # of a row before its mask: four edges of the box, score, class

Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Selection:
    """Which detections of an image are wanted.

    Attributes:
        size: (height, width) in pixels of the picture at the upper left of the model's input; what
            is beside and below it is padding, to which boxes are clipped.
        score_threshold: only detections that score more; from 0 to 1.
        most: how many, the ones that score best.
        masks: whether with their masks.
    """

    size: tuple[int, int]
    score_threshold: float = 0.05
    most: int = 100
    masks: bool = True


@dataclass(frozen=True, eq=False)
class Detections:
    """The n detections of an image, best first.

    Attributes:
        boxes: float32 ``[n, 4]``: left, top, right and bottom edge in pixels of the model's input.
        scores: float32 ``[n]``, from 0 to 1.
        classes: int64 ``[n]``.
        masks: float32 ``[n, S, S]``, the probability that a point of the box belongs to the object;
            None if they were not wanted.
    """

    boxes: Array
    scores: Array
    classes: np.ndarray[Any, np.dtype[np.int64]]
    masks: Array | None

    @classmethod
    def unpack(cls, rows: Tensor) -> Self:
        """The detections that ``pack`` made rows of; ``[most, 6]`` or ``[most, 6 + S * S]``."""
        values = rows.numpy()
        values = values[values[:, 4] > 0]
        side = int((rows.shape[1] - FIELDS) ** 0.5)
        return cls(
            boxes=values[:, :4],
            scores=values[:, 4],
            classes=values[:, 5].astype(np.int64),
            masks=values[:, FIELDS:].reshape(-1, side, side) if side else None,
        )


def pack(boxes: Tensor, scores: Tensor, classes: Tensor, masks: Tensor | None, most: int) -> Tensor:
    """Rows ``[most, 6 + S * S]`` of detections that are sorted by score, float32.

    Args:
        boxes: ``[n, 4]``, n at most ``most``.
        scores: ``[n]``, above 0; 0 stands for no detection.
        classes: ``[n]``.
        masks: ``[n, S, S]``; with None the rows have 6 columns.
        most: how many rows; those that are left are zeros.
    """
    columns = [boxes, scores[:, None], classes[:, None]]
    if masks is not None:
        columns.append(masks.flatten(1))
    rows = torch.cat([column.float() for column in columns], 1)
    packed = rows.new_zeros(most, rows.shape[1])
    packed[: len(rows)] = rows
    return packed
