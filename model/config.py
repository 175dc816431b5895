"""Architectures as plain data; one line per published variant."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

Bidirectional = Literal["ssm+conv", "ssm", "layer", "none"]
Pooling = Literal["middle", "head", "double", "mean", "max", "last"]
Attention = Literal["fused", "eager"]
FEATURES = 4  # that a UPerNet reads
MOST_CLASSES = 256  # of a pixel
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class VimConfig:
    """A Vision Mamba (arXiv 2401.09417, section 3 and table 1).

    ``grid`` is the (rows, columns) of patches that the position embedding was trained for; images
    of other sizes get it resized. ``bidirectional`` are the strategies of the paper's ablation:
    ``ssm+conv`` is the published code's ``bimamba_type="v2"``, ``ssm`` its ``"v1"``, ``layer`` its
    ``if_bidirectional``. ``pooling`` says what the classifier reads: the class token in the middle
    of the sequence, at its head, one at each end (``double``), the mean or the last of the patch
    tokens, or the maximum of their class scores. ``pixel_mean`` and ``pixel_std`` normalise the
    channels of an image, whose pixels are from 0 to 1.

    Raises:
        ValueError: for a value outside the supported range; the message names it.
    """

    width: int = 192
    depth: int = 24
    patch_size: int = 16
    stride: int = 16
    states: int = 16
    num_classes: int = 1000
    grid: tuple[int, int] = (14, 14)
    bidirectional: Bidirectional = "ssm+conv"
    pooling: Pooling = "middle"
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("width", "depth", "patch_size", "stride", "states"):
            _check_least(self, name, 1)
        _check_least(self, "num_classes", 0)
        if self.width % 16:
            raise ValueError(f"width must be a multiple of 16, not {self.width}")
        if self.states % 8:
            raise ValueError(f"states must be a multiple of 8, not {self.states}")
        if self.stride > self.patch_size:
            raise ValueError(
                f"stride {self.stride} is larger than the patch ({self.patch_size}): "
                "pixels would go unread"
            )
        if min(self.grid) < 1:
            raise ValueError(f"grid must have at least one row and one column, not {self.grid}")
        if self.bidirectional not in get_args(Bidirectional):
            choices = ", ".join(get_args(Bidirectional))
            raise ValueError(f"bidirectional must be one of {choices}, not {self.bidirectional!r}")
        if self.pooling not in get_args(Pooling):
            choices = ", ".join(get_args(Pooling))
            raise ValueError(f"pooling must be one of {choices}, not {self.pooling!r}")
        if self.bidirectional == "layer" and self.depth % 2:
            raise ValueError(
                f"bidirectional='layer' pairs the layers: depth must be even, not {self.depth}"
            )

    @property
    def inner_width(self) -> int:
        """Channels of the mixer, E = 2 D."""
        return 2 * self.width

    @property
    def dt_rank(self) -> int:
        """Width of the low-rank step size, R = ceil(D / 16)."""
        return -(-self.width // 16)

    @property
    def class_tokens(self) -> int:
        """Tokens of a sequence that are no patches: 0, 1 or 2."""
        return {"middle": 1, "head": 1, "double": 2}.get(self.pooling, 0)

    @property
    def trained_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that ``grid`` belongs to."""
        return _image_size(self, self.grid)


@dataclass(frozen=True)
class DeiTConfig:
    """A DeiT (arXiv 2012.12877), the vision transformer that Vim is measured against.

    ``attention`` is computed ``fused``, without its scores ever reaching memory (PyTorch's
    ``scaled_dot_product_attention``), or ``eager``, with the scores of all pairs of tokens written
    out, as the Vim paper measured it. ``grid``, ``pixel_mean`` and ``pixel_std`` are as in
    ``VimConfig``.

    Raises:
        ValueError: for a value outside the supported range; the message names it.
    """

    pooling: ClassVar[Pooling] = "head"
    class_tokens: ClassVar[int] = 1

    width: int = 192
    depth: int = 12
    heads: int = 3
    mlp_ratio: int = 4
    patch_size: int = 16
    num_classes: int = 1000
    grid: tuple[int, int] = (14, 14)
    attention: Attention = "fused"
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "mlp_ratio", "patch_size"):
            _check_least(self, name, 1)
        _check_least(self, "num_classes", 0)
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of the heads ({self.heads})")
        if min(self.grid) < 1:
            raise ValueError(f"grid must have at least one row and one column, not {self.grid}")
        if self.attention not in get_args(Attention):
            choices = ", ".join(get_args(Attention))
            raise ValueError(f"attention must be one of {choices}, not {self.attention!r}")

    @property
    def stride(self) -> int:
        """From one patch to the next, in pixels: they do not overlap."""
        return self.patch_size

    @property
    def trained_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that ``grid`` belongs to."""
        return _image_size(self, self.grid)


BackboneConfig = VimConfig | DeiTConfig


@dataclass(frozen=True)
class UPerNetConfig:
    """A UPerNet (arXiv 1807.10221) on a Vim or DeiT: four features, one head, a class per pixel.

    ``out_indices`` are the blocks that the features come from, ``channels`` is the width of the
    head. The backbone's classifier and a Vim's class token are left out, whatever it is given with.

    Raises:
        ValueError: for a value outside the supported range; the message names it.
    """

    backbone: BackboneConfig
    out_indices: tuple[int, ...] = (5, 11, 17, 23)
    channels: int = 192
    num_classes: int = 150

    def __post_init__(self) -> None:
        blocks = self.backbone.depth
        if len(self.out_indices) != FEATURES or list(self.out_indices) != sorted(
            {*self.out_indices} & {*range(blocks)}
        ):
            raise ValueError(
                f"out_indices must be {FEATURES} of the {blocks} blocks in order, "
                f"not {self.out_indices}"
            )
        _check_least(self, "channels", 1)
        _check_least(self, "num_classes", 1)
        if self.num_classes > MOST_CLASSES:
            raise ValueError(
                f"num_classes must be at most {MOST_CLASSES}, because a mask has one byte for "
                f"each pixel, not {self.num_classes}"
            )
        without: dict[str, Any] = {"num_classes": 0}
        if isinstance(self.backbone, VimConfig):
            without["pooling"] = "mean"
        object.__setattr__(self, "backbone", replace(self.backbone, **without))

    @property
    def patch_size(self) -> int:
        """Of the backbone."""
        return self.backbone.patch_size

    @property
    def stride(self) -> int:
        """Of the backbone."""
        return self.backbone.stride

    @property
    def pixel_mean(self) -> tuple[float, float, float]:
        """Of the backbone."""
        return self.backbone.pixel_mean

    @property
    def pixel_std(self) -> tuple[float, float, float]:
        """Of the backbone."""
        return self.backbone.pixel_std

    @property
    def trained_size(self) -> tuple[int, int]:
        """Of the backbone."""
        return self.backbone.trained_size

    def image_size(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Height and width in pixels of an image with this grid of patches."""
        return _image_size(self, grid)


ModelConfig = VimConfig | DeiTConfig | UPerNetConfig


def _image_size(config: ModelConfig, grid: tuple[int, int]) -> tuple[int, int]:
    rows, cols = grid
    extra = config.patch_size - config.stride
    return rows * config.stride + extra, cols * config.stride + extra


def _check_least(config: ModelConfig, name: str, least: int) -> None:
    if getattr(config, name) < least:
        raise ValueError(f"{name} must be at least {least}, not {getattr(config, name)}")


VIM_TINY = VimConfig(width=192)
VIM_SMALL = VimConfig(width=384)
VIM_BASE = VimConfig(width=768)
VIM_TINY_PLUS = VimConfig(width=192, stride=8, grid=(27, 27))
VIM_SMALL_PLUS = VimConfig(width=384, stride=8, grid=(27, 27))
DEIT_TINY = DeiTConfig(width=192, heads=3)
DEIT_SMALL = DeiTConfig(width=384, heads=6)
DEIT_BASE = DeiTConfig(width=768, heads=12)
DEIT_BASE_384 = DeiTConfig(width=768, heads=12, grid=(24, 24))
VIM_TINY_UPERNET = UPerNetConfig(VimConfig(width=192, grid=(32, 32)), channels=192)
VIM_SMALL_UPERNET = UPerNetConfig(VimConfig(width=384, grid=(32, 32)), channels=384)
DEIT_TINY_UPERNET = UPerNetConfig(
    DeiTConfig(width=192, heads=3, grid=(32, 32)), (2, 5, 8, 11), channels=192
)
DEIT_SMALL_UPERNET = UPerNetConfig(
    DeiTConfig(width=384, heads=6, grid=(32, 32)), (2, 5, 8, 11), channels=384
)
