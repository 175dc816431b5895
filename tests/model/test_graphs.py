"""Padding to buckets, and recordings, with an eager stand-in for the graph itself."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tests.closeness import assert_close
from tests.eager_graph import RECORDED_BYTES, EagerGraph
from tests.model.cuda import MIB, Block, Cuda
from vimserve.loadtests.gpu_check.recipe import make_weights
from vimserve.model import graphs
from vimserve.model.batch import PackedBatch
from vimserve.model.buckets import Bucket, make_buckets
from vimserve.model.device_errors import ran_out_of_memory
from vimserve.model.device_memory import Usage, usage
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.deit.model import DeiT
from vimserve.model.families.vim.config import Rope, VimConfig
from vimserve.model.families.vim.model import RECORDABLE_POOLINGS, Vim
from vimserve.model.graphs import GraphedModel, StaticInputs, record
from vimserve.model.layout import Layout

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
    registers = 4 if pooling == "registers" else 0
    model = make(pooling=pooling, bidirectional=bidirectional, registers=registers)
    graphed = GraphedModel(model, make_buckets(320))
    torch.manual_seed(0)
    for sizes in BATCHES * 2:  # what one batch leaves behind must not reach the next
        batch = pack(sizes)
        assert_close(f"{sizes}", graphed(batch), model(batch), atol=1e-5)
    assert sum(graph.replays for graph in recorded) == 2 * len(BATCHES)


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "middle", "rope": Rope()},
        {"pooling": "head", "rope": Rope(residual=False), "bidirectional": "layer"},
        {"pooling": "registers", "registers": 4, "reduce": 2},
        {"pooling": "head", "divide": False},
    ],
    ids=str,
)
def test_the_relatives_of_vim_are_replayed(
    changes: dict[str, Any], recorded: list[EagerGraph]
) -> None:
    """With RoPE a replay must read the places of its own batch's patches."""
    model = make(**changes)
    graphed = GraphedModel(model, make_buckets(320))
    torch.manual_seed(0)
    for sizes in BATCHES * 2:
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
    assert not any(layout.turns is not None for _, layout in views)


def test_places_of_a_replay_never_move() -> None:
    inputs = StaticInputs(make(rope=Rope()), [Bucket(256, 512), Bucket(512, 512)])
    turns = [inputs.view(Bucket(tokens, 512))[1].turns for tokens in (512, 256)]
    assert [None if t is None else (t.shape, t.dtype) for t in turns] == [
        ((512, 2), torch.float32),
        ((256, 2), torch.float32),
    ]
    assert len({t.data_ptr() for t in turns if t is not None}) == 1


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


VERSIONS = [(2, 11), (2, 12), (2, 13)]


@pytest.fixture(params=VERSIONS, ids=lambda version: "torch {}.{}".format(*version))
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    """A GPU of 1 GiB."""
    fake = Cuda(1024 * MIB, request.param)
    fake.install(monkeypatch)
    graphs.side_stream.cache_clear()
    yield fake
    graphs.side_stream.cache_clear()


def layers(cuda: Cuda, *sizes: int) -> Callable[[], Any]:
    """A pass whose products have these sizes; each is dropped once the next one is there."""

    def run() -> Block:
        last = cuda.product(out=sizes[0])
        for size in sizes[1:]:
            last = cuda.product(out=size)
        return last

    return run


def test_the_peak_is_that_of_the_recorded_pass_without_the_workspace(cuda: Cuda) -> None:
    weights = cuda.malloc(100 * MIB)
    recording = record(layers(cuda, 50 * MIB, 30 * MIB, 1 * MIB), None)
    assert recording.peak_bytes == 80 * MIB
    held = cuda.allocated
    cuda.reset_peak(None)
    recording.graph.replay()
    assert cuda.peak == held == 101 * MIB  # which is why it is measured while it is recorded
    assert weights.alive


def test_memory_of_graphs_is_not_free(cuda: Cuda) -> None:
    held = cuda.malloc(100 * MIB)
    cuda.malloc(30 * MIB)
    recording = record(layers(cuda, 50 * MIB, 30 * MIB, 1 * MIB), None)
    before = usage(torch.device("cuda"))
    cuda.malloc(200 * MIB)
    after = usage(torch.device("cuda"))
    pool = (50 + 30 + 2 + 32) * MIB  # the small result, and the workspace
    assert before == after == Usage(1024 * MIB - 100 * MIB - pool, 100 * MIB, pool)
    with pytest.raises(torch.OutOfMemoryError):
        cuda.malloc(after.free + MIB)
    cuda.malloc(after.free)
    assert held.alive
    assert recording.output


def test_graphs_share_one_stream_and_leave_no_workspaces(cuda: Cuda) -> None:
    """A new stream for each would leave 32 workspaces, 1 GiB on a Hopper."""
    made = [record(layers(cuda, 40 * MIB, MIB), None)]
    for size in range(39, 0, -1):
        made.append(record(layers(cuda, size * MIB, MIB), made[0].graph.pool()))
    assert len(cuda.made) == 1
    assert not cuda.workspaces
    assert usage(torch.device("cuda")).held == 0
    # The largest result between layers, the workspace, and all that the graphs answer with.
    assert usage(torch.device("cuda")).graphs == (40 + 32 + 42) * MIB


def test_a_graph_outlives_those_of_other_models(cuda: Cuda) -> None:
    first, second = (record(layers(cuda, 8 * MIB, MIB), None) for _ in range(2))
    del first
    cuda.empty_cache()
    cuda.product(out=MIB)
    second.graph.replay()


def test_it_would_not_with_a_workspace_that_they_share(
    cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is pytorch#193402, which PyTorch 2.11 does not have."""
    monkeypatch.setattr(graphs, "release_workspaces", lambda device: 0)
    test = test_a_graph_outlives_those_of_other_models
    if cuda.version < (2, 12):
        test(cuda)
    else:
        with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
            test(cuda)


def test_what_other_threads_do_ends_no_capture(cuda: Cuda) -> None:
    def run() -> Any:
        cuda.unsafe_call_of_another_thread()
        return layers(cuda, MIB)()

    record(run, None).graph.replay()


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_a_capture_without_memory_leaves_everything_usable(
    cuda: Cuda, broken: bool, shared: bool
) -> None:
    first = record(layers(cuda, MIB), None)  # takes 2 MiB, and 32 as a workspace
    pool = first.graph.pool() if shared else None

    def run() -> Any:
        block = cuda.product(out=MIB)
        if cuda.capturing is not None:
            cuda.capturing.invalid = broken
            cuda.malloc(2048 * MIB)
        return block

    with pytest.raises(RuntimeError) as caught:
        record(run, pool)
    assert ran_out_of_memory(caught.value)
    assert isinstance(caught.value, torch.AcceleratorError if broken else torch.OutOfMemoryError)
    assert cuda.stream is cuda.main
    assert not cuda.captures
    del caught  # its frames hold tensors
    cuda.empty_cache()
    if not shared and not (broken and cuda.version >= (2, 13)):  # where nothing tells it apart
        assert usage(torch.device("cuda")).graphs == (2 + 32) * MIB
    record(layers(cuda, 50 * MIB), pool).graph.replay()


def test_a_bucket_without_memory_runs_without_a_graph(
    cuda: Cuda, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, buckets = make(), make_buckets(1088)
    classify, large = model.classify, [2048 * MIB]

    def hungry(tokens: torch.Tensor, layout: Layout) -> torch.Tensor:
        cuda.product(out=large[0] if len(tokens) > 1000 else MIB)
        return classify(tokens, layout)

    monkeypatch.setattr(model, "classify", hungry)
    graphed = GraphedModel(model, buckets)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        f"no CUDA graph for {bucket.tokens} tokens"
        for bucket in reversed(buckets)
        if bucket.tokens > 1000
    ]
    assert caplog.records
    assert graphed.answer(pack([(224, 224)]), [None]).recorded_bytes == MIB
    large[0] = MIB
    assert graphed.answer(pack([(512, 512)]), [None]).recorded_bytes == 0


def test_another_error_is_not_taken_for_too_little_memory(
    cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tokens: torch.Tensor, layout: Layout) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    model = make()
    monkeypatch.setattr(model, "classify", fail)
    with pytest.raises(torch.AcceleratorError, match="illegal"):
        GraphedModel(model, make_buckets(256))
