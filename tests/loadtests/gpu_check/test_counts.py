"""The least work of a Vim, against counts by hand."""

import dataclasses
import math

import pytest

from vimserve.loadtests.gpu_check import counts
from vimserve.loadtests.gpu_check.counts import Cost, Floor
from vimserve.model.config import VIM_SMALL, VIM_TINY

TOKENS_1248 = 78 * 78 + 1


def test_bytes_of_a_block_by_hand() -> None:
    D, E, projected = 192, 384, 12 + 32
    norm = 2 * D + 4 * D + 4 * D + 2 * D
    in_proj = 2 * D + 2 * 2 * E
    conv = 2 * E + 2 * 2 * E
    x_proj = 2 * 2 * E + 2 * 4 * projected
    scan = 2 * 2 * E + 2 * 4 * projected + 2 * E + 2 * 2 * E
    out_proj = 2 * 2 * E + 2 * D
    expected = norm + in_proj + conv + x_proj + scan + out_proj

    more, fewer = (counts.block(VIM_TINY, tokens, 2).bytes for tokens in (1001, 1))

    assert (more - fewer) / 1000 == expected == 14_528


def test_exponentials_of_an_image_by_hand() -> None:
    per_token = counts.scan(VIM_TINY, 1, 2).special
    assert per_token == 2 * 384 * (16 + 3)
    states_alone = 24 * TOKENS_1248 * 2 * 384 * 16
    assert math.isclose(states_alone, 1.8e9, rel_tol=0.01)


def test_flops_of_a_forward_pass_are_those_of_its_weights() -> None:
    flops = counts.forward(VIM_TINY, 1, (14, 14), 2).flops
    in_and_out = 24 * (192 * 768 + 768 * 192)  # out_proj runs over both directions
    x_proj = 24 * 2 * 384 * 44
    assert flops == 2 * (197 * (in_and_out + x_proj) + 196 * 768 * 192 + 192 * 1000)


def test_counts_grow_with_everything() -> None:
    small = counts.forward(VIM_TINY, 1, (14, 14), 2)
    for larger in (
        counts.forward(VIM_SMALL, 1, (14, 14), 2),
        counts.forward(VIM_TINY, 2, (14, 14), 2),
        counts.forward(VIM_TINY, 1, (15, 14), 2),
    ):
        assert larger.bytes > small.bytes
        assert larger.flops > small.flops
        assert larger.special > small.special
    assert counts.forward(VIM_TINY, 1, (14, 14), 4).bytes > small.bytes


@pytest.mark.parametrize("bidirectional", ["none", "layer", "ssm"])
def test_one_direction_or_one_convolution_costs_less(bidirectional: str) -> None:
    other = dataclasses.replace(VIM_TINY, bidirectional=bidirectional)  # type: ignore[arg-type]
    assert counts.block(other, 100, 2).bytes < counts.block(VIM_TINY, 100, 2).bytes


def test_the_floor_is_the_higher_of_two_bounds() -> None:
    floor = Floor.of(Cost(bytes=3_000_000, special=500), bytes_per_s=3e12, special_per_s=1e3)
    assert (floor.bytes_ms, floor.special_ms, floor.ms) == (1e-3, 500.0, 500.0)
