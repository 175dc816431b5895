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
    ],
)
def test_an_impossible_deit_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeiTConfig(**values)


def test_trained_size() -> None:
    assert DeiTConfig(grid=(24, 24)).trained_size == (384, 384)
