"""What start-up decides about a GPU, with the answers of one that is not there."""

import logging
from types import SimpleNamespace

import pytest
import torch

from model.batch import PackedBatch
from model.buckets import buckets_of, make_buckets
from model.config import DeiTConfig, VimConfig
from model.deit import DeiT
from model.vim import Vim
from server.config import Config
from server.engine import device as devices
from server.engine import runner as runners
from server.engine.device import record_graphs
from server.engine.runner import Runner


def kernels_of(name):
    return lambda operation, _: SimpleNamespace(__module__=f"kernels.{operation}.{name}")


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


@pytest.fixture
def made(monkeypatch):
    calls = []
    monkeypatch.setattr(devices, "GraphedModel", lambda *args: calls.append(args) or "graphs")
    return calls


def test_a_gpu_with_kernels_gets_graphs_up_to_the_budget(monkeypatch, made):
    monkeypatch.setattr(devices, "implementation", kernels_of("triton"))
    model = vim()
    assert record_graphs(model, 8192) == "graphs"
    assert made == [(model, make_buckets(8192))]


def test_an_old_gpu_runs_plain_pytorch_and_the_log_says_so(monkeypatch, made, caplog):
    monkeypatch.setattr(devices, "implementation", kernels_of("naive"))
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (7, 0))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "Tesla V100")
    with caplog.at_level(logging.WARNING):
        assert record_graphs(vim(), 8192) is None
    assert "Tesla V100 (sm_70) runs the plain PyTorch path: slowly" in caplog.text
    assert not made


def test_a_deit_needs_no_kernels_of_ours(monkeypatch, made):
    monkeypatch.setattr(devices, "implementation", kernels_of("naive"))
    model = on_gpu(DeiT(DeiTConfig(width=32, depth=1, heads=2)))
    assert record_graphs(model, 8192) == "graphs"
    assert made == [(model, buckets_of(model, 8192))]
    assert record_graphs(model, 196) is None


def test_what_cannot_be_recorded_runs_without_graphs(monkeypatch, made):
    monkeypatch.setattr(devices, "implementation", kernels_of("triton"))
    assert record_graphs(vim("mean"), 8192) is None
    assert record_graphs(Vim(VimConfig(width=32, depth=1)), 8192) is None
    assert not made


def test_a_runner_loads_in_the_dtype_asked_for(monkeypatch, tiny, spec):
    asked = []
    monkeypatch.setattr(
        "model.catalog.load", lambda spec, device, dtype: asked.append((device, dtype)) or tiny
    )
    monkeypatch.setattr(runners, "usable_device", torch.device)
    Runner(spec, Config())
    Runner(spec, Config(device="cuda"))
    Runner(spec, Config(device="cuda", dtype="float16"))
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert asked == [(cpu, torch.float32), (cuda, torch.bfloat16), (cuda, torch.float16)]


@pytest.mark.parametrize("wanted", [True, False])
def test_warming_up_replaces_the_module_by_its_graphs(monkeypatch, tiny, spec, wanted):
    monkeypatch.setattr(runners, "usable_device", torch.device)
    replayed = []

    def graphs(module, max_tokens):
        assert (module, max_tokens) == (tiny, 99)
        return lambda batch: replayed.append(batch) or module(batch)

    monkeypatch.setattr(runners, "record_graphs", graphs)
    monkeypatch.setattr(PackedBatch, "cat", lambda batches, pin_memory: batches[0])
    monkeypatch.setattr(PackedBatch, "to", lambda self, device: self)
    runner = Runner(spec, Config(device="cuda", dtype="float32", cuda_graphs=wanted))
    runner.warm_up(64, 99)
    scores = runner.run([runner.pack(torch.zeros(3, 64, 64, dtype=torch.uint8))])
    assert scores.shape == (1, 7)
    assert bool(replayed) == wanted
