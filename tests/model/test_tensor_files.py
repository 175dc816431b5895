"""Weights are read once into memory of their own, and nobody who touches the file touches them."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.model.checkpoints import published, state_of
from tests.processes import in_a_process
from vimserve.model import catalog
from vimserve.model.checkpoint import Checkpoint, CheckpointError, load_strictly
from vimserve.model.config import VIM_SMALL
from vimserve.model.device_memory import PeakMeter, release_unused
from vimserve.model.families import build
from vimserve.model.families.vim.config import VimConfig

CPU = torch.device("cpu")
NANO = VimConfig(width=64, depth=2, num_classes=10, grid=(4, 4))
# The rest is what PyTorch and the allocator need besides, a few MB whatever the weights are.
MOST_OF_THE_WEIGHTS = 1.25


def save_safetensors(path: Path, state: dict[str, Tensor]) -> None:
    safetensors.torch.save_file(state, path)


def save_with_an_optimizer(path: Path, state: dict[str, Tensor]) -> None:
    optimizer = {name: tensor + 1 for name, tensor in state.items()}
    published(path, state, optimizer=optimizer)


def save_legacy(path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


Save = Callable[[Path, dict[str, Tensor]], None]
FORMS: tuple[Save, ...] = (save_safetensors, save_with_an_optimizer, save_legacy)
in_every_form = pytest.mark.parametrize("save", FORMS, ids=lambda save: save.__name__)


def overwrite(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(os.urandom(size))


def truncate(path: Path) -> None:
    os.truncate(path, 100)


@in_every_form
@pytest.mark.parametrize("spoil", [overwrite, truncate, Path.unlink], ids=lambda f: f.__name__)
def test_a_model_outlives_its_file(
    tmp_path: Path, save: Save, spoil: Callable[[Path], None]
) -> None:
    path, state = tmp_path / "weights", state_of(NANO)
    save(path, state)
    loaded = catalog.load(catalog.resolve(f"mine={path}")).state_dict()
    assert str(path) not in Path("/proc/self/maps").read_text()
    spoil(path)
    assert all(torch.equal(loaded[name], state[name]) for name in state)


@in_every_form
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Save
) -> None:
    """Half of its weights would be of one version, half of another."""
    path, take = tmp_path / "weights", Checkpoint.take
    save(path, state_of(NANO))
    with torch.device("meta"):
        model = build(NANO)

    def take_and_write(checkpoint: Checkpoint, *which: Any) -> Tensor:
        os.utime(path, ns=(0, 0))
        return take(checkpoint, *which)

    monkeypatch.setattr(Checkpoint, "take", take_and_write)
    with pytest.raises(CheckpointError, match=r"weights: it was changed while it was read"):
        load_strictly(model, path, CPU)


@pytest.mark.parametrize("save", FORMS[:2], ids=lambda save: save.__name__)
def test_a_file_that_is_cut_short_while_it_is_read_is_refused(tmp_path: Path, save: Save) -> None:
    """A mapped one would end the process."""
    path, state = tmp_path / "weights", state_of(NANO)
    save(path, state)
    with Checkpoint(path) as checkpoint:
        os.truncate(path, 1000)
        last = [*checkpoint.tensors][-1]
        with pytest.raises(CheckpointError) as caught:
            checkpoint.take(last, torch.float32, CPU)
    assert "\n" not in str(caught.value)


def test_files_are_read_side_by_side(tmp_path: Path) -> None:
    """What may be unpickled is a setting of the whole process."""
    path = published(tmp_path / "my.pth", state_of(NANO))

    def read(_: int) -> int:
        with Checkpoint(path) as checkpoint:
            return len(checkpoint.tensors)

    with ThreadPoolExecutor(8) as pool:
        assert len({*pool.map(read, range(100))}) == 1


def peak_of_loading(path: Path, dtype: torch.dtype) -> tuple[int, int]:
    """The bytes by which loading raised the process's peak, and those of the weights."""
    with torch.device("meta"):
        build(VIM_SMALL)  # whatever building imports is no part of loading
    release_unused(CPU)
    with PeakMeter(CPU) as meter:
        model = catalog.load(catalog.resolve(f"mine={path}"), CPU, dtype)
    return meter.bytes, sum(parameter.nbytes for parameter in model.parameters())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[Save, Path]:
    """Every form of 98 MB of weights."""
    folder, state = tmp_path_factory.mktemp("small"), state_of(VIM_SMALL)
    files = {save: folder / save.__name__ for save in FORMS}
    for save, path in files.items():
        save(path, state)
    return files


@in_every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_loading_takes_no_more_memory_than_the_weights_once(
    small: dict[Save, Path], save: Save, dtype: torch.dtype
) -> None:
    peak, weights = in_a_process(peak_of_loading, small[save], dtype)
    if save is save_legacy:  # as they are in the file, since it cannot be read in parts
        weights = small[save].stat().st_size
    assert weights < peak < MOST_OF_THE_WEIGHTS * weights
