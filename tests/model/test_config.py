from typing import Any

import pytest

from vimserve.model.config import DeiTConfig, VimConfig


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 200}, r"width 200 must be a multiple of the heads \(3\)"),
        ({"heads": 0}, "heads must be at least 1, not 0"),
        ({"grid": (4, 0)}, "grid must have at least one row"),
        ({"attention": "flash"}, "attention must be one of fused, eager, not 'flash'"),
    ],
)
def test_an_impossible_deit_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeiTConfig(**values)


def test_trained_size_counts_overlapping_patches() -> None:
    assert VimConfig(stride=8, grid=(27, 27)).trained_size == (224, 224)
    assert VimConfig(grid=(20, 12)).trained_size == (320, 192)
    assert DeiTConfig(grid=(24, 24)).trained_size == (384, 384)
