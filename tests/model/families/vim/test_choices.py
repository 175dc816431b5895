"""What is assumed of files whose tensors leave something open."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.checkpoints import rope_tables
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families.vim.choices import assume
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.hints import Hints

NANO = VimConfig(width=32, depth=2, num_classes=10, grid=(4, 4))
FIRST_RELEASE = "vim_tiny_patch16_224_bimambav2_final_pool_mean_abs_pos_embed_rope_also_residual"
PUBLISHED = "vim_tiny_patch16_224_bimambav2_final_pool_mean_abs_pos_embed_with_midclstok_div2"


def tensors(**changes: Any) -> dict[str, Tensor]:
    with torch.device("meta"):
        return Vim(dataclasses.replace(NANO, **changes)).state_dict()


def with_rope(**changes: Any) -> dict[str, Tensor]:
    return tensors(**changes) | rope_tables(4, 32)


def assumed(
    state: dict[str, Tensor], trained_as: str = "", file: str = "my.pth", **given: Any
) -> dict[str, Any]:
    return {a.option: a.value for a in assume(state, Hints(trained_as, file), given)}


VIM = {"family": "vim", "pooling": "middle", "divide": True, "stride": 16}
VIDEOMAMBA = {"family": "videomamba", "pooling": "head", "divide": False, "stride": 16}


@pytest.mark.parametrize(
    ("trained_as", "file", "expected"),
    [
        ("", "my.pth", VIM),
        ("vim_tiny", "my.pth", VIM),
        (PUBLISHED, "my.pth", VIM),
        (PUBLISHED, "videomamba_t16.pth", VIM),  # what it was trained as says more than its name
        (PUBLISHED.removesuffix("_div2"), "my.pth", VIM | {"divide": False}),
        (PUBLISHED.replace("midclstok", "cls_token"), "my.pth", VIM | {"pooling": "head"}),
        (PUBLISHED.replace("midclstok", "middle_cls_token"), "my.pth", VIM),
        (PUBLISHED.replace("224", "stride8_224"), "my.pth", VIM | {"stride": 8}),
        ("videomamba_tiny", "my.pth", VIDEOMAMBA),
        ("", "videomamba_t16_in1k_res224.pth", VIDEOMAMBA),
        ("", "VideoMamba-small.safetensors", VIDEOMAMBA),
    ],
)
def test_a_class_token_and_two_directions(
    trained_as: str, file: str, expected: dict[str, Any]
) -> None:
    assert assumed(tensors(), trained_as, file) == expected


def test_what_the_user_says_comes_first() -> None:
    state = tensors()
    assert assumed(state, family="videomamba") == {
        name: value for name, value in VIDEOMAMBA.items() if name != "family"
    }
    assert assumed(state, "videomamba_tiny", family="vim", pooling="middle") == {
        "divide": True,
        "stride": 16,
    }
    assert assumed(state, PUBLISHED, divide=False, pooling="head", stride=8, family="vim") == {}


NO_TOKEN = {"family": "vim", "pooling": "mean", "stride": 16, "rope": "both", "divide": False}


@pytest.mark.parametrize(
    ("trained_as", "expected"),
    [
        (FIRST_RELEASE, NO_TOKEN),
        ("", NO_TOKEN),
        (FIRST_RELEASE + "_div2", NO_TOKEN | {"divide": True}),
        (FIRST_RELEASE.removesuffix("_also_residual"), NO_TOKEN | {"rope": "hidden"}),
        (FIRST_RELEASE.replace("mean", "max"), NO_TOKEN | {"pooling": "max"}),
    ],
)
def test_a_rotary_classifier_without_class_token(trained_as: str, expected: dict[str, Any]) -> None:
    assert assumed(with_rope(pooling="mean"), trained_as) == expected


def test_rotary_models_of_later_releases_are_halved() -> None:
    assert assumed(with_rope())["divide"] is True
    backbone = with_rope(pooling="mean", num_classes=0)
    assert assumed(backbone)["divide"] is True


def test_what_the_tensors_tell_is_not_assumed() -> None:
    registers = tensors(pooling="registers", registers=3)
    assert assumed(registers, "mambar_small_patch16_224") == {"stride": 16}
    assert assumed(tensors(pooling="double")) == {"family": "vim", "divide": True, "stride": 16}
    one_way = {"family": "vim", "pooling": "middle", "bidirectional": "none", "stride": 16}
    assert assumed(tensors(bidirectional="none")) == one_way
    assert "divide" not in assumed(tensors(bidirectional="ssm"))


def test_an_odd_number_of_rows_means_overlapping_patches() -> None:
    assert assumed(tensors(stride=8, grid=(7, 7)))["stride"] == 8


def test_every_assumption_has_an_alternative() -> None:
    for state in (tensors(), with_rope(pooling="mean"), tensors(bidirectional="none")):
        for hints in (Hints(), Hints(FIRST_RELEASE), Hints("videomamba_tiny")):
            for assumption in assume(state, hints, {}):
                assert assumption.otherwise != assumption.value
                assert assumption.why


@pytest.mark.parametrize(
    ("state", "given", "message"),
    [
        (tensors(), {"family": "mamba-reg"}, "it lacks Mamba-Reg's pos_embed_cls"),
        (
            tensors(pooling="registers", registers=3),
            {"family": "vim"},
            "family=vim does not fit: it has Mamba-Reg's pos_embed_cls",
        ),
        (tensors() | {"norm_f.bias": torch.zeros(32)}, {}, "LayerNorm"),
        (tensors() | {"temporal_pos_embedding": torch.zeros(1, 8, 32)}, {}, "for videos"),
        (
            tensors() | {"patch_embed.proj.weight": torch.zeros(32, 3, 1, 16, 16)},
            {},
            "VideoMamba for videos is not served",
        ),
    ],
)
def test_what_is_not_served_is_named(
    state: dict[str, Tensor], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        assume(state, Hints(), given)
