"""Which implementation a device gets."""

from collections.abc import Iterator

import pytest
import torch

from tests.closeness import assert_close
from vimserve.kernels import dispatch
from vimserve.kernels.dispatch import implementation
from vimserve.loadtests.gpu_check.recipe import make_weights
from vimserve.model.batch import PackedBatch
from vimserve.model.config import VimConfig
from vimserve.model.families.vim.model import Vim


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    def clear() -> None:
        dispatch.implementation.cache_clear()
        dispatch._for_this_gpu.cache_clear()

    clear()
    yield
    clear()


@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    numbers = [9, 0]
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: tuple(numbers))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    return numbers


def test_gpu_runs_triton(capability: list[int]) -> None:
    assert implementation("add_norm", "cuda").__module__ == "vimserve.kernels.add_norm.triton"


def test_old_gpu_runs_plain_pytorch_and_says_so_once(capability: list[int]) -> None:
    capability[:] = 7, 0

    with pytest.warns(
        UserWarning, match=r"Some GPU has compute capability 7.0, .* need 7.5"
    ) as all_:
        names = {implementation(op, "cuda").__module__ for op in ("add_norm", "conv1d")}

    assert names == {"vimserve.kernels.add_norm.naive", "vimserve.kernels.conv1d.naive"}
    assert len(all_) == 1


def test_variable_forces_an_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "naive")

    assert implementation("conv1d", "cpu").__module__ == "vimserve.kernels.conv1d.naive"


@pytest.mark.parametrize("forced", ["", "fast"])
def test_unknown_implementation(monkeypatch: pytest.MonkeyPatch, forced: str) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, forced)

    with pytest.raises(ValueError, match="choose one of naive, cpu, triton"):
        implementation("conv1d", "tpu")


def test_the_whole_model_gives_the_same_on_either(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Vim(VimConfig(width=32, depth=3, num_classes=5, grid=(3, 3)))
    model.load_state_dict(make_weights(model))
    torch.manual_seed(0)
    batch = PackedBatch.from_images([torch.randn(3, 48, 48), torch.randn(3, 16, 80)])
    fast = model(batch)
    dispatch.implementation.cache_clear()
    monkeypatch.setenv("VIMSERVE_KERNELS", "naive")

    assert_close("logits", fast, model(batch), atol=2e-5)
