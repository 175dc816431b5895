import argparse
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.closeness import assert_close
from tests.model.checkpoints import assert_refused, published, state_of
from vimserve.model import catalog
from vimserve.model.architecture import ModelConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.checkpoint import CheckpointError, read_architecture, read_state_dict
from vimserve.model.families import build
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.vim.config import VimConfig

NANO = VimConfig(width=32, depth=2, num_classes=10, grid=(4, 4))
NANO_DEIT = DeiTConfig(width=64, depth=2, heads=1, num_classes=10, grid=(4, 4))


@pytest.mark.parametrize("config", [NANO, NANO_DEIT], ids=["vim", "deit"])
@pytest.mark.parametrize("layout", ["published", "bare", "state_dict", "legacy", "safetensors"])
def test_every_layout_gives_the_same_answers(
    tmp_path: Path, layout: str, config: ModelConfig
) -> None:
    state, path = state_of(config), tmp_path / "my.pth"
    if layout == "published":
        published(path, state)
    elif layout == "safetensors":
        path = tmp_path / "my.safetensors"
        safetensors.torch.save_file(state, path)
    else:
        content = {"state_dict": state} if layout == "state_dict" else state
        torch.save(content, path, _use_new_zipfile_serialization=layout != "legacy")
    model = build(config)
    model.load_state_dict(state)
    batch = PackedBatch.from_images([torch.randn(3, 64, 96)])

    loaded = catalog.load(catalog.resolve(f"mine={path}"))

    assert_close("logits", loaded(batch), model(batch), atol=1e-6)


def truncated(path: Path) -> None:
    published(path, state_of(NANO))
    path.write_bytes(path.read_bytes()[:20_000])


def foreign(path: Path) -> None:
    published(path, state_of(NANO), extra=argparse.HelpFormatter("x"))


def other_tensors(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, path)


def one_missing(path: Path) -> None:
    state = state_of(NANO)
    del state["layers.1.mixer.out_proj.weight"]
    published(path, state)


def one_unknown(path: Path) -> None:
    published(path, state_of(NANO) | {"layers.0.mixer.gate": torch.zeros(3)})


def misshapen(path: Path) -> None:
    published(path, state_of(NANO) | {"norm_f.weight": torch.zeros(3)})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n not a model"), "not a checkpoint"),
        (truncated, "damaged"),
        (foreign, "refused: .* argparse.HelpFormatter, which could run code"),
        (lambda path: torch.save([torch.zeros(2)], path), "holds no state dict"),
        (
            other_tensors,
            "no checkpoint of a known family: it has none of the tensors layers.0.mixer",
        ),
        (one_missing, "missing tensors: layers.1.mixer.out_proj.weight"),
        (one_unknown, "unknown tensors: layers.0.mixer.gate"),
        (misshapen, r"other shapes: norm_f.weight \[3\] instead of \[32\]"),
    ],
)
def test_what_cannot_be_served_is_refused_on_one_line(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    path = tmp_path / "my.pth"
    spoil(path)
    assert_refused(path, message)


def test_damaged_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "my.safetensors"
    path.write_bytes(b"not a header" * 9)
    with pytest.raises(CheckpointError, match="damaged"):
        read_state_dict(path)


def test_weights_are_mapped_not_copied(tmp_path: Path) -> None:
    path = published(tmp_path / "my.pth", state_of(NANO))
    state = read_state_dict(path)
    assert state
    assert str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"args": argparse.Namespace(model="videomamba_tiny", lr=1.0)}, "videomamba_tiny"),
        ({"args": {"model": "vim_tiny", "lr": 1.0}}, "vim_tiny"),
        ({"args": argparse.Namespace(lr=1.0)}, ""),
        ({"args": {"model": ["vim_tiny"]}}, ""),
        ({"args": None}, ""),
        ({}, ""),
    ],
)
def test_the_architecture_is_among_the_training_arguments(
    tmp_path: Path, content: dict[str, Any], name: str
) -> None:
    path = tmp_path / "my.pth"
    torch.save({"model": state_of(NANO)} | content, path)
    assert read_architecture(path) == name


def test_a_file_without_training_arguments_names_no_architecture(tmp_path: Path) -> None:
    path = tmp_path / "my.safetensors"
    safetensors.torch.save_file(state_of(NANO), path)
    assert read_architecture(path) == ""
