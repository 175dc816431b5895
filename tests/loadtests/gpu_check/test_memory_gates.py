"""The gates of a GPU's memory, with a stand-in for the GPU."""

from collections.abc import Iterator

import pytest
import torch

from tests.model.cuda import MIB, Cuda
from vimserve.loadtests.gpu_check import memory_gates as gates
from vimserve.model import graphs


@pytest.fixture(params=[(2, 11), (2, 12), (2, 13)], ids=lambda v: "torch {}.{}".format(*v))
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    fake = Cuda(4096 * MIB, request.param)
    fake.install(monkeypatch)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(gates, "hold", fake.malloc)
    monkeypatch.setattr(gates, "product", lambda: fake.product(out=gates.RESULT))
    monkeypatch.setattr(gates, "long_product", lambda: fake.product(out=128 * 1024))
    monkeypatch.setattr(gates, "error_of_long_product", lambda result: 0.0)
    monkeypatch.setattr(gates, "use_device_elsewhere", fake.unsafe_call_of_another_thread)
    graphs.side_stream.cache_clear()
    yield fake
    graphs.side_stream.cache_clear()


def red() -> list[str]:
    return [gate.name.removeprefix("memory: ") for gate in gates.memory_gates() if not gate.green]


def test_all_are_green(cuda: Cuda) -> None:
    made = list(gates.memory_gates())
    assert len(made) == 10
    assert all(gate.green for gate in made), made


def test_a_workspace_of_another_size_is_red(cuda: Cuda) -> None:
    cuda.workspace = 8 * MIB
    assert red() == ["cuBLAS's workspace"]


def test_graphs_that_share_a_workspace_are_red(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "release_workspaces", lambda device: 0)
    found = red()
    assert "left outside of graphs" in found
    broken = "end_of_another_graph: CUDA error: an illegal memory access was encountered"
    assert (broken in found) == (cuda.version >= (2, 12))


def test_a_capture_that_other_threads_end_is_red(
    cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = torch.cuda.graph

    def globally(*arguments: object, capture_error_mode: str) -> object:
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.cuda, "graph", globally)
    assert red() == [
        "another_thread: CUDA error: operation failed due to a previous error during capture"
    ]
