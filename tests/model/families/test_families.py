"""What the catalog and the server take for granted of every family."""

import dataclasses

import pytest
import torch

from vimserve.loadtests.gpu_check.recipe import make_weights
from vimserve.model.batch import PackedBatch
from vimserve.model.families import FAMILIES, build, recognise, upernet
from vimserve.model.families.backbones import BACKBONES
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.family import Family
from vimserve.model.families.upernet.config import UPerNetConfig
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.served import ServedModel

VARIANTS = {name: v.config for family in FAMILIES for name, v in family.variants.items()}


@dataclasses.dataclass(frozen=True)
class OtherConfig(VimConfig):
    pass


class Other(Vim):
    pass


def test_no_two_families_share_a_name_or_a_variant() -> None:
    assert [family.name for family in FAMILIES] == [
        "vim", "deit", "resnet", "vim-upernet", "deit-upernet", "resnet-upernet", "vim-linear",
        "deit-linear", "vim-cascade", "deit-cascade",
    ]  # fmt: skip
    assert len(VARIANTS) == sum(len(family.variants) for family in FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_variant_belongs_to_its_family_alone(family: Family[ServedModel]) -> None:
    for variant in family.variants.values():
        assert [other.name for other in FAMILIES if other.describes(variant.config)] == [
            family.name
        ]
        with torch.device("meta"):
            state = build(variant.config).state_dict()
        assert recognise(state) is family
        assert family.infer(state).num_classes == variant.config.num_classes


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.endswith("-eager")])
def test_eager_twins_differ_in_attention_alone(name: str) -> None:
    eager, fused = VARIANTS[name], VARIANTS[name.removesuffix("-eager")]
    assert (eager.attention, fused.attention) == ("eager", "fused")
    if isinstance(fused, DeiTConfig):
        assert dataclasses.replace(fused, attention="eager") == eager
    else:
        backbone = dataclasses.replace(fused.backbone, attention="eager")  # type: ignore[attr-defined]
        assert dataclasses.replace(fused, backbone=backbone) == eager  # type: ignore[type-var]


def test_windows_are_all_that_their_twins_differ_in() -> None:
    sizes = ("tiny", "small", "base")
    for name in (f"deit-{size}-cascade" for size in sizes):
        windowed, whole = (VARIANTS[f"{name}{end}"].backbone for end in ("-windowed", ""))  # type: ignore[attr-defined]
        assert windowed == dataclasses.replace(whole, window=14)


def test_every_model_with_attention_has_an_eager_twin() -> None:
    """But those with windows, whose scores are few."""
    whole = {name for name in VARIANTS if not name.endswith("-windowed")}
    fused = {name for name in whole if VARIANTS[name].attention == "fused"}
    eager = {name for name, config in VARIANTS.items() if config.attention == "eager"}
    assert {f"{name}-eager" for name in fused} == eager


def test_a_new_backbone_gets_its_upernet(monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(
        BACKBONES[0],
        name="other",
        describes=lambda config: type(config) is OtherConfig,
        build=Other,
        variants={},
    )
    monkeypatch.setattr("vimserve.model.families.backbones.BACKBONES", (other, *BACKBONES))
    family = upernet.on(other)
    config = UPerNetConfig(
        OtherConfig(width=32, depth=4, states=8, grid=(2, 2)), (0, 1, 2, 3), 8, num_classes=3
    )

    model = family.build(config)

    assert family.name == "other-upernet"
    assert family.describes(config)
    assert isinstance(model.backbone, Other)
    model.load_state_dict(make_weights(model))
    (classes,) = model.eval().segment(PackedBatch.from_images([torch.randn(3, 32, 48)]))
    assert classes.shape == (32, 48)
