from typing import Any

import pytest

from vimserve.model.families.vim.config import VimConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 200}, "width must be a multiple of 16, not 200"),
        ({"depth": 0}, "depth must be at least 1, not 0"),
        ({"states": 12}, "states must be a multiple of 8, not 12"),
        ({"stride": 32}, "stride 32 is larger than the patch"),
        ({"grid": (0, 4)}, "grid must have at least one row"),
        ({"pooling": "sum"}, "pooling must be one of .*'sum'"),
        ({"bidirectional": "v3"}, "bidirectional must be one of .*'v3'"),
        ({"bidirectional": "layer", "depth": 3}, "depth must be even, not 3"),
    ],
)
def test_impossible_values_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VimConfig(**values)


def test_trained_size_counts_overlapping_patches() -> None:
    assert VimConfig(stride=8, grid=(27, 27)).trained_size == (224, 224)
    assert VimConfig(grid=(20, 12)).trained_size == (320, 192)


@pytest.mark.parametrize(("pooling", "tokens"), [("middle", 1), ("double", 2), ("max", 0)])
def test_class_tokens_are_those_that_the_pooling_reads(pooling: Any, tokens: int) -> None:
    assert VimConfig(pooling=pooling).class_tokens == tokens
    assert VimConfig(pooling=pooling).without_classifier().class_tokens == 0
