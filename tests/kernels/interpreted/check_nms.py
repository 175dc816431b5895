import pytest
import torch

from tests.kernels.overlapping import CASES, NOT_SOUND, make_case
from vimserve.kernels.nms import naive, triton

# NumPy, in which the interpreter computes, warns of numbers that are not finite.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("case", CASES)
def test_keeps_what_the_reference_keeps(case: str) -> None:
    operands = make_case(case)

    assert torch.equal(triton.nms(*operands), naive.nms(*operands))


@pytest.mark.parametrize("box", NOT_SOUND.values(), ids=NOT_SOUND)
def test_a_box_without_a_finite_area_has_no_part_in_it(box: tuple[float, ...]) -> None:
    boxes = torch.tensor([box, (0, 0, 8, 8), box, (0, 0, 8, 8)])
    order = torch.arange(4, dtype=torch.int32)[None]

    for threshold in (0.0, 0.5):
        assert triton.nms(boxes, order, threshold).tolist() == [[True, True, True, False]]


@pytest.mark.parametrize(("least", "most"), [(1, 2), (3, 4), (1, 3), (3, 5), (7, 10)])
def test_a_box_at_the_threshold_is_kept(least: int, most: int) -> None:
    boxes = torch.tensor([[0, 0, most, 1], [0, 0, least, 1]]).float()
    order = torch.tensor([[0, 1]], dtype=torch.int32)

    assert triton.nms(boxes, order, least / most).tolist() == [[True, True]]
    assert triton.nms(boxes, order, least / most - 1e-6).tolist() == [[True, False]]


def test_nothing_counts_behind_the_end_of_a_group() -> None:
    order = torch.tensor([[0, -1, 1], [-1, 0, 1]], dtype=torch.int32)

    kept = triton.nms(torch.tensor([[0.0, 0, 1, 1], [5, 5, 6, 6]]), order, 0.5)

    assert kept.tolist() == [[True, False, False], [False] * 3]
