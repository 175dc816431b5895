"""A segmenter's replays give what the model gives, with an eager stand-in for the graphs."""

import dataclasses
import logging

import pytest
import torch
from torch import Tensor

from tests.closeness import assert_close
from tests.eager_graph import RECORDED_BYTES, EagerGraph
from tests.model.flash import Flash
from tests.model.offdevice import META, Operations, meta_model, stubbed_kernels
from vimserve.loadtests.gpu_check.recipe import make_weights
from vimserve.model import graphs
from vimserve.model.architecture import BackboneConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.families.deit import attention
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.upernet.config import VIM_TINY_UPERNET, UPerNetConfig
from vimserve.model.families.upernet.graphs import GraphedSegmenter, head_shapes
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.families.vim.config import Rope, VimConfig
from vimserve.model.layout import Layout
from vimserve.model.served import Answers

VIM = VimConfig(width=16, depth=4, states=8, grid=(4, 4))
ROPE = dataclasses.replace(VIM, rope=Rope())
DEIT = DeiTConfig(width=16, depth=4, heads=2, grid=(4, 4))
MAX_TOKENS = 700
BATCHES = [
    [(64, 64)],
    [(224, 224)] * 3,
    [(64, 64), (224, 224), (48, 112), (64, 64), (64, 64)],
    [(32, 48)] * 2,
    [(64, 64)] * 7,
    [(48, 32), (224, 224), (384, 48)],
]


def make(backbone: BackboneConfig) -> UPerNetSegmenter:
    model = UPerNetSegmenter(backbone, (0, 1, 2, 3), channels=8, num_classes=5)
    model.load_state_dict(make_weights(model))
    return model.eval()


def pack(sizes: list[tuple[int, int]]) -> PackedBatch:
    return PackedBatch.from_images([torch.randn(3, *size) for size in sizes])


def compare(actual: Answers, expected: Answers) -> None:
    assert len(actual.outputs) == len(expected.outputs)
    for one, other in zip(actual.outputs, expected.outputs, strict=True):
        assert one.dtype == other.dtype
        if one.dtype == torch.uint8:
            assert one.shape == other.shape
            assert (one == other).float().mean() > 0.999
        else:
            assert_close("scores", one, other, atol=1e-5)
    assert torch.equal(actual.finite, expected.finite)


@pytest.mark.parametrize("backbone", [VIM, ROPE, DEIT], ids=["vim", "vim with rope", "deit"])
def test_replays_of_mixed_sizes_answer_as_the_model_does(
    backbone: BackboneConfig, recorded: list[EagerGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    Flash(monkeypatch)
    model = make(backbone)
    graphed = GraphedSegmenter(model, model.backbone.graph_buckets(MAX_TOKENS))
    torch.manual_seed(0)
    for sizes in BATCHES * 2:  # what one batch leaves behind must not reach the next
        batch = pack(sizes)
        before = sum(graph.replays for graph in recorded)
        for wanted in ([*sizes[:-1], None], [None] * len(sizes)):
            actual = graphed.answer(batch, wanted)
            compare(actual, model.answer(batch, wanted))
            assert actual.recorded_bytes == RECORDED_BYTES
        assert sum(graph.replays for graph in recorded) > before


def test_scores_outlive_the_next_replay(recorded: list[EagerGraph]) -> None:
    model = make(VIM)
    graphed = GraphedSegmenter(model, model.backbone.graph_buckets(MAX_TOKENS))
    first, second = pack([(64, 64)] * 3), pack([(64, 64)] * 3)
    kept = graphed.answer(first, [None] * 3)
    graphed.answer(second, [None] * 3)
    compare(kept, model.answer(first, [None] * 3))


def test_what_is_too_large_or_not_square_runs_without_graphs(recorded: list[EagerGraph]) -> None:
    model = make(VIM)
    graphed = GraphedSegmenter(model, model.backbone.graph_buckets(MAX_TOKENS))
    batch = pack([(512, 480)])
    compare(graphed.answer(batch, [(512, 480)]), model.answer(batch, [(512, 480)]))
    assert not any(graph.replays for graph in recorded)


def test_the_head_is_replayed_for_squares_without_padding(recorded: list[EagerGraph]) -> None:
    model = make(VIM)
    graphed = GraphedSegmenter(model, model.backbone.graph_buckets(MAX_TOKENS))
    for images, replays in ((1, 1), (2, 1), (3, 2), (7, 3)):  # 7 is 4 and 2 and 1
        before = sum(graph.replays for graph in recorded)
        graphed.answer(pack([(64, 64)] * images), [(64, 64)] * images)
        assert sum(graph.replays for graph in recorded) - before == 1 + replays


def test_without_memory_the_head_runs_without_graphs(
    recorded: list[EagerGraph], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = make(VIM)
    buckets = model.backbone.graph_buckets(MAX_TOKENS)
    record = graphs.record

    def crowded(run: object, pool: object) -> graphs.Recording:
        if len(recorded) >= len(buckets):
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB.")
        return record(run, pool)  # type: ignore[arg-type]

    monkeypatch.setattr(graphs, "record", crowded)
    with caplog.at_level(logging.WARNING):
        graphed = GraphedSegmenter(model, buckets)
    assert "no CUDA graph for the head and 2 images of 4x4 patches: CUDA out of" in caplog.text
    batch = pack([(64, 64)] * 3)
    compare(graphed.answer(batch, [None] * 3), model.answer(batch, [None] * 3))
    assert sum(graph.replays for graph in recorded) == 1


def test_heads_are_recorded_for_the_common_squares() -> None:
    shapes = head_shapes(VIM_TINY_UPERNET, 65_536)
    assert {rows for _, (rows, _) in shapes} == {14, 24, 32, 48, 64, 78}
    assert {images for images, (rows, _) in shapes if rows == 32} == {1, 2, 4, 8}
    assert (1, (78, 78)) in shapes
    assert len(shapes) <= 24
    assert shapes[0][0] * shapes[0][1][0] ** 2 == 8192
    assert head_shapes(UPerNetConfig(VIM, (0, 1, 2, 3)), 15) == []
    assert head_shapes(UPerNetConfig(VIM, (0, 1, 2, 3)), 16) == [(1, (4, 4))]


@pytest.mark.parametrize("backbone", [VIM, DEIT], ids=["vim", "deit"])
def test_what_is_recorded_takes_nothing_from_the_host(
    backbone: BackboneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A capture ends with an error where the host is waited for, or copied from."""
    monkeypatch.setattr(attention, "has_packed_attention", lambda *_: True)
    config = UPerNetConfig(backbone, (0, 1, 2, 3), channels=8, num_classes=5)
    model = meta_model(config, torch.bfloat16)
    assert isinstance(model, UPerNetSegmenter)
    tokens = torch.empty(99, 16, dtype=torch.bfloat16, device=META)
    flat = torch.empty(4 + 3 * config.backbone.class_tokens, dtype=torch.int32, device=META)
    layout = Layout.view(flat, 3, (50,))

    def run() -> Tensor:
        model.backbone.features(tokens, layout, config.out_indices)
        return model.run_head([tokens.new_empty(2, 16, 14, 14) for _ in range(4)])

    with stubbed_kernels(), torch.inference_mode():
        run()  # derives the weights
        with Operations() as operations:
            assert run().shape == (2, 5, 56, 56)
    assert "aten.conv2d" in operations.names
    assert not operations.to_device
    assert not operations.to_host
    assert not operations.by_mask
