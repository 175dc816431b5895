import pytest
import torch

from tests.kernels.maps import (
    SHAPES,
    assert_same_map,
    assert_same_probabilities,
    channels_last,
)
from vimserve.kernels.upsample_argmax import triton


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("K", "of", "size"), SHAPES)
def test_same_map_as_the_reference(K, of, size, dtype) -> None:
    scores = channels_last(K, *of, dtype=dtype)
    classes, probabilities = triton.upsample_argmax(scores, size, probability=True)

    assert_same_map(classes, scores, size)
    assert_same_probabilities(probabilities, scores, size)


def test_without_probability() -> None:
    scores = channels_last(21, 5, 6)
    classes, probabilities = triton.upsample_argmax(scores, (20, 24), probability=False)

    assert probabilities is None
    assert_same_map(classes, scores, (20, 24))


def test_the_lowest_of_equal_scores_wins() -> None:
    scores = torch.zeros(70, 2, 2)
    scores[[40, 66]] = 1.0

    assert (triton.upsample_argmax(scores, (5, 5), probability=False)[0] == 40).all()


def test_no_class_out_of_range_for_what_is_no_number() -> None:
    scores = torch.full((3, 2, 2), torch.nan)

    assert (triton.upsample_argmax(scores, (5, 5), probability=False)[0] < 3).all()
