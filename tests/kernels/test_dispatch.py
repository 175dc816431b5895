from collections.abc import Iterator

import pytest
import torch

from kernels import dispatch
from kernels.add_norm import cpu, naive
from model.batch import PackedBatch
from model.config import VimConfig
from model.vim import Vim
from tests.closeness import assert_close
from tests.model.recipe import make_weights


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    dispatch.implementation.cache_clear()
    yield
    dispatch.implementation.cache_clear()


def test_the_device_chooses() -> None:
    assert dispatch.implementation("add_norm", "cpu") is cpu.add_norm


def test_a_variable_forces_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIMSERVE_KERNELS", "naive")
    assert dispatch.implementation("add_norm", "cpu") is naive.add_norm


@pytest.mark.parametrize("name", ["fast", "mps"])
def test_what_there_is_not_is_refused_with_the_choices(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "mps":
        monkeypatch.setenv("VIMSERVE_KERNELS", name)
    with pytest.raises(ValueError, match=rf"no kernels for '{name}': choose one of naive, cpu"):
        dispatch.implementation("add_norm", "mps")


def test_the_whole_model_gives_the_same_on_either(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Vim(VimConfig(width=32, depth=3, num_classes=5, grid=(3, 3)))
    model.load_state_dict(make_weights(model))
    torch.manual_seed(0)
    batch = PackedBatch.from_images([torch.randn(3, 48, 48), torch.randn(3, 16, 80)])
    fast = model(batch)
    dispatch.implementation.cache_clear()
    monkeypatch.setenv("VIMSERVE_KERNELS", "naive")

    assert_close("logits", fast, model(batch), atol=2e-5)
