import pytest
import torch
from prometheus_client import CollectorRegistry

from vimserve.server.telemetry.gpu_memory import GpuMemory


@pytest.fixture
def gpu_memory():
    """The samples of a scrape, by kind."""

    def read():
        registry = CollectorRegistry()
        registry.register(GpuMemory("cuda:1"))
        (family,) = registry.collect()
        assert family.name == "vimserve_gpu_memory_bytes"
        assert all(sample.labels["device"] == "cuda:1" for sample in family.samples)
        return {sample.labels["kind"]: sample.value for sample in family.samples}

    return read


def test_the_memory_of_a_gpu(monkeypatch, gpu_memory):
    asked = []

    def mem_get_info(device):
        asked.append(device)
        return 30, 80

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 40)
    assert gpu_memory() == {"allocated": 20, "reserved": 40, "used": 50, "total": 80}
    assert set(asked) == {"cuda:1"}


def test_a_gpu_that_nobody_uses_yet_is_left_alone(monkeypatch, gpu_memory):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.delattr(torch.cuda, "mem_get_info")
    assert gpu_memory() == {}


def test_a_broken_gpu_does_not_hide_the_rest(monkeypatch, gpu_memory):
    def fail(_device):
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    assert gpu_memory() == {}
