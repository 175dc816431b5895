import pytest
import torch

from tests.kernels.pasting import (
    CASES,
    NO_BOX,
    areas,
    assert_encodes,
    assert_pastes,
    far_away,
    make_case,
)
from vimserve.kernels.paste_masks import MOST_SIDE, cpu, naive, paste_masks

IMPLEMENTATIONS = [naive.paste_masks, cpu.paste_masks]
WHOLE = torch.tensor([[0.0, 0, 8, 6]])


@pytest.mark.parametrize("case", CASES)
def test_cpu_pastes_as_the_reference(case: str) -> None:
    given = make_case(case)

    assert_pastes(cpu.paste_masks(*given), *given)


def test_reference_encodes_as_pycocotools() -> None:
    random = torch.Generator().manual_seed(0)
    inside = torch.rand(8, 7, 9, generator=random) < torch.linspace(0, 1, 8)[:, None, None]
    inside[1], inside[-1] = False, True
    inside[2, 0, 0], inside[3, -1, -1] = True, True

    assert_encodes(*naive.encode(inside), inside)


@pytest.mark.parametrize("paste", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((-9.0, -9, 20, 20), [0, 48]),  # everything
        ((-9.0, -9, 4, 20), [0, 24, 24]),  # the left half: its columns are one run
        ((4.0, -9, 20, 20), [24, 24]),
        ((-9.0, -9, 20, 3), [0, 3, *[3, 3] * 7, 3]),  # the upper half
        ((-9.0, 3, 20, 20), [3, 3] * 8),
        ((2.0, 1, 3, 2), [13, 1, 34]),  # one pixel
        ((0.0, 0, 1, 1), [0, 1, 47]),
        ((7.0, 5, 8, 6), [47, 1]),
        ((20.0, 20, 30, 30), [48]),
        ((-30.0, -30, -20, -20), [48]),
    ],
)
def test_where_runs_begin_and_end(paste, box: tuple[float, ...], expected: list[int]) -> None:
    runs, starts = paste(torch.ones(1, 2, 2), torch.tensor([box]), (6, 8), 0.5)

    assert runs.tolist() == expected
    assert starts.tolist() == [0, len(expected)]


@pytest.mark.parametrize("paste", IMPLEMENTATIONS)
@pytest.mark.parametrize("box", NO_BOX.values(), ids=NO_BOX)
def test_what_has_no_box_has_no_pixels(paste, box: tuple[float, ...]) -> None:
    boxes = torch.tensor([box, *WHOLE.tolist(), box])

    runs, starts = paste(torch.ones(3, 4, 4), boxes, (6, 8), 0.5)

    assert runs.tolist() == [48, 0, 48, 48]
    assert starts.tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize("paste", IMPLEMENTATIONS)
def test_a_low_threshold_is_reached_beyond_the_box(paste) -> None:
    """A cell of this mask is 8 pixels, so the zeros around it are 4 pixels beyond the box."""
    box = torch.tensor([[8.0, 8, 24, 24]])

    runs, _ = paste(torch.ones(1, 2, 2), box, (1, 40), 0.01)
    assert runs.tolist() == [40]
    runs, _ = paste(torch.ones(1, 2, 2), box + torch.tensor([0, -8, 0, -8]), (1, 40), 0.01)
    assert runs.tolist() == [4, 24, 12]


def test_what_is_no_probability() -> None:
    mask = torch.tensor([[[torch.nan, torch.inf], [-torch.inf, 7.0]]])
    sound = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])

    assert paste_masks(mask, WHOLE, (6, 8))[0].equal(paste_masks(sound, WHOLE, (6, 8))[0])


def test_no_memory_for_pixels() -> None:
    """Sixty of these pictures have 10^11 pixels."""
    size = (46_340, 46_340)
    masks = torch.full((60, 28, 28), 0.9)
    boxes = torch.rand(60, 4) * 20_000
    boxes[:, 2:] += boxes[:, :2] + 1

    runs, starts = paste_masks(masks, boxes, size)

    totals = [one.sum().item() for one in runs.tensor_split(starts[1:-1].tolist())]
    assert totals == [size[0] * size[1]] * 60


def test_far_from_the_origin() -> None:
    masks, boxes, far, near = far_away()

    for size, shift in far:
        assert areas(*paste_masks(masks, boxes + shift, size)) == near


@pytest.mark.parametrize("layout", ["transposed", "sliced"])
def test_strided_operands(layout: str) -> None:
    masks, boxes, size, threshold = make_case("as in COCO")
    expected = paste_masks(masks, boxes, size, threshold)
    wide = torch.cat([boxes, boxes], 1)[:, :4]
    if layout == "sliced":
        masks = torch.cat([masks, masks], 1)[:, : masks.shape[1]]

    actual = paste_masks(masks, wide, size, threshold)

    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


def test_no_masks() -> None:
    runs, starts = paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (6, 8))

    assert runs.tolist() == []
    assert starts.tolist() == [0]


def test_the_largest_side() -> None:
    runs, _ = paste_masks(torch.ones(1, 1, 1), WHOLE - 2, (1, MOST_SIDE))

    assert runs.tolist() == [0, 6, MOST_SIDE - 6]
