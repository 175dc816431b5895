"""Detection checkpoints as Detectron2 writes them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.model.checkpoints import assert_refused, rope_tables
from tests.model.families.cascade.small import VIM, VIM_BACKBONE, detector, pictures
from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.detections import Selection
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.families.vim.config import Rope, VimConfig
from vimserve.model.palette import make_palette


def state_of(config: CascadeConfig = VIM) -> dict[str, Tensor]:
    """With the tables of the rotary embedding, which the published files have."""
    state = {name: tensor.clone() for name, tensor in detector(config).state_dict().items()}
    assert isinstance(config.backbone, VimConfig)
    if config.backbone.rope:
        tables = rope_tables(4, config.backbone.width)
        state |= {f"backbone.net.{name}": table for name, table in tables.items()}
    return state


def published(path: Path, state: dict[str, Tensor]) -> Path:
    """What Detectron2's checkpointer writes."""
    torch.save({"model": state, "iteration": 184_374, "optimizer": {"state": {}}}, path)
    return path


def rows(model: Any) -> Tensor:
    batch = PackedBatch.from_images(pictures((64, 96)))
    selection = Selection((64, 96), masks=model.config.masks)
    output: Tensor = model.answer(batch, [selection]).outputs[0]
    return output


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    "config",
    [
        VIM,
        replace(VIM, masks=False),
        replace(VIM, channels=24, box_width=48, num_classes=7),
        replace(VIM, backbone=replace(VIM_BACKBONE, rope=None, depth=3, grid=(5, 5))),
    ],
    ids=["whole", "no-masks", "other-widths", "no-rope-odd-grid"],
)
def test_a_file_is_recognised_and_gives_the_model_s_answers(
    tmp_path: Path, config: CascadeConfig, suffix: str
) -> None:
    path = tmp_path / f"det.{suffix}"
    state = state_of(config)
    if suffix == "pth":
        published(path, state)
    else:
        save_file(state, path)

    spec = catalog.resolve(f"mine={path}")

    assert spec.config == config
    assert (spec.family, spec.task) == ("vim-cascade", "detect")
    assert spec.labels == tuple(f"class {i}" for i in range(config.num_classes))
    assert torch.equal(rows(catalog.load(spec)), rows(detector(config)))


def test_what_the_tensors_leave_open_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = published(tmp_path / "det.pth", state_of())
    spec = catalog.resolve(f"mine={path}?divide=no&rope=hidden")
    backbone = replace(VIM_BACKBONE, divide=False, rope=Rope(14, residual=False))
    assert spec.config == replace(VIM, backbone=backbone)
    catalog.load(catalog.resolve(f"mine={path}"))
    (line,) = caplog.messages
    assert "divide=yes (as usual), rope=both (as usual)" in line
    assert "pooling" not in line
    assert "stride" not in line


def test_80_classes_are_coco_s(tmp_path: Path) -> None:
    config = replace(VIM, num_classes=80)
    spec = catalog.resolve(f"mine={published(tmp_path / 'det.pth', state_of(config))}")
    assert spec.labels[:2] == ("person", "bicycle")
    assert spec.labels[-1] == "toothbrush"
    assert spec.palette == make_palette(80, first=1)  # no class is black
    assert (spec.transform.resolution, spec.transform.fit) == (64, "square")
    assert (spec.transform.filter, spec.transform.minimum) == ("bilinear", 32)


def without(*names: str) -> Any:
    return lambda state: {key: state[key] for key in state if not key.startswith(names)}


def of_detectron2(_: dict[str, Tensor]) -> dict[str, Tensor]:
    """Some tensors of its Mask R-CNN on a ResNet."""
    names = (
        "backbone.bottom_up.stem.conv1.weight", "backbone.fpn_lateral2.weight",
        "proposal_generator.rpn_head.conv.weight", "roi_heads.box_predictor.cls_score.weight",
    )  # fmt: skip
    return dict.fromkeys(names, torch.zeros(2, 2))


def of_torchvision(_: dict[str, Tensor]) -> dict[str, Tensor]:
    """Some tensors of its Faster R-CNN."""
    names = (
        "backbone.body.conv1.weight", "backbone.fpn.inner_blocks.0.0.weight",
        "rpn.head.cls_logits.weight", "roi_heads.box_predictor.cls_score.weight",
    )  # fmt: skip
    return dict.fromkeys(names, torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (of_detectron2, "a Detectron2 detector on another backbone is not served, only a Cascade"),
        (of_torchvision, "torchvision's detector is not served, only a Cascade R-CNN on a Vim"),
        (
            lambda _: dict.fromkeys(
                ("backbone.conv1.weight", "rpn_head.rpn_conv.weight"), torch.zeros(1)
            ),
            "an MMDetection detector is not served",
        ),
        (
            without("roi_heads.box_head.1.", "roi_heads.box_head.2."),
            "not a Cascade R-CNN: it has no tensor 'roi_heads.box_head.2.fc1.weight'",
        ),
        (
            without("backbone.simfp_3.1.norm"),
            "missing tensors: backbone.simfp_3.1.norm.bias, backbone.simfp_3.1.norm.weight",
        ),
        (
            without("roi_heads.mask_head.deconv."),
            "missing tensors: roi_heads.mask_head.deconv.bias, roi_heads.mask_head.deconv.weight",
        ),
        (without("backbone.net.patch_embed."), "no tensor 'patch_embed.proj.weight'"),
        (
            lambda state: state | {"roi_heads.keypoint_head.conv_fcn1.weight": torch.zeros(1)},
            "unknown tensors: roi_heads.keypoint_head.conv_fcn1.weight",
        ),
        (
            lambda state: state | {"roi_heads.box_predictor.0.bbox_pred.weight": torch.zeros(9, 9)},
            r"other shapes: roi_heads.box_predictor.0.bbox_pred.weight \[9, 9\] instead of \[4, 32",
        ),
        (
            lambda state: state | {"backbone.simfp_4.0.weight": torch.tensor(0.0)},
            "its heads have other dimensions",
        ),
        (
            lambda s: s | {"roi_heads.box_predictor.2.cls_score.weight": torch.zeros(1, 32)},
            "num_classes must be at least 1, not 0",
        ),
        (
            lambda s: s | {"backbone.net.patch_embed.proj.weight": torch.zeros(32, 3, 32, 32)},
            "patches must be 16 pixels, 16 apart, not 32 pixels, 16 apart",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_on_one_line(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    assert_refused(published(tmp_path / "det.pth", spoil(state_of())), message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("fit=crop", "fit=crop would leave objects out"),
        ("fit=square&resolution=100", "resolution must be a multiple of 32, not 100"),
        ("pooling=mean", "unknown option 'pooling'"),
        ("stride=8", "unknown option 'stride'"),
    ],
)
def test_wrong_options_are_refused_by_name(tmp_path: Path, options: str, message: str) -> None:
    file = published(tmp_path / "det.pth", state_of())
    with pytest.raises(ValueError, match=message):
        catalog.resolve(f"mine={file}?{options}")


def test_a_catalog_name_without_published_weights_says_what_to_do() -> None:
    with pytest.raises(CheckpointError, match=r"NAME=FILE"):
        catalog.load_model("vim-tiny-cascade")


@pytest.mark.parametrize("name", ["demo", "demo-seg"])
def test_a_model_of_another_task_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' does not detect"):
        catalog.load_detector(name)
