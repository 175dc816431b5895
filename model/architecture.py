"""What the configurations of all families say, and what those of backbones share."""

import abc
from collections.abc import Sequence
from typing import Literal, Protocol, Self, get_args

Pooling = Literal["middle", "head", "double", "registers", "mean", "max", "last"]
Readout = Literal["class", "mean", "both"]
RGB = tuple[float, float, float]

IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)


class ModelConfig(Protocol):
    """What is asked of every configuration."""

    @property
    def num_classes(self) -> int:
        """Classes that an image or a pixel can have."""

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""

    @property
    def stride(self) -> int:
        """From one patch to the next, in pixels."""

    @property
    def pixel_mean(self) -> RGB:
        """Mean of each channel, for pixels from 0 to 1."""

    @property
    def pixel_std(self) -> RGB:
        """Standard deviation of each channel, for pixels from 0 to 1."""

    @property
    def trained_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that the model was trained on."""

    @property
    def attention(self) -> str:
        """How attention is computed, or ``none`` where there is none."""

    def image_size(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Height and width in pixels of an image with this grid of patches."""


class BackboneConfig(abc.ABC):
    """Base of the configurations of backbones, which are frozen dataclasses.

    Attributes:
        width: of a token.
        depth: number of blocks.
        patch_size: side of a patch in pixels.
        num_classes: of the classifier; 0 leaves it out.
        grid: the (rows, columns) of patches that the position embedding was trained for; images of
            other sizes get it resized.
        pixel_mean: of each channel, for pixels from 0 to 1.
        pixel_std: likewise, the standard deviation.
    """

    width: int
    depth: int
    patch_size: int
    num_classes: int
    grid: tuple[int, int]
    pixel_mean: RGB
    pixel_std: RGB

    @property
    @abc.abstractmethod
    def pooling(self) -> Pooling:
        """What the classifier reads, and thereby where the class tokens stand."""

    @abc.abstractmethod
    def without_classifier(self) -> Self:
        """The same backbone with neither classifier nor, where it can do without, class token."""

    @property
    def stride(self) -> int:
        """From one patch to the next, in pixels."""
        return self.patch_size

    @property
    def attention(self) -> str:
        """How attention is computed, or ``none`` where there is none."""
        return "none"

    @property
    def class_tokens(self) -> int:
        """How many tokens of a sequence are no patches."""
        return len(self.class_positions(0))

    @property
    def rotary(self) -> bool:
        """Whether the channels of every token turn by its place in the grid."""
        return False

    @property
    def positions(self) -> int:
        """Rows of ``pos_embed``: one for each patch of ``grid``, and one for each class token."""
        return self.grid[0] * self.grid[1] + self.class_tokens

    @property
    def trained_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that ``grid`` belongs to."""
        return self.image_size(self.grid)

    def class_positions(self, patches: int) -> tuple[int, ...]:
        """Where the class tokens stand in the sequence of an image of ``patches`` patches."""
        return class_positions(self.pooling, patches)

    def image_size(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Height and width in pixels of an image with this grid of patches."""
        rows, cols = grid
        extra = self.patch_size - self.stride
        return rows * self.stride + extra, cols * self.stride + extra


class TokensConfig(BackboneConfig):
    """Base of the configurations of those backbones whose tokens stay apart until the classifier.

    Attributes:
        readout: what the classifier reads of the normalised tokens: ``class`` what the published
            one does, ``mean`` the mean of the patches' tokens, ``both`` the one behind the other.
    """

    readout: Readout

    @property
    def readouts(self) -> tuple[Readout, ...]:
        """What a classifier may read: nothing but the mean where no token stands for all."""
        return get_args(Readout) if self.class_tokens or self.pooling == "last" else ("mean",)

    @property
    def class_width(self) -> int:
        """Width of what the published classifier reads."""
        return self.width

    @property
    def features(self) -> int:
        """Width of what the classifier reads."""
        of_class, of_mean = self.class_width, self.width
        return {"class": of_class, "mean": of_mean, "both": of_class + of_mean}[self.readout]


class HeadConfig:
    """Base of the configurations of a head on a backbone, which are frozen dataclasses.

    Attributes:
        backbone: without its classifier.
    """

    backbone: BackboneConfig

    @property
    def patch_size(self) -> int:
        """Side of the backbone's patches in pixels."""
        return self.backbone.patch_size

    @property
    def stride(self) -> int:
        """From one of the backbone's patches to the next, in pixels."""
        return self.backbone.stride

    @property
    def pixel_mean(self) -> RGB:
        """Mean of each channel that the backbone reckons with, for pixels from 0 to 1."""
        return self.backbone.pixel_mean

    @property
    def pixel_std(self) -> RGB:
        """Standard deviation of each channel that the backbone reckons with, likewise."""
        return self.backbone.pixel_std

    @property
    def trained_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that the backbone's ``grid`` belongs to."""
        return self.backbone.trained_size

    @property
    def attention(self) -> str:
        """How the backbone computes attention, or ``none`` where it has none."""
        return self.backbone.attention

    def image_size(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Height and width in pixels of an image with this grid of patches."""
        return self.backbone.image_size(grid)


def class_positions(pooling: Pooling, patches: int) -> tuple[int, ...]:
    """Where the class tokens stand in the sequence of an image of ``patches`` patches."""
    return {"middle": (patches // 2,), "head": (0,), "double": (0, patches + 1)}.get(pooling, ())


def check_least(config: object, least: int, *names: str) -> None:
    """Check numbers of a configuration.

    Raises:
        ValueError: naming the first that is less than ``least``.
    """
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"{name} must be at least {least}, not {getattr(config, name)}")


def check_choice(config: object, name: str, choices: Sequence[str]) -> None:
    """Check a word of a configuration.

    Raises:
        ValueError: if it is none of the choices.
    """
    given = getattr(config, name)
    if given not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {given!r}")


def check_readout(config: TokensConfig) -> None:
    """Check what the classifier reads.

    Raises:
        ValueError: if there is no such thing.
    """
    check_choice(config, "readout", get_args(Readout))
    if config.readout == "both" and config.readout not in config.readouts:
        raise ValueError(
            f"readout='both' needs a token that stands for all: with pooling={config.pooling!r} "
            "there is none"
        )


def check_grid(grid: tuple[int, int], name: str = "grid") -> None:
    """Check the size of a grid of patches.

    Raises:
        ValueError: if it has no row or no column; the message calls it ``name``.
    """
    if min(grid) < 1:
        raise ValueError(f"{name} must have at least one row and one column, not {grid}")
