import pytest
import torch

from tests.kernels.maps import (
    SHAPES,
    assert_same_map,
    assert_same_probabilities,
    channels_last,
)
from vimserve.kernels.lerp import Lerp
from vimserve.kernels.upsample_argmax import cpu, naive, upsample_argmax, upsample_argmax_band


@pytest.mark.parametrize(("K", "of", "size"), [*SHAPES, (150, (78, 78), (312, 312))])
def test_cpu_matches_reference(K, of, size) -> None:
    scores = channels_last(K, *of)
    classes, probabilities = cpu.upsample_argmax(scores, size, probability=True)

    assert_same_map(classes, scores, size)
    assert_same_probabilities(probabilities, scores, size)
    assert torch.equal(cpu.upsample_argmax(scores, size, probability=False)[0], classes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_any_layout(dtype) -> None:
    scores = channels_last(21, 9, 5, dtype=dtype)
    expected, _ = upsample_argmax(scores.float(), (36, 20))

    for other in (scores, scores.contiguous(), scores.mT.contiguous().mT):
        assert torch.equal(upsample_argmax(other, (36, 20))[0], expected)


def test_the_lowest_of_equal_scores_wins() -> None:
    scores = torch.zeros(70, 2, 2)
    scores[[40, 66]] = 1.0

    assert (cpu.upsample_argmax(scores, (5, 5), probability=False)[0] == 40).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_no_class_out_of_range_for_what_is_no_number(value: float) -> None:
    scores = torch.full((3, 2, 2), value)

    assert (upsample_argmax(scores, (5, 5), probability=True)[0] < 3).all()


@pytest.mark.parametrize(
    ("scores", "size", "message"),
    [
        (torch.zeros(2, 2), (4, 4), r"\[K, h, w\].*not \[2, 2\]"),
        (torch.zeros(257, 2, 2), (4, 4), r"1 to 256 classes.*not \[257, 2, 2\]"),
        (torch.zeros(0, 2, 2), (4, 4), r"1 to 256 classes.*not \[0, 2, 2\]"),
        (torch.zeros(2, 0, 2), (4, 4), r"at least one position, not \[2, 0, 2\]"),
        (torch.zeros(2, 2, 2), (0, 4), r"at least one row.*not \(0, 4\)"),
        (torch.zeros(2, 2, 2, dtype=torch.float64), (4, 4), "not torch.float64"),
    ],
)
def test_what_is_refused(scores, size, message) -> None:
    with pytest.raises(ValueError, match=message):
        upsample_argmax(scores, size)


@pytest.mark.parametrize("height", [200, 196, 230, 31])
@pytest.mark.parametrize("module", [cpu, naive])
def test_rows_of_a_map_from_the_rows_of_scores_that_they_lie_between(monkeypatch, module, height):
    monkeypatch.setenv("VIMSERVE_KERNELS", module.__name__.rpartition(".")[2])
    scores, size = channels_last(21, 50, 12), (height, 48)
    whole, _ = module.upsample_argmax(scores, size, probability=False)
    first, end = height // 5, height // 2
    table = Lerp.of(50, height).between(first, end)
    upper, lower = int(table.first[0]), int(table.second[-1]) + 1

    band = upsample_argmax_band(scores[:, upper:lower], upper, 50, size, (first, end))
    assert torch.equal(band, whole[first:end])

    for there, since in ((slice(upper + 1, lower), upper + 1), (slice(upper, lower - 1), upper)):
        with pytest.raises(ValueError, match=f"need the rows {upper} to {lower} of 50"):
            upsample_argmax_band(scores[:, there], since, 50, size, (first, end))
