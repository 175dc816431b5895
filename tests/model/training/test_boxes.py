"""Boxes, anchors and which of them stand for objects, against rules worked out by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vimserve.model.families.cascade.boxes import decode
from vimserve.model.training.boxes import encode, iou, unsuppressed
from vimserve.model.training.proposals import (
    IGNORED,
    NEGATIVE,
    match,
    match_anchors,
    propose,
    sample,
)


def boxes(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def test_overlaps() -> None:
    first = boxes((0, 0, 10, 10), (0, 0, 0, 0))
    second = boxes((5, 0, 15, 10), (10, 10, 20, 20), (0, 0, 10, 10))
    torch.testing.assert_close(iou(first, second), boxes((1 / 3, 0, 1), (0, 0, 0)))


@pytest.mark.parametrize("weights", [(1.0, 1.0), (10.0, 5.0)])
def test_decoding_undoes_encoding(weights: tuple[float, float]) -> None:
    start, end = boxes((0, 0, 10, 20), (5, 5, 90, 50)), boxes((3, -4, 50, 13), (6, 1, 9, 80))
    deltas = encode(start, end, weights)
    # The centre of the first moves by 21.5 of its 10 pixels of width.
    assert deltas[0, 0] == pytest.approx(2.15 * weights[0])
    torch.testing.assert_close(decode(deltas, start, weights), end)


def test_a_box_is_suppressed_by_kept_ones_only() -> None:
    # The second overlaps the first by 0.6, the third the second by 0.6 and the first by 0.33.
    rows = boxes((0, 0, 8, 1), (2, 0, 10, 1), (4, 0, 12, 1))
    assert unsuppressed(rows, 0.5).tolist() == [True, False, True]
    assert unsuppressed(rows, 0.6).tolist() == [True, True, True]  # only what overlaps more


def test_anchors_are_matched_by_overlap() -> None:
    places = boxes((0, 0, 10, 8), (0, 0, 10, 4), (0, 0, 10, 1), (50, 50, 60, 60), (90, 0, 94, 4))
    objects = boxes((0, 0, 10, 10), (50, 50, 54, 54))
    # The fourth overlaps the small object by 0.16, and nothing overlaps it more.
    assert match_anchors(places, objects).tolist() == [0, IGNORED, NEGATIVE, 1, NEGATIVE]


def test_boxes_are_matched_by_overlap() -> None:
    places = boxes((0, 0, 10, 8), (0, 0, 10, 5), (50, 50, 60, 60))
    objects = boxes((50, 50, 58, 58), (0, 0, 10, 10))
    assert match(places, objects, 0.6).tolist() == [1, NEGATIVE, 0]


def test_samples_are_drawn_of_both_kinds() -> None:
    torch.manual_seed(0)
    matched = torch.tensor([3, NEGATIVE, IGNORED, 0] * 50)
    chosen = matched[sample(matched, 20, 0.25)]
    assert (chosen >= 0).sum() == 5
    assert (chosen == NEGATIVE).sum() == 15
    few = torch.tensor([NEGATIVE] * 30 + [2, IGNORED])
    assert sorted(few[sample(few, 16, 0.5)].tolist()) == [NEGATIVE] * 15 + [2]


def test_proposals_are_the_best_that_do_not_overlap() -> None:
    places = [boxes((0, 0, 10, 10), (1, 0, 11, 10), (30, 0, 40, 10)), boxes((0, 0, 10, 10))]
    logits = [torch.tensor([[2.0, 3, 1]]), torch.tensor([[2.5]])]
    levels = [(one, torch.zeros(1, one.shape[1], 4)) for one in logits]
    (found,) = propose(levels, places, torch.tensor([8, 35]))
    # The first overlaps the second; the other level's is the same but is not compared.
    assert found.tolist() == [[1, 0, 11, 8], [0, 0, 10, 8], [30, 0, 35, 8]]


def test_empty_boxes_are_not_proposed() -> None:
    level = (torch.tensor([[1.0, 2]]), torch.zeros(1, 2, 4))
    (found,) = propose([level], [boxes((50, 0, 60, 10), (0, 0, 9, 9))], torch.tensor([40, 40]))
    np.testing.assert_array_equal(found, [[0, 0, 9, 9]])
