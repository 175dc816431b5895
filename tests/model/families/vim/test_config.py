from collections.abc import Sequence
from typing import Any

import pytest

from vimserve.model.families.vim.config import Rope, VimConfig


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
        ({"registers": 3}, "there are 3 with pooling='middle'"),
        ({"pooling": "registers"}, "there are 0 with pooling='registers'"),
        ({"pooling": "registers", "registers": 3, "reduce": 2}, "reduce=2 must divide the 3"),
        ({"pooling": "registers", "registers": 3, "rope": Rope()}, "registers with rotary"),
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


def test_rotary_embeddings_need_a_span() -> None:
    with pytest.raises(ValueError, match="span of RoPE must be above zero, not 0"):
        Rope(span=0)


@pytest.mark.parametrize(
    ("registers", "patches", "places"),
    [
        (12, 196, range(15, 192, 16)),
        (4, 36, (7, 15, 23, 31)),
        (3, 3, (0, 1, 2)),
        (1, 6, (3,)),
    ],
)
def test_registers_are_spread_among_the_patches(
    registers: int, patches: int, places: Sequence[int]
) -> None:
    config = VimConfig(pooling="registers", registers=registers)
    assert config.class_positions(patches) == tuple(places)
    assert config.class_tokens == registers


def test_a_backbone_cannot_do_without_its_registers() -> None:
    with pytest.raises(ValueError, match="registers"):
        VimConfig(pooling="registers", registers=3).without_classifier()
