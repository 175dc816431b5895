from typing import Any

import pytest

from vimserve.model.families.deit.config import DeiTConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 200}, r"width 200 must be a multiple of the heads \(3\)"),
        ({"heads": 0}, "heads must be at least 1, not 0"),
        ({"grid": (4, 0)}, "grid must have at least one row"),
        ({"attention": "flash"}, "attention must be one of fused, eager, not 'flash'"),
        ({"class_token": False}, "a classifier of 1000 classes reads a class token: there is none"),
        ({"class_position": False}, "a class token needs its row of pos_embed"),
        ({"window": 14}, "window=14 needs a DeiT without class token"),
        ({"rel_pos": (14, 14)}, r"rel_pos=\(14, 14\) needs a DeiT without class token"),
        ({"window": -1}, "window must be at least 0, not -1"),
        ({"rel_pos": (0, 14)}, "rel_pos must have at least one row"),
    ],
)
def test_an_impossible_deit_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeiTConfig(**values)


def test_trained_size() -> None:
    assert DeiTConfig(grid=(24, 24)).trained_size == (384, 384)


def test_relative_positions_tell_the_size_of_the_last_training() -> None:
    config = DeiTConfig(num_classes=0, class_token=False, grid=(14, 14), rel_pos=(64, 64))
    assert config.trained_size == (1024, 1024)
