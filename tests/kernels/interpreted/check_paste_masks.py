import pytest
import torch

from tests.kernels.pasting import CASES, NO_BOX, areas, assert_pastes, far_away, make_case
from vimserve.kernels.paste_masks import naive, triton

# NumPy, in which the interpreter computes, warns of numbers that are not finite.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("case", CASES)
def test_pastes_as_the_reference(case: str) -> None:
    given = make_case(case, count=4)

    assert_pastes(triton.paste_masks(*given), *given)


@pytest.mark.parametrize("block", [16, 64])
def test_runs_go_on_from_one_program_to_the_next(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton, "BLOCK", block)
    boxes = torch.tensor([[-9.0, -9, 300, 20], [40, -9, 300, 20], [-9, -9, 100, 3]])
    expected = naive.paste_masks(torch.ones(3, 2, 2), boxes, (6, 200), 0.5)

    actual = triton.paste_masks(torch.ones(3, 2, 2), boxes, (6, 200), 0.5)

    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


@pytest.mark.parametrize("box", NO_BOX.values(), ids=NO_BOX)
def test_what_has_no_box_has_no_pixels(box: tuple[float, ...]) -> None:
    boxes = torch.tensor([box, (0, 0, 8, 6), box])

    runs, starts = triton.paste_masks(torch.ones(3, 4, 4), boxes, (6, 8), 0.5)

    assert runs.tolist() == [48, 0, 48, 48]
    assert starts.tolist() == [0, 1, 3, 4]


def test_far_from_the_origin() -> None:
    masks, boxes, far, near = far_away()
    size, shift = far[1]  # one as wide would be thousands of programs

    assert areas(*triton.paste_masks(masks, boxes + shift, size, 0.5)) == near
