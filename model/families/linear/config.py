"""The architecture of a linear head on a backbone as plain data."""

import dataclasses
from dataclasses import dataclass

from vimserve.model.architecture import BackboneConfig, HeadConfig, check_least
from vimserve.model.families.upernet.config import FEATURES, check_mask_classes, last_of_parts


@dataclass(frozen=True)
class LinearConfig(HeadConfig):
    """A linear head on the features of four blocks, the last one of each quarter.

    The backbone is that of a classifier, its class tokens included, but without the classifier.

    Raises:
        ValueError: for a value outside the supported range; the message names it.
    """

    backbone: BackboneConfig
    num_classes: int

    def __post_init__(self) -> None:
        check_least(self, 1, "num_classes")
        check_mask_classes(self.num_classes)
        if self.backbone.depth < FEATURES:
            raise ValueError(
                f"the head reads {FEATURES} blocks, but the backbone has {self.backbone.depth}"
            )
        without = dataclasses.replace(self.backbone, num_classes=0)  # type: ignore[type-var]
        object.__setattr__(self, "backbone", without)

    @property
    def out_indices(self) -> tuple[int, ...]:
        """The blocks that are read, the first from 0."""
        return last_of_parts(self.backbone.depth)

    @property
    def features(self) -> int:
        """What the head reads of each patch."""
        return FEATURES * self.backbone.width
