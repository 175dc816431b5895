import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.closeness import assert_close
from tests.model.checkpoints import assert_refused, published, rope_tables, state_of
from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families.vim.checkpoint import infer_vim_config
from vimserve.model.families.vim.config import VIM_TINY_PLUS, Rope, VimConfig
from vimserve.model.families.vim.model import Vim

NANO = VimConfig(width=32, depth=2, num_classes=10, grid=(4, 4))


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


def test_what_tensors_leave_open_can_be_said(tmp_path: Path) -> None:
    config = dataclasses.replace(NANO, bidirectional="layer", pooling="max", stride=8, grid=(6, 6))
    path = published(tmp_path / "my.pth", state_of(config))

    spec = catalog.resolve(f"mine={path}?bidirectional=layer&pooling=max&stride=8")

    assert spec.config == config
    catalog.load(spec)


VIDEOMAMBA = dataclasses.replace(NANO, pooling="head", divide=False)
FIRST_RELEASE = "vim_tiny_patch16_224_bimambav2_final_pool_mean_abs_pos_embed_rope_also_residual"


def saved(path: Path, config: VimConfig, architecture: str = "vim_tiny") -> Path:
    """As published: RoPE's tables beside the weights."""
    tables = rope_tables(config.grid[0], config.width, config.rope.span) if config.rope else {}
    return published(path, state_of(config) | tables, architecture)


@pytest.mark.parametrize(
    ("config", "architecture", "file"),
    [
        (VIDEOMAMBA, "vim_tiny", "my.pth?family=videomamba"),
        (VIDEOMAMBA, "vim_tiny", "my.pth?pooling=head&divide=no"),
        (VIDEOMAMBA, "videomamba_tiny", "my.pth"),
        (VIDEOMAMBA, "", "videomamba_t16_in1k_res224.pth"),
        (dataclasses.replace(NANO, pooling="registers", registers=3), "vim_tiny", "my.pth"),
        (
            dataclasses.replace(NANO, pooling="registers", registers=6, reduce=2),
            "mambar_small_patch16_224",
            "my.pth?family=mamba-reg",
        ),
        (
            dataclasses.replace(NANO, pooling="mean", divide=False, rope=Rope(14)),
            FIRST_RELEASE,
            "vim_tiny_73p1.pth",
        ),
        (
            dataclasses.replace(NANO, pooling="max", rope=Rope(8, residual=False)),
            "",
            "my.pth?rope=hidden&divide=yes&pooling=max",
        ),
    ],
    ids=str,
)
def test_files_of_vims_relatives(
    tmp_path: Path, config: VimConfig, architecture: str, file: str
) -> None:
    saved(tmp_path / file.partition("?")[0], config, architecture)
    model = Vim(config)
    model.load_state_dict(state_of(config))
    batch = PackedBatch.from_images([torch.randn(3, 64, 96), torch.randn(3, 64, 64)])

    spec = catalog.resolve(f"mine={tmp_path / file}")

    assert spec.config == config
    assert_close("scores", catalog.load(spec)(batch), model(batch), atol=1e-6)


def test_only_mamba_reg_is_evaluated_without_cutting(tmp_path: Path) -> None:
    registers = dataclasses.replace(NANO, pooling="registers", registers=3)
    for config, ratio in ((NANO, 0.875), (VIDEOMAMBA, 0.875), (registers, 1.0)):
        path = saved(tmp_path / "my.pth", config)
        assert catalog.resolve(f"mine={path}").transform.crop_ratio == ratio
    assert catalog.resolve(f"mine={path}?crop_ratio=0.9").transform.crop_ratio == 0.9


def test_the_tables_are_not_overlooked_for_a_model_that_does_not_turn(tmp_path: Path) -> None:
    path = published(tmp_path / "my.pth", state_of(NANO) | rope_tables(4, 32))
    spec = dataclasses.replace(catalog.resolve(f"mine={path}"), config=NANO)
    with pytest.raises(CheckpointError, match=r"unknown tensors: rope\.freqs_cos"):
        catalog.load(spec)


def test_the_head_of_self_distillation_is_left_out(tmp_path: Path) -> None:
    more = {"distill_head.weight": torch.zeros(10, 32), "distill_head.bias": torch.zeros(10)}
    path = published(tmp_path / "videomamba_m16.pth", state_of(VIDEOMAMBA) | more)
    catalog.load(catalog.resolve(f"mine={path}"))


def test_loading_says_what_was_assumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = saved(tmp_path / "my.pth", NANO)
    catalog.load(catalog.resolve(f"mine={path}"))
    (line,) = caplog.messages
    assert line == (
        f"mine ({path}): its tensors leave open what is assumed: family=vim (by its training "
        "arguments), pooling=middle (as usual), divide=yes (as usual), stride=16 (by its 4 rows of "
        "patches); otherwise say NAME=FILE?family=videomamba&pooling=head&divide=no&stride=8"
    )
    caplog.clear()
    options = "family=vim&pooling=middle&divide=yes&stride=16"
    catalog.load(catalog.resolve(f"mine={path}?{options}"))
    assert not caplog.messages


def video(state: dict[str, Tensor]) -> dict[str, Tensor]:
    projection = state["patch_embed.proj.weight"][:, :, None]
    times = torch.zeros(1, 8, 32)
    return state | {"patch_embed.proj.weight": projection, "temporal_pos_embedding": times}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (video, "a VideoMamba for videos is not served"),
        (lambda state: state | {"norm_f.bias": torch.zeros(32)}, "LayerNorm is not served"),
        (
            lambda state: (
                {f"backbone.net.{name}": state[name] for name in state if "head" not in name}
                | {"proposal_generator.rpn_head.conv.conv0.weight": torch.zeros(256, 256, 3, 3)}
            ),
            "not a Cascade R-CNN: it has no tensor",
        ),
        (
            lambda state: (
                state | {"pos_embed_cls": torch.zeros(3, 32), "pos_embed": torch.zeros(1, 16, 32)}
            ),
            "its registers have other dimensions",
        ),
    ],
)
def test_relatives_that_are_not_served_are_named(tmp_path: Path, spoil: Any, message: str) -> None:
    assert_refused(published(tmp_path / "my.pth", spoil(state_of(NANO))), message)
