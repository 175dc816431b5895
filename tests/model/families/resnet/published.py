"""ResNets and UPerNets with given weights in an implementation of others, transformers'."""

import re
from typing import Any

from torch import Tensor, nn
from transformers import ResNetConfig as TheirConfig
from transformers import ResNetForImageClassification, UperNetForSemanticSegmentation
from transformers import UperNetConfig as TheirUPerNetConfig

from vimserve.model.families.resnet.config import ResNetConfig
from vimserve.model.families.upernet.config import UPerNetConfig


def deep_stem(width: int) -> nn.Sequential:
    """MMSegmentation's, of plain modules."""
    parts: list[nn.Module] = []
    for inputs, outputs, stride in ((3, width // 2, 2), (width // 2, width // 2, 1),
                                    (width // 2, width, 1)):  # fmt: skip
        conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        parts += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*parts)


def their_classifier(config: ResNetConfig, state: dict[str, Tensor]) -> Any:
    """Transformers' ResNet with these weights, in float64."""
    model = ResNetForImageClassification(_their_config(config, num_labels=config.num_classes))
    return _filled(model, config, {_their_name(name): t for name, t in state.items()})


def their_segmenter(config: UPerNetConfig, state: dict[str, Tensor]) -> Any:
    """Transformers' UPerNet with these weights, in float64; call it by ``their_scores``."""
    assert isinstance(config.backbone, ResNetConfig)
    stages = [f"stage{stage}" for stage in (1, 2, 3, 4)]
    model = UperNetForSemanticSegmentation(
        TheirUPerNetConfig(
            backbone_config=_their_config(config.backbone, out_features=stages),
            hidden_size=config.channels,
            num_labels=config.num_classes,
            use_auxiliary_head=False,
        )
    )
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("backbone."):
            own = _their_name(name.removeprefix("backbone."))
            renamed[f"backbone.{own.removeprefix('resnet.')}"] = tensor
        else:
            renamed[name.replace(".bn.", ".batch_norm.").replace("conv_seg", "classifier")] = tensor
    return _filled(model, config.backbone, renamed)


def their_scores(model: Any, images: Tensor) -> Tensor:
    """Class scores ``[N, classes, H / 4, W / 4]``, before transformers upsamples them."""
    scores: Tensor = model.decode_head(model.backbone(images).feature_maps)
    return scores


def _their_config(config: ResNetConfig, **others: Any) -> TheirConfig:
    return TheirConfig(
        embedding_size=config.width,
        hidden_sizes=list(config.widths),
        depths=list(config.blocks),
        layer_type="bottleneck",
        **others,
    )


def _filled(model: Any, config: ResNetConfig, state: dict[str, Tensor]) -> Any:
    if config.deep_stem:
        base = model.resnet if hasattr(model, "resnet") else model.backbone
        base.embedder.embedder = deep_stem(config.width)
    model.load_state_dict(state, strict=True)
    return model.double().eval()


def _their_name(name: str) -> str:
    """Transformers' name of one of torchvision's tensors."""
    name = name.replace("fc.", "classifier.1.")
    name = re.sub(r"^stem\.", "resnet.embedder.embedder.", name)
    name = re.sub(r"^conv1\.", "resnet.embedder.embedder.convolution.", name)
    name = re.sub(r"^bn1\.", "resnet.embedder.embedder.normalization.", name)

    def part(match: re.Match[str]) -> str:
        kind = {"conv": "convolution", "bn": "normalization"}[match[1]]
        return f".layer.{int(match[2]) - 1}.{kind}."

    stage = re.match(r"layer(\d)\.(\d+)", name)
    if stage is None:
        return name
    rest = name[stage.end() :]
    rest = rest.replace(".downsample.0.", ".shortcut.convolution.")
    rest = rest.replace(".downsample.1.", ".shortcut.normalization.")
    rest = re.sub(r"\.(conv|bn)(\d)\.", part, rest)
    return f"resnet.encoder.stages.{int(stage[1]) - 1}.layers.{stage[2]}{rest}"
