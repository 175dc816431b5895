"""Padding to buckets, and recordings, with an eager stand-in for the graph itself."""

import dataclasses
from typing import Any

import pytest
import torch

from tests.closeness import assert_close
from tests.eager_graph import RECORDED_BYTES, EagerGraph
from tests.model.flash import Flash
from vimserve.loadtests.gpu_check.recipe import make_weights
from vimserve.model.batch import PackedBatch
from vimserve.model.buckets import Bucket, make_buckets
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.deit.model import DeiT
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.families.vim.model import RECORDABLE_POOLINGS, Vim
from vimserve.model.graphs import GraphedModel, StaticInputs

NANO = VimConfig(width=32, depth=2, num_classes=10, grid=(4, 4))
BATCHES = [[(64, 64)], [(16, 16), (112, 80), (32, 400)], [(224, 224)], [(16, 32)] * 3]


def make(**changes: Any) -> Vim:
    model = Vim(dataclasses.replace(NANO, **changes))
    model.load_state_dict(make_weights(model))
    return model


def pack(sizes: list[tuple[int, int]]) -> PackedBatch:
    return PackedBatch.from_images([torch.randn(3, *size) for size in sizes])


@pytest.mark.parametrize("bidirectional", ["ssm+conv", "layer"])
@pytest.mark.parametrize("pooling", RECORDABLE_POOLINGS)
def test_padding_changes_no_answer(
    pooling: str, bidirectional: str, recorded: list[EagerGraph]
) -> None:
    model = make(pooling=pooling, bidirectional=bidirectional)
    graphed = GraphedModel(model, make_buckets(320))
    torch.manual_seed(0)
    for sizes in BATCHES * 2:  # what one batch leaves behind must not reach the next
        batch = pack(sizes)
        assert_close(f"{sizes}", graphed(batch), model(batch), atol=1e-5)
    assert sum(graph.replays for graph in recorded) == 2 * len(BATCHES)


def test_a_result_outlives_the_next_replay(recorded: list[EagerGraph]) -> None:
    model = make()
    graphed = GraphedModel(model, make_buckets(256))
    first = pack([(64, 64)])
    scores = graphed(first)
    graphed(pack([(64, 64)]))
    assert_close("first", scores, model(first), atol=1e-5)


def test_what_no_bucket_holds_runs_without_a_graph(recorded: list[EagerGraph]) -> None:
    model = make()
    graphed = GraphedModel(model, make_buckets(256))
    for sizes in ([(320, 320)], [(16, 16)] * 9):
        batch = pack(sizes)
        assert_close(f"{sizes}", graphed(batch), model(batch), atol=1e-5)
    assert not any(graph.replays for graph in recorded)


def test_inputs_of_a_replay_never_move() -> None:
    inputs = StaticInputs(make(), [Bucket(256, 512), Bucket(512, 512)])
    views = [inputs.view(Bucket(tokens, 512)) for tokens in (512, 256)]
    assert len({tokens.data_ptr() for tokens, _ in views}) == 1
    assert len({layout.cu_seqlens.data_ptr() for _, layout in views}) == 1


def test_an_answer_tells_the_memory_of_its_graph(recorded: list[EagerGraph]) -> None:
    graphed = GraphedModel(make(), make_buckets(256))
    assert graphed.answer(pack([(64, 64)]), [None]).recorded_bytes == RECORDED_BYTES
    assert graphed.answer(pack([(320, 320)]), [None]).recorded_bytes == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_is_needed() -> None:
    with pytest.raises(ValueError, match="need a CUDA device"):
        GraphedModel(make(), make_buckets(256))


@pytest.mark.parametrize("attention", ["fused", "eager"])
def test_a_deit_replays_images_of_one_common_size(
    attention: str, recorded: list[EagerGraph]
) -> None:
    model = DeiT(DeiTConfig(width=32, depth=2, heads=2, num_classes=10, attention=attention))  # type: ignore[arg-type]
    model.load_state_dict(make_weights(model))
    graphed = GraphedModel(model, model.graph_buckets(1000))
    torch.manual_seed(0)
    common = [[(224, 224)] * 3, [(224, 224)], [(384, 384)], [(224, 224)] * 5]
    others = [[(224, 224), (384, 384)], [(32, 48)], [(512, 512)], [(224, 224)] * 6]
    for sizes in common * 2 + others:
        batch = pack(sizes)
        assert_close(f"{sizes}", graphed(batch), model(batch), atol=1e-5)
    assert sum(graph.replays for graph in recorded) == 2 * len(common)


def test_a_deit_replays_images_of_any_sizes_where_attention_is_packed(
    recorded: list[EagerGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = DeiT(DeiTConfig(width=32, depth=2, heads=2, num_classes=10))
    model.load_state_dict(make_weights(model))
    torch.manual_seed(0)
    mixed = [[(224, 224), (384, 384)], [(32, 48)], [(16, 400), (64, 64)], [(224, 224)] * 3]
    batches = [pack(sizes) for sizes in mixed * 2]
    expected = [model(batch) for batch in batches]

    flash = Flash(monkeypatch)
    graphed = GraphedModel(model, model.graph_buckets(800))
    calls = flash.calls

    for batch, scores in zip(batches, expected, strict=True):
        assert_close(f"{batch.grids}", graphed(batch), scores, atol=1e-5)
    assert sum(graph.replays for graph in recorded) == len(batches)
    assert flash.calls - calls == 2 * 2 * 3  # blocks in the batches that are not of common squares
