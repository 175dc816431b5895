"""What start-up decides about a GPU, with the answers of one that is not there."""

import logging
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from vimserve.model.batch import PackedBatch
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.deit.model import DeiT
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.served import Answers
from vimserve.server.config import Config
from vimserve.server.engine import device as devices
from vimserve.server.engine import runner as runners
from vimserve.server.engine.device import record_graphs
from vimserve.server.engine.runner import Runner


def kernels_of(name):
    return lambda operation, _: SimpleNamespace(__module__=f"vimserve.kernels.{operation}.{name}")


class Elsewhere(torch.nn.Module):
    """A patch projection whose weight says that it is on another device."""

    def __init__(self, device):
        super().__init__()
        self.weight = SimpleNamespace(device=torch.device(device))


def on_gpu(model):
    model.patch_embed.proj = Elsewhere("cuda")
    return model


def vim(pooling="middle"):
    return on_gpu(Vim(VimConfig(width=32, depth=1, pooling=pooling)))


def anything(lengths):
    return True


class Graphs:
    """Stands in for a model's graphs."""

    def __init__(self, *arguments):
        self.arguments = arguments


@pytest.fixture
def graphs(monkeypatch):
    monkeypatch.setattr(devices, "GraphedModel", Graphs)
    monkeypatch.setattr(devices, "GraphedSegmenter", Graphs)


def test_a_gpu_with_kernels_gets_graphs_up_to_the_budget(monkeypatch, graphs):
    monkeypatch.setattr(devices, "implementation", kernels_of("triton"))
    model = vim()
    made = record_graphs(model, 8192, anything)
    assert isinstance(made, Graphs)
    assert made.arguments == (model, model.graph_buckets(8192))


def test_an_old_gpu_runs_plain_pytorch_and_the_log_says_so(monkeypatch, graphs, caplog):
    monkeypatch.setattr(devices, "implementation", kernels_of("naive"))
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (7, 0))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "Tesla V100")
    with caplog.at_level(logging.WARNING):
        assert record_graphs(vim(), 8192, anything) is None
    assert "Tesla V100 (sm_70) runs the plain PyTorch path: slowly" in caplog.text


def test_a_deit_needs_no_kernels_of_ours(monkeypatch, graphs):
    monkeypatch.setattr(devices, "implementation", kernels_of("naive"))
    model = on_gpu(DeiT(DeiTConfig(width=32, depth=1, heads=2)))
    made = record_graphs(model, 8192, anything)
    assert isinstance(made, Graphs)
    assert made.arguments == (model, model.graph_buckets(8192))
    assert record_graphs(model, 196, anything) is None


@pytest.mark.parametrize("backbone", [VimConfig, partial(DeiTConfig, heads=2)])
def test_a_segmenter_gets_graphs_of_its_backbones_buckets(monkeypatch, graphs, backbone):
    monkeypatch.setattr(devices, "implementation", kernels_of("triton"))
    model = UPerNetSegmenter(backbone(width=32, depth=4), (0, 1, 2, 3), channels=8, num_classes=5)
    assert record_graphs(model, 8192, anything) is None  # on a CPU
    on_gpu(model.backbone)
    made = record_graphs(model, 8192, anything)
    assert isinstance(made, Graphs)
    assert made.arguments == (model, model.backbone.graph_buckets(8192))
    monkeypatch.setattr(devices, "implementation", kernels_of("naive"))
    monkeypatch.setattr(devices, "has_kernels", lambda _: False)
    assert (record_graphs(model, 8192, anything) is None) == (backbone is VimConfig)


def test_what_cannot_be_recorded_runs_without_graphs(monkeypatch, graphs):
    monkeypatch.setattr(devices, "implementation", kernels_of("triton"))
    assert record_graphs(vim("mean"), 8192, anything) is None
    assert record_graphs(Vim(VimConfig(width=32, depth=1)), 8192, anything) is None


@pytest.fixture
def cuda(monkeypatch):
    """A CUDA of which only the order of the calls is real; its log."""
    log = []

    class Stream:
        def __init__(self, device=None):
            self.name = "main" if device is None else "copies"

        def wait_stream(self, other):
            log.append(f"{self.name} waits for {other.name}")

    class Event:
        def record(self, stream):
            log.append(f"end recorded on {stream.name}")

        def query(self):
            return "host waits" in log

        def synchronize(self):
            log.append("host waits")

    main, real_empty = Stream(), torch.empty

    @contextmanager
    def on(stream):
        log.append(f"on {stream.name}")
        yield
        log.append(f"off {stream.name}")

    def to(batch, device):
        log.append("copy")
        return batch

    monkeypatch.setattr(runners, "usable_device", torch.device)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(
        torch, "empty", lambda *shape, pin_memory=False, **options: real_empty(*shape, **options)
    )
    monkeypatch.setattr(PackedBatch, "cat", lambda batches, pin_memory: batches[0])
    monkeypatch.setattr(PackedBatch, "to", to)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    return log


def test_a_runner_loads_in_the_dtype_asked_for(monkeypatch, cuda, tiny, spec):
    asked = []

    def load(spec, device, dtype):
        asked.append((device, dtype))
        return tiny

    monkeypatch.setattr("vimserve.model.catalog.load", load)
    Runner(spec, Config())
    Runner(spec, Config(device="cuda"))
    Runner(spec, Config(device="cuda", dtype="float16"))
    on_cpu, on_gpu = torch.device("cpu"), torch.device("cuda")
    assert asked == [(on_cpu, torch.float32), (on_gpu, torch.bfloat16), (on_gpu, torch.float16)]


def test_graphs_replace_the_module(monkeypatch, cuda, tiny, spec):
    replayed = []

    def replay(batch, wanted):
        replayed.append(batch)
        return tiny.answer(batch, wanted)

    def record(module, max_tokens, fits):
        assert (module, max_tokens, fits) == (tiny, 99, anything)
        return SimpleNamespace(answer=replay)

    monkeypatch.setattr(runners, "record_graphs", record)
    runner = Runner(spec, Config(device="cuda", dtype="float32"))
    runner.warm_up(64)
    assert not replayed
    runner.record_graphs(99, anything)
    (scores,) = runner.run([runner.smallest()])
    assert scores is not None
    assert scores.shape == (7,)
    assert len(replayed) == 1


def test_a_pass_tells_the_memory_of_its_graph(monkeypatch, cuda, tiny, spec):
    monkeypatch.setattr(
        tiny, "answer", lambda batch, wanted: Answers.of_scores(tiny(batch), recorded_bytes=777)
    )
    runner = Runner(spec, Config(device="cuda", dtype="float32"))
    assert runner.start([runner.smallest()]).recorded_bytes == 777


def test_a_batch_is_copied_while_another_computes(cuda, tiny, spec):
    runner = Runner(spec, Config(device="cuda", dtype="float32"))
    tiny.check = lambda batch: cuda.append("forward")
    cuda.clear()
    started = runner.start([runner.smallest()])
    assert cuda == [
        "on copies", "copy", "off copies", "main waits for copies", "forward",
        "end recorded on main",
    ]  # fmt: skip
    assert not started.done
    (scores,) = started.outputs()
    assert scores is not None
    assert scores.shape == (7,)
    assert cuda[-1] == "host waits"
    assert started.done
