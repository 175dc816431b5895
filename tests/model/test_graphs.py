"""Padding to buckets, and recordings, with an eager stand-in for the graph itself."""

import dataclasses
from typing import Any

import pytest
import torch

from model import graphs
from model.batch import PackedBatch
from model.config import VimConfig
from model.graphs import (
    POOLINGS,
    Bucket,
    GraphedVim,
    StaticInputs,
    choose_bucket,
    make_buckets,
    pad_lengths,
)
from model.vim import Vim
from tests.closeness import assert_close
from tests.eager_graph import EagerGraph
from tests.model.recipe import make_weights

NANO = VimConfig(width=32, depth=2, num_classes=10, grid=(4, 4))
BATCHES = [[(64, 64)], [(16, 16), (112, 80), (32, 400)], [(224, 224)], [(16, 32)] * 3]


def make(**changes: Any) -> Vim:
    model = Vim(dataclasses.replace(NANO, **changes))
    model.load_state_dict(make_weights(model))
    return model


def pack(sizes: list[tuple[int, int]]) -> PackedBatch:
    return PackedBatch.from_images([torch.randn(3, *size) for size in sizes])


@pytest.mark.parametrize("bidirectional", ["ssm+conv", "layer"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_changes_no_answer(
    pooling: str, bidirectional: str, recorded: list[EagerGraph]
) -> None:
    model = make(pooling=pooling, bidirectional=bidirectional)
    graphed = GraphedVim(model, make_buckets(320))
    torch.manual_seed(0)
    for sizes in BATCHES * 2:  # what one batch leaves behind must not reach the next
        batch = pack(sizes)
        assert_close(f"{sizes}", graphed(batch), model(batch), atol=1e-5)
    assert sum(graph.replays for graph in recorded) == 2 * len(BATCHES)


def test_a_result_outlives_the_next_replay(recorded: list[EagerGraph]) -> None:
    model = make()
    graphed = GraphedVim(model, make_buckets(256))
    first = pack([(64, 64)])
    scores = graphed(first)
    graphed(pack([(64, 64)]))
    assert_close("first", scores, model(first), atol=1e-5)


def test_what_no_bucket_holds_runs_without_a_graph(recorded: list[EagerGraph]) -> None:
    model = make()
    graphed = GraphedVim(model, make_buckets(256))
    for sizes in ([(320, 320)], [(16, 16)] * 9):
        batch = pack(sizes)
        assert_close(f"{sizes}", graphed(batch), model(batch), atol=1e-5)
    assert not any(graph.replays for graph in recorded)


def test_inputs_of_a_replay_never_move() -> None:
    inputs = StaticInputs(make(), Bucket(512, 512))
    views = [inputs.view(Bucket(tokens, 512)) for tokens in (512, 256)]
    assert len({tokens.data_ptr() for tokens, _ in views}) == 1
    assert len({layout.cu_seqlens.data_ptr() for _, layout in views}) == 1


@pytest.mark.parametrize("max_tokens", [1, 320, 321, 8192, 100_000])
def test_buckets_ascend_to_the_largest_batch_and_waste_little(max_tokens: int) -> None:
    buckets = make_buckets(max_tokens)
    assert buckets == sorted(set(buckets))
    assert buckets[-1].tokens >= max_tokens
    assert buckets[-1].tokens <= 1.25 * max_tokens or buckets[-1] == Bucket(320, 320)
    assert len(buckets) < 120
    for tokens in range(1, max_tokens, 97):
        bucket = choose_bucket(buckets, [tokens])
        assert bucket is not None
        assert bucket.tokens <= max(320, 1.25 * tokens + graphs.EXTRA_TOKENS)


def test_a_bucket_is_chosen_by_tokens_longest_image_and_count() -> None:
    buckets = make_buckets(8192)
    assert choose_bucket(buckets, [197]) == Bucket(320, 320)
    assert choose_bucket(buckets, [6085]) == Bucket(6208, 6208)
    assert choose_bucket(buckets, [197] * 31) == Bucket(6208, 6208 // 16)
    assert choose_bucket(buckets, [1025] * 5) == Bucket(6208 - 1024, (6208 - 1024) // 4)
    assert choose_bucket(buckets, [2] * 20) == Bucket(1344, 336)
    assert choose_bucket(buckets, [8193]) is None or buckets[-1].tokens > 8192
    assert choose_bucket(buckets, [2] * 1000) is None


def test_padding_is_spread_over_the_free_sequences() -> None:
    bucket = Bucket(640, 640)
    assert pad_lengths(bucket, [300, 100]) == [300, 100, 30, 30, 30, 30, 30, 30, 30, 30]
    assert pad_lengths(bucket, [639]) == [639, *[0] * 8, 1]
    assert sum(pad_lengths(bucket, [])) == 640


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_poolings_that_cannot_be_recorded_are_refused(pooling: str) -> None:
    with pytest.raises(ValueError, match=f"pooling='{pooling}' cannot be recorded"):
        GraphedVim(make(pooling=pooling), make_buckets(256))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_is_needed() -> None:
    with pytest.raises(ValueError, match="need a CUDA device"):
        GraphedVim(make(), make_buckets(256))
