import argparse
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.closeness import assert_close
from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.checkpoint import (
    CheckpointError,
    infer_deit_config,
    infer_vim_config,
    read_state_dict,
)
from vimserve.model.config import (
    DEIT_BASE_384,
    DEIT_TINY,
    VIM_TINY_PLUS,
    DeiTConfig,
    ModelConfig,
    VimConfig,
)
from vimserve.model.families import build
from vimserve.model.families.vim.model import Vim

NANO = VimConfig(width=32, depth=2, num_classes=10, grid=(4, 4))
NANO_DEIT = DeiTConfig(width=64, depth=2, heads=1, num_classes=10, grid=(4, 4))


def state_of(config: ModelConfig) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return build(config).state_dict()


def published(path: Path, state: dict[str, Tensor], **beside: Any) -> Path:
    """A ``.pth`` as the authors publish them: the training arguments ride along."""
    arguments = argparse.Namespace(model="vim_tiny", input_size=224, lr=5e-4)
    torch.save({"model": state, "optimizer": {"step": 1}, "args": arguments, **beside}, path)
    return path


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


@pytest.mark.parametrize(
    "config",
    [
        *(dataclasses.replace(NANO, bidirectional=b) for b in ("none", "ssm", "ssm+conv")),
        *(dataclasses.replace(NANO, pooling=p) for p in ("double", "mean", "middle")),
        dataclasses.replace(NANO, width=48, depth=6, states=8, grid=(14, 14), num_classes=3),
        VIM_TINY_PLUS,
    ],
    ids=str,
)
def test_the_architecture_is_read_off_the_tensors(config: VimConfig) -> None:
    with torch.device("meta"):
        state = Vim(config).state_dict()
    assert infer_vim_config(state) == config


@pytest.mark.parametrize(
    "config",
    [
        NANO_DEIT,
        DEIT_TINY,
        DEIT_BASE_384,
        dataclasses.replace(NANO_DEIT, width=128, heads=2, mlp_ratio=2, patch_size=8, depth=11),
    ],
    ids=str,
)
def test_a_deits_architecture_is_read_off_the_tensors(config: DeiTConfig) -> None:
    with torch.device("meta"):
        state = build(config).state_dict()
    assert infer_deit_config(state) == config


def test_what_a_deits_tensors_leave_open_can_be_said(tmp_path: Path) -> None:
    config = dataclasses.replace(NANO_DEIT, width=48, heads=3, attention="eager")
    path = published(tmp_path / "my.pth", state_of(config))

    spec = catalog.resolve(f"mine={path}?heads=3&attention=eager")

    assert spec.config == config
    assert (spec.family, spec.attention) == ("deit", "eager")
    with pytest.raises(CheckpointError, match=r"width 48 is no multiple of 64.*heads=N"):
        catalog.resolve(f"mine={path}")
    with pytest.raises(CheckpointError, match=r"48 must be a multiple of the heads \(5\)"):
        catalog.resolve(f"mine={path}?heads=5")


def test_what_tensors_leave_open_can_be_said(tmp_path: Path) -> None:
    config = dataclasses.replace(NANO, bidirectional="layer", pooling="max", stride=8, grid=(6, 6))
    path = published(tmp_path / "my.pth", state_of(config))

    spec = catalog.resolve(f"mine={path}?bidirectional=layer&pooling=max&stride=8")

    assert spec.config == config
    catalog.load(spec)


def truncated(path: Path) -> None:
    published(path, state_of(NANO))
    path.write_bytes(path.read_bytes()[:20_000])


def foreign(path: Path) -> None:
    published(path, state_of(NANO), extra=argparse.HelpFormatter("x"))


def other_tensors(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, path)


def rotary(path: Path) -> None:
    published(path, state_of(NANO) | {"rope.freqs_cos": torch.zeros(16, 32)})


def one_missing(path: Path) -> None:
    state = state_of(NANO)
    del state["layers.1.mixer.out_proj.weight"]
    published(path, state)


def one_unknown(path: Path) -> None:
    published(path, state_of(NANO) | {"layers.0.mixer.gate": torch.zeros(3)})


def misshapen(path: Path) -> None:
    published(path, state_of(NANO) | {"norm_f.weight": torch.zeros(3)})


def distilled(path: Path) -> None:
    published(path, state_of(NANO_DEIT) | {"dist_token": torch.zeros(1, 1, 64)})


def headless_deit(path: Path) -> None:
    state = state_of(NANO_DEIT)
    del state["head.weight"]
    published(path, state)


def oblong_deit(path: Path) -> None:
    published(path, state_of(NANO_DEIT) | {"pos_embed": torch.zeros(1, 19, 64)})


def unbiased_deit(path: Path) -> None:
    state = state_of(NANO_DEIT)
    del state["blocks.1.attn.qkv.bias"]
    published(path, state)


def scaled_deit(path: Path) -> None:
    published(path, state_of(NANO_DEIT) | {"blocks.0.ls1.gamma": torch.zeros(64)})


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
        (rotary, "RoPE"),
        (one_missing, "missing tensors: layers.1.mixer.out_proj.weight"),
        (one_unknown, "unknown tensors: layers.0.mixer.gate"),
        (distilled, r"distilled .*dist_token.* not supported"),
        (headless_deit, "not a DeiT checkpoint: it has no tensor 'head.weight'"),
        (oblong_deit, "pos_embed has 19 tokens, which is no square grid and a class token"),
        (unbiased_deit, "missing tensors: blocks.1.attn.qkv.bias"),
        (scaled_deit, "unknown tensors: blocks.0.ls1.gamma"),
        (misshapen, r"other shapes: norm_f.weight \[3\] instead of \[32\]"),
    ],
)
def test_what_cannot_be_served_is_refused_on_one_line(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    path = tmp_path / "my.pth"
    spoil(path)

    with pytest.raises(CheckpointError, match=message) as caught:
        catalog.load(catalog.resolve(f"mine={path}"))

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


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
