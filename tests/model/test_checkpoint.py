import argparse
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.closeness import assert_close
from tests.model.checkpoints import assert_refused, published, state_of
from vimserve.model import catalog
from vimserve.model.architecture import ModelConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.families import build
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.vim.config import VimConfig

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
NANO = VimConfig(width=32, depth=2, num_classes=10, grid=(4, 4))
NANO_DEIT = DeiTConfig(width=64, depth=2, heads=1, num_classes=10, grid=(4, 4))


def below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def assert_loads(path: Path, state: dict[str, Tensor]) -> None:
    """A file gives a model with exactly these weights."""
    loaded = catalog.load(catalog.resolve(f"mine={path}")).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def compress(path: Path, state: dict[str, Tensor]) -> None:
    """As a tool leaves an archive that has taken it apart and put it together again."""
    published(path, state)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def reorder(path: Path, state: dict[str, Tensor]) -> None:
    """With the last dimension first in memory."""
    published(
        path,
        {
            name: tensor.mT.contiguous().mT if tensor.ndim > 1 else tensor
            for name, tensor in state.items()
        },
    )


def share(path: Path, state: dict[str, Tensor]) -> None:
    """As parts of one piece of memory."""
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    parts = flat.split([tensor.numel() for tensor in state.values()])
    published(
        path,
        {
            name: part.view(tensor.shape)
            for (name, tensor), part in zip(state.items(), parts, strict=True)
        },
    )


@pytest.mark.parametrize("config", [NANO, NANO_DEIT], ids=["vim", "deit"])
@pytest.mark.parametrize(
    "layout", ["published", "bare", "state_dict", "averaged", "legacy", "safetensors"]
)
def test_every_layout_gives_the_same_answers(
    tmp_path: Path, layout: str, config: ModelConfig
) -> None:
    state, path = state_of(config), tmp_path / "my.pth"
    if layout == "published":
        published(path, state)
    elif layout == "safetensors":
        safetensors.torch.save_file(state, path)
    elif layout == "averaged":
        torch.save({"model_ema": state, "epoch": 3}, path)
    else:
        content = {"state_dict": state} if layout == "state_dict" else state
        torch.save(content, path, _use_new_zipfile_serialization=layout != "legacy")
    model = build(config)
    model.load_state_dict(state)
    batch = PackedBatch.from_images([torch.randn(3, 64, 96)])

    loaded = catalog.load(catalog.resolve(f"mine={path}"))

    assert_close("logits", loaded(batch), model(batch), atol=1e-6)


@pytest.mark.parametrize("name", ["my.SAFETENSORS", "my.pth", "my.ckpt", "my"])
def test_safetensors_are_known_by_what_is_in_them(tmp_path: Path, name: str) -> None:
    state = state_of(NANO)
    safetensors.torch.save_file(state, tmp_path / name)
    assert_loads(tmp_path / name, state)


def test_a_saved_dict_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    state = state_of(NANO)
    assert_loads(published(tmp_path / "my.safetensors", state), state)


def test_weights_come_before_their_average(tmp_path: Path) -> None:
    state = state_of(NANO)
    average = {name: tensor + 1 for name, tensor in state.items()}
    assert_loads(published(tmp_path / "my.pth", state, model_ema=average), state)


@pytest.mark.parametrize("rewrap", [compress, reorder, share], ids=lambda wrap: wrap.__name__)
def test_tensors_are_read_however_they_lie(
    tmp_path: Path, rewrap: Callable[[Path, dict[str, Tensor]], None]
) -> None:
    state, path = state_of(NANO), tmp_path / "my.pth"
    rewrap(path, state)
    assert_loads(path, state)


@pytest.mark.parametrize(
    ("rename", "remark"),
    [
        (lambda name: f"module.{name}", "module.pos_embed is pos_embed"),
        (lambda name: f"model._orig_mod.{name}", "model._orig_mod.pos_embed is pos_embed"),
        (lambda name: f"ema_model.module.{name}", "ema_model.module.pos_embed is pos_embed"),
        (
            lambda name: name.replace("layers.1", "layers.1._orig_mod"),
            "layers.1._orig_mod.norm.weight is layers.1.norm.weight",
        ),
    ],
    ids=["parallel", "lightning", "average", "compiled layers"],
)
def test_what_training_put_around_names_is_left_out_and_said(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    rename: Callable[[str], str],
    remark: str,
) -> None:
    state, path = state_of(NANO), tmp_path / "my.pth"
    published(path, {rename(name): tensor for name, tensor in state.items()})
    with caplog.at_level("INFO", "vimserve"):
        assert_loads(path, state)
    assert remark in caplog.text


def test_a_counter_beside_an_average_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state, path = state_of(NANO), tmp_path / "my.pth"
    published(path, below("module.", state) | {"n_averaged": torch.tensor(12)})
    with caplog.at_level("INFO", "vimserve"):
        assert_loads(path, state)
    assert "counters beside the weights are left out: n_averaged" in caplog.text


def truncated(path: Path) -> None:
    published(path, state_of(NANO))
    path.write_bytes(path.read_bytes()[:20_000])


def truncated_safetensors(path: Path) -> None:
    safetensors.torch.save_file(state_of(NANO), path)
    path.write_bytes(path.read_bytes()[:20_000])


def integers(path: Path) -> None:
    state = state_of(NANO)
    published(path, state | {"head.weight": state["head.weight"].to(torch.int8)})


def float8(path: Path) -> None:
    state = state_of(NANO)
    weight = state["head.weight"].to(torch.float8_e4m3fn)
    safetensors.torch.save_file(state | {"head.weight": weight}, path)


def beside_others(path: Path) -> None:
    published(path, below("model.", state_of(NANO)) | {"loss.weight": torch.ones(3)})


def twice(path: Path) -> None:
    state = state_of(NANO)
    published(path, below("model.", state) | below("ema_model.", state))


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
        (lambda path: path.write_text(LFS), "in place of the file: `git lfs pull` gets it"),
        (lambda path: path.write_bytes(b"not a header" * 9), "damaged"),
        (truncated_safetensors, "damaged"),
        (integers, "weights of int8 cannot be served.*: head.weight$"),
        (float8, "weights of float8_e4m3fn cannot be served.*: head.weight$"),
        (beside_others, "a model under 'model.' and other tensors beside it.*: loss.weight$"),
        (twice, "a model under 'model.' and other tensors beside it.*: ema_model.pos_embed, "),
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
