"""ResNet-50 and -101 (arXiv 1512.03385), the convolutional nets of the paper's tables."""

from typing import Any

from vimserve.model.class_names import IMAGENET
from vimserve.model.families.family import Family, Variant, transform_at_trained_size
from vimserve.model.families.resnet.checkpoint import infer_resnet_config
from vimserve.model.families.resnet.config import RESNET_50, RESNET_101, ResNetConfig
from vimserve.model.families.resnet.model import ResNet
from vimserve.model.sources import HubFile
from vimserve.model.transform import Transform

_FILE = "model.safetensors"
# What torchvision's references resize for its second training recipe, by what they cut out of it.
_V2 = {"crop_ratio": 224 / 232}


def _transform(config: ResNetConfig, **changes: Any) -> Transform:
    """Torchvision's published evaluation (``ImageClassification`` of its presets): bilinear."""
    return transform_at_trained_size(config, **{"filter": "bilinear"} | changes)


# timm's copies of torchvision's weights as safetensors, IMAGENET1K_V1 and _V2.
FAMILY = Family(
    name="resnet",
    task="classify",
    tensor="layer1.0.conv1.weight",
    describes=lambda config: isinstance(config, ResNetConfig),
    build=ResNet,
    infer=infer_resnet_config,
    options={},
    variants={
        "resnet-50": Variant(RESNET_50, HubFile("timm/resnet50.tv_in1k", _FILE)),
        "resnet-50-v2": Variant(RESNET_50, HubFile("timm/resnet50.tv2_in1k", _FILE), _V2),
        "resnet-101": Variant(RESNET_101, HubFile("timm/resnet101.tv_in1k", _FILE)),
        "resnet-101-v2": Variant(RESNET_101, HubFile("timm/resnet101.tv2_in1k", _FILE), _V2),
    },
    transform=_transform,
    labels={1000: IMAGENET},
)
