import pytest
import torch
from torch import Tensor

from tests.closeness import assert_close
from tests.kernels.regions import BOXES, EMPTY, everywhere, pyramid
from vimserve.kernels.roi_align import naive, triton


def some(boxes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every fifth, which has each box, image and level."""
    return {name: operand[::5].contiguous() for name, operand in boxes.items()}


@pytest.mark.parametrize(("size", "C"), [(7, 48), (2, 3)])
def test_matches_reference(size, C) -> None:
    given = pyramid(C) | some(everywhere(BOXES + EMPTY))

    actual = triton.roi_align(**given, size=size)
    assert_close("features", actual, naive.roi_align(**given, size=size), atol=5e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype) -> None:
    given = pyramid(16) | some(everywhere(BOXES[:3]))
    given["maps"] = [pixels.to(dtype) for pixels in given["maps"]]
    exact = given | {"maps": [pixels.float() for pixels in given["maps"]]}
    expected = naive.roi_align(**exact, size=7)

    actual = triton.roi_align(**given, size=7)
    assert actual.dtype == dtype
    step = torch.finfo(dtype).eps * expected.abs().max().item()  # the interpreter rounds to zero
    assert_close("features", actual.float(), expected, atol=step)


def test_more_levels_than_a_launch_takes_and_boxes_without_end() -> None:
    given = pyramid(16)
    given |= {"maps": given["maps"] * 2, "strides": given["strides"] * 2}
    given["places"] = torch.cat((given["places"], given["places"]))
    given |= some(everywhere([BOXES[0], [-1e30, 8.0, 1e30, 24.0]]))
    expected = triton.roi_align(**given, size=2)

    levels = given["levels"] + 3
    assert torch.equal(triton.roi_align(**(given | {"levels": levels}), size=2), expected)
    assert expected[:2].abs().amax((1, 2, 3)).all()
    assert expected.isfinite().all()


def test_what_is_no_number_stays_where_it_is() -> None:
    given = pyramid(16) | everywhere([[0.0, 0.0, 28.0, 28.0]])
    given["maps"][0][40, 5] = torch.nan  # the first pixel of row 1

    wrong = triton.roi_align(**given, size=7).isnan().nonzero()
    assert wrong.tolist() == [[0, 1, 0, 5]]
