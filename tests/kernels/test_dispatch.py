"""Which implementation a device gets."""

from collections.abc import Iterator

import pytest
import torch

from kernels import dispatch
from kernels.dispatch import implementation


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    def clear() -> None:
        dispatch.implementation.cache_clear()
        dispatch._for_this_gpu.cache_clear()

    clear()
    yield
    clear()


@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    numbers = [9, 0]
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: tuple(numbers))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    return numbers


def test_gpu_runs_triton(capability: list[int]) -> None:
    assert implementation("add_norm", "cuda").__module__ == "kernels.add_norm.triton"


def test_old_gpu_runs_plain_pytorch_and_says_so_once(capability: list[int]) -> None:
    capability[:] = 7, 0

    with pytest.warns(
        UserWarning, match=r"Some GPU has compute capability 7.0, .* need 7.5"
    ) as all_:
        names = {implementation(op, "cuda").__module__ for op in ("add_norm", "conv1d")}

    assert names == {"kernels.add_norm.naive", "kernels.conv1d.naive"}
    assert len(all_) == 1


def test_variable_forces_an_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "naive")

    assert implementation("conv1d", "cpu").__module__ == "kernels.conv1d.naive"


@pytest.mark.parametrize("forced", ["", "fast"])
def test_unknown_implementation(monkeypatch: pytest.MonkeyPatch, forced: str) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, forced)

    with pytest.raises(ValueError, match="choose one of naive, cpu, triton"):
        implementation("conv1d", "tpu")
