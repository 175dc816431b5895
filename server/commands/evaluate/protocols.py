"""How published figures were measured, and what they are.

The figures are those of the Vim paper's tables 1 to 3 (arXiv 2401.09417) and, for Vim's published
classifiers, of the table beside their weights (README of github.com/hustvl/Vim at 080059b): for
Vim-S and its fine-tuned form it has 80.5 and 81.6, where the paper's last version has 80.3 and
81.4. ResNets' are those of whoever published the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vimserve.model.spec import ModelSpec

PAPER = "arXiv 2401.09417, table {}"
WEIGHTS = "README of github.com/hustvl/Vim"
TORCHVISION = "torchvision's documentation of its weights, IMAGENET1K_{}"
MMSEGMENTATION = "configs/upernet/metafile.yml in github.com/open-mmlab/mmsegmentation"


@dataclass(frozen=True)
class Expected:
    """Published figures of a model, in percent by name, and where they are from."""

    figures: Mapping[str, float]
    source: str


@dataclass(frozen=True)
class Protocol:
    """A way of measuring that was published.

    Attributes:
        task: of the models.
        about: what is done, for a person.
        source: where it is from.
        query: values of the task's query.
        transform: what is changed in how models want their pictures.
        differs: what is not done as published.
        longest: the longest side that it makes of a picture, in pixels; None for that of the query.
        reduce_zero_label: whether 0 is no class in its masks.
        expected: by the model's name in the catalog.
    """

    task: str
    about: str
    source: str
    query: Mapping[str, Any]
    transform: Mapping[str, Any]
    differs: str = ""
    longest: int | None = None
    reduce_zero_label: bool = False
    expected: Mapping[str, Expected] = field(default_factory=dict)

    def applied(self, spec: ModelSpec) -> ModelSpec:
        """The model with pictures as the protocol wants them."""
        return replace(spec, transform=replace(spec.transform, **self.transform))

    def expects(self, model: str) -> Expected | None:
        """The published figures of a model; how attention is computed does not change them."""
        return self.expected.get(model.removesuffix("-eager"))


def _classifier(top_1: float, top_5: float | None, source: str) -> Expected:
    return Expected({"top-1": top_1} | ({"top-5": top_5} if top_5 else {}), source)


def _detector(box: tuple[float, ...], mask: tuple[float, ...]) -> Expected:
    endings = ("", "50", "75", " small", " medium", " large")
    return Expected(
        {f"box AP{ending}": value for ending, value in zip(endings, box, strict=True)}
        | {f"mask AP{ending}": value for ending, value in zip(endings, mask, strict=True)},
        PAPER.format(3),
    )


_SHORTER_512 = (
    "the shorter side resized to 512 pixels (the longer one to at most 2048), bilinear; one size, "
    "not mirrored"
)
_ROUNDED = (
    "Sides are rounded to whole patches of 16 pixels, and pictures are resized with Pillow's "
    "filter, which is wider where they shrink"
)

PROTOCOLS: Mapping[str, Protocol] = {
    "vim-imagenet": Protocol(
        task="classify",
        about="the shorter side resized by 1 / 0.875 of the model's size (256 for 224), bicubic, "
        "and the centre cut out",
        source="DeiT's evaluation, which Vim has taken over (github.com/hustvl/Vim, vim/main.py)",
        query={"fit": "crop"},
        transform={"crop_ratio": 0.875, "filter": "bicubic"},
        expected={
            "vim-tiny": _classifier(76.1, 93.0, WEIGHTS),
            "vim-tiny-plus": _classifier(78.3, 94.2, WEIGHTS),
            "vim-small": _classifier(80.5, 95.1, WEIGHTS),
            "vim-small-plus": _classifier(81.6, 95.4, WEIGHTS),
            "vim-base": _classifier(81.9, 95.8, WEIGHTS),
            "deit-tiny": _classifier(72.2, None, PAPER.format(1)),
            "deit-small": _classifier(79.8, None, PAPER.format(1)),
            "deit-base": _classifier(81.8, None, PAPER.format(1)),
        },
    ),
    "resnet-imagenet": Protocol(
        task="classify",
        about="the shorter side resized by 1 / 0.875 of the model's size (256 for 224), bilinear, "
        "and the centre cut out",
        source="torchvision's ImageClassification preset with resize_size=256",
        query={"fit": "crop"},
        transform={"crop_ratio": 0.875, "filter": "bilinear"},
        expected={
            "resnet-50": _classifier(76.130, 92.862, TORCHVISION.format("V1")),
            "resnet-101": _classifier(77.374, 93.546, TORCHVISION.format("V1")),
        },
    ),
    "resnet-imagenet-v2": Protocol(
        task="classify",
        about="the shorter side resized to 232 (for 224), bilinear, and the centre cut out",
        source="torchvision's ImageClassification preset with resize_size=232",
        query={"fit": "crop"},
        transform={"crop_ratio": 224 / 232, "filter": "bilinear"},
        expected={
            "resnet-50-v2": _classifier(80.858, 95.434, TORCHVISION.format("V2")),
            "resnet-101-v2": _classifier(81.886, 95.780, TORCHVISION.format("V2")),
        },
    ),
    "ade20k-slide": Protocol(
        task="segment",
        about=f"{_SHORTER_512}; windows of 512 pixels, one every 341, whose scores are averaged",
        source="upernet_vim_tiny_24_512_slide_60k.py and _base_/datasets/ade20k.py in "
        "github.com/hustvl/Vim, seg/configs",
        query={"mode": "slide", "window": "512"},
        transform={"filter": "bilinear"},
        differs=f"{_ROUNDED}; windows lie every 340 pixels, and their scores are averaged before "
        "they are enlarged.",
        longest=2048,
        reduce_zero_label=True,
        expected={
            name: Expected({"mIoU": miou}, PAPER.format(2))
            for name, miou in {
                "vim-tiny-upernet": 41.0,
                "vim-small-upernet": 44.9,
                "deit-tiny-upernet": 39.2,
                "deit-small-upernet": 44.0,
            }.items()
        },
    ),
    "ade20k-whole": Protocol(
        task="segment",
        about=f"{_SHORTER_512}; the picture in one piece",
        source="_base_/datasets/ade20k.py in github.com/hustvl/Vim, seg/configs, with "
        "MMSegmentation's test_cfg mode='whole', which measures its ResNets; the paper has no "
        "figures for it",
        query={"mode": "whole"},
        transform={"filter": "bilinear", "shorter": 512},
        differs=f"{_ROUNDED}.",
        longest=2048,
        reduce_zero_label=True,
        expected={
            "resnet-50-upernet": Expected({"mIoU": 42.05}, MMSEGMENTATION),
            "resnet-101-upernet": Expected({"mIoU": 43.82}, MMSEGMENTATION),
        },
    ),
    "coco-1024": Protocol(
        task="detect",
        about="the longer side resized to 1024 pixels, bilinear, and padded to a square; objects "
        "that score more than 0.05, at most 100 of a picture",
        source="cascade_mask_rcnn_vimdet_t_100ep_adj1.py in github.com/hustvl/Vim, "
        "det/projects/ViTDet/configs/COCO",
        query={
            "fit": "square",
            "resolution": "1024",
            "score_threshold": "0.05",
            "max_detections": "100",
        },
        transform={"filter": "bilinear"},
        expected={
            "vim-tiny-cascade": _detector(
                (45.7, 63.9, 49.6, 26.1, 49.0, 63.2), (39.2, 60.9, 41.7, 18.2, 41.8, 60.2)
            ),
            "deit-tiny-cascade-windowed": _detector(
                (44.4, 63.0, 47.8, 26.1, 47.4, 61.8), (38.1, 59.9, 40.5, 18.1, 40.5, 58.4)
            ),
        },
    ),
}
