import itertools

import cv2
import numpy as np
import pytest
import torch

from tests.kernels.overlapping import CASES, NOT_SOUND, make_boxes, make_case
from vimserve.kernels.nms import cpu, naive, nms

PROPOSALS, CLASSES, LEVELS = 1000, 80, 4768


@pytest.mark.parametrize("case", CASES)
def test_cpu_keeps_what_the_reference_keeps(case: str) -> None:
    operands = make_case(case)
    expected = naive.nms(*operands)

    assert torch.equal(cpu.nms(*operands), expected)
    assert expected[:, 0].all()  # the best of each group


def test_all_levels_of_a_pyramid_as_one_group() -> None:
    boxes = make_boxes(LEVELS, 150)
    order = torch.arange(LEVELS, dtype=torch.int32)[None]
    expected = naive.nms(boxes, order, 0.7)

    assert 0.2 < expected.float().mean() < 0.9
    assert torch.equal(nms(boxes, order, 0.7), expected)


def test_opencv_keeps_the_same_of_every_class() -> None:
    boxes = make_boxes(PROPOSALS, 100)
    scores = torch.rand(CLASSES, PROPOSALS, generator=torch.Generator().manual_seed(2)) ** 60
    sizes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    chosen = cv2.dnn.NMSBoxesBatched(
        sizes.repeat(CLASSES, 1).tolist(), scores.flatten().tolist(),
        np.arange(CLASSES).repeat(PROPOSALS).tolist(), 0.05, 0.5,
    )  # fmt: skip
    expected = torch.zeros(CLASSES * PROPOSALS, dtype=torch.bool)
    expected[torch.from_numpy(np.array(chosen))] = True

    ordered, order = scores.sort(1, descending=True)
    order[ordered <= 0.05] = -1
    kept = nms(boxes, order.int(), 0.5)

    ours = torch.zeros(CLASSES, PROPOSALS, dtype=torch.bool)
    group, place = kept.nonzero(as_tuple=True)
    ours[group, order[group, place]] = True
    assert CLASSES < expected.sum() < (scores > 0.05).sum()
    assert torch.equal(ours, expected.view_as(ours))


@pytest.mark.parametrize("least", range(1, 20))
def test_a_box_at_the_threshold_is_kept(least: int) -> None:
    order = torch.tensor([[0, 1]], dtype=torch.int32)
    for most in range(least + 1, 30):
        boxes = torch.tensor([[0, 0, most, 1], [0, 0, least, 1]]).float()
        iou = np.float32(least / most)
        below = np.nextafter(iou, np.float32(0))

        assert nms(boxes, order, float(iou)).tolist() == [[True, True]]
        assert nms(boxes, order, float(below)).tolist() == [[True, False]]


def test_the_order_decides_between_equal_boxes() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9]]).expand(3, 4)
    order = torch.tensor(list(itertools.permutations(range(3))), dtype=torch.int32)

    assert nms(boxes, order, 0.5).tolist() == [[True, False, False]] * 6


def test_a_suppressed_box_suppresses_nothing() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 1], [4, 0, 14, 1], [8, 0, 18, 1]])
    order = torch.arange(3, dtype=torch.int32)[None]

    assert nms(boxes, order, 0.3).tolist() == [[True, False, True]]


@pytest.mark.parametrize("box", NOT_SOUND.values(), ids=NOT_SOUND)
def test_a_box_without_a_finite_area_has_no_part_in_it(box: tuple[float, ...]) -> None:
    boxes = torch.tensor([box, (0, 0, 8, 8), box, (0, 0, 8, 8)])
    order = torch.arange(4, dtype=torch.int32)[None]

    for threshold in (0.0, 0.5):
        expected = [[True, True, True, False]]
        assert nms(boxes, order, threshold).tolist() == expected
        assert naive.nms(boxes, order, threshold).tolist() == expected


@pytest.mark.parametrize("kernel", [naive.nms, cpu.nms])
def test_nothing_counts_behind_the_end_of_a_group(kernel) -> None:
    order = torch.tensor([[0, -1, 1], [-1, 0, 1]], dtype=torch.int32)

    kept = kernel(torch.tensor([[0.0, 0, 1, 1], [5, 5, 6, 6]]), order, 0.5)

    assert kept.tolist() == [[True, False, False], [False] * 3]


def test_strided_operands() -> None:
    boxes, order, threshold = make_case("dense")
    wide = torch.cat([boxes, boxes], 1)[:, :4]
    apart = torch.cat([order, order], 1)[:, : order.shape[1]]

    assert torch.equal(nms(wide, apart, threshold), nms(boxes, order, threshold))


@pytest.mark.parametrize(("rows", "shape"), [(0, (2, 3)), (3, (0, 3)), (3, (2, 0))])
def test_nothing_to_do(rows: int, shape: tuple[int, int]) -> None:
    order = torch.full(shape, -1, dtype=torch.int32)

    kept = nms(torch.zeros(rows, 4), order, 0.5)

    assert kept.shape == shape
    assert not kept.any()
