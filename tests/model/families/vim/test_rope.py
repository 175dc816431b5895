"""Where tokens stand; that the numbers are the published ones is shown in ``test_golden.py``."""

import dataclasses
from typing import Any

import pytest
import torch

from tests.closeness import assert_close
from tests.model.checkpoints import rope_tables
from vimserve.loadtests.gpu_check.recipe import make_weights
from vimserve.model.batch import PackedBatch
from vimserve.model.families.vim.config import Rope, VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.families.vim.rope import Rotary, rates

NANO = VimConfig(width=32, depth=2, num_classes=10, grid=(4, 4), pooling="mean", rope=Rope(6))
STILL = (0.0, 0.0)


def places(pooling: Any, *grids: tuple[int, int]) -> list[tuple[float, ...]]:
    config = dataclasses.replace(NANO, pooling=pooling)
    positions = Rotary(config, torch.device("cpu")).positions(grids)
    assert positions.dtype == torch.float32
    return [tuple(position) for position in positions.tolist()]


def test_each_axis_spans_the_same() -> None:
    assert places("mean", (2, 3)) == [(y * 3.0, x * 2.0) for y in range(2) for x in range(3)]
    assert places("mean", (1, 2), (2, 1)) == [(0, 0), (0, 3), (0, 0), (3, 0)]


@pytest.mark.parametrize(
    ("pooling", "still"), [("head", [0]), ("double", [0, 7]), ("mean", []), ("last", [])]
)
def test_class_tokens_do_not_turn(pooling: str, still: list[int]) -> None:
    expected = places("mean", (2, 3))
    for place in still:
        expected.insert(place, STILL)
    assert places(pooling, (2, 3)) == expected


def test_a_token_in_the_middle_of_an_even_number_shifts_the_places_as_published() -> None:
    """The published code counts from the second token, whichever the first one is."""
    assert places("middle", (2, 3)) == [STILL, *places("mean", (2, 3))]


def test_a_token_in_the_middle_of_an_odd_number_shifts_nothing() -> None:
    patches = places("mean", (3, 3))
    assert places("middle", (3, 3)) == [*patches[:4], STILL, *patches[4:]]


@pytest.mark.parametrize(("width", "side", "span"), [(32, 4, 6), (192, 14, 14), (64, 5, 14)])
def test_angles_are_those_of_the_published_construction(width: int, side: int, span: int) -> None:
    config = VimConfig(width=width, pooling="mean", rope=Rope(span))
    rotary = Rotary(config, torch.device("cpu"))
    angles = (rotary.positions([(side, side)]) @ rotary.rates).repeat_interleave(2, 1)
    tables = rope_tables(side, width, span)
    assert_close("cosines", angles.cos(), tables["rope.freqs_cos"], atol=3e-6)
    assert_close("sines", angles.sin(), tables["rope.freqs_sin"], atol=3e-6)


def test_a_pair_turns_by_one_axis() -> None:
    table = rates(32)
    assert table.shape == (2, 16)
    assert ((table == 0).sum(0) == 1).all()
    assert table[0, 0] == table[1, 8] == 1


def test_the_layout_goes_with_the_tokens() -> None:
    model = Vim(dataclasses.replace(NANO, pooling="head"))
    _, layout = model.embed(
        PackedBatch.from_images([torch.zeros(3, 32, 48), torch.zeros(3, 16, 16)])
    )
    assert layout.turns is not None
    assert layout.turns.tolist() == [[*place] for place in places("head", (2, 3), (1, 1))]
    assert Vim(dataclasses.replace(NANO, rope=None)).embed(
        PackedBatch.from_images([torch.zeros(3, 16, 16)])
    )[1].turns is None  # fmt: skip


def test_low_precision_keeps_the_angles() -> None:
    """They are no parameters: a cast of the model must not round them."""
    model = Vim(NANO)
    batch = PackedBatch.from_images([torch.zeros(3, 224, 224)])
    exact = model.embed(batch)[1].turns
    cast = model.to(torch.bfloat16).embed(batch)[1].turns
    assert exact is not None
    assert cast is not None
    assert torch.equal(exact, cast)


@pytest.mark.parametrize("residual", [True, False])
def test_blocks_turn_their_streams(residual: bool) -> None:
    """Block by block, by turning both streams outside of a model that turns nothing."""
    config = dataclasses.replace(NANO, rope=Rope(6, residual))
    model, plain = Vim(config), Vim(dataclasses.replace(config, rope=None))
    weights = make_weights(model)
    model.load_state_dict(weights)
    plain.load_state_dict(weights)
    batch = PackedBatch.from_images([torch.randn(3, 48, 32), torch.randn(3, 16, 64)])
    rotary = Rotary(config, torch.device("cpu"))
    phase = torch.exp(1j * (rotary.positions(batch.grids) @ rotary.rates))

    def turned(x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.unflatten(1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * phase).flatten(1)

    with torch.inference_mode():
        tokens, layout = plain.embed(batch)
        hidden, stream = tokens, None
        for block in plain.layers:
            if stream is not None and residual:
                stream = turned(stream)
            hidden, stream = block(turned(hidden).contiguous(), stream, layout)
        *_, (actual, actual_stream) = model.run_blocks(*model.embed(batch))

    assert stream is not None
    assert_close("hidden", actual, hidden, atol=1e-5)
    assert_close("residual", actual_stream, stream, atol=1e-5)
