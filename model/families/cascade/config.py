"""The architecture of a cascade detector as plain data; one line per variant of the catalog."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vimserve.model.architecture import BackboneConfig, HeadConfig, check_least
from vimserve.model.families.deit.config import DEIT_BASE, DEIT_SMALL, DEIT_TINY, DeiTConfig
from vimserve.model.families.vim.config import Rope, VimConfig

STRIDE = 16  # of the backbone's patches, from which the pyramid's strides and anchors follow


@dataclass(frozen=True)
class CascadeConfig(HeadConfig):
    """Cascade Mask R-CNN (arXiv 1906.09756) on a plain backbone with a simple feature pyramid.

    The pyramid (ViTDet, arXiv 2203.16527) is made of the backbone's last features alone.
    ``channels`` is the width of pyramid, RPN, box and mask heads, ``box_width`` that of the fully
    connected layer of a box head. Without ``masks`` there is no mask head. The backbone's
    classifier and class token are left out, whatever it is given with.

    Raises:
        ValueError: for a value outside the supported range; the message names it.
    """

    backbone: BackboneConfig
    channels: int = 256
    box_width: int = 1024
    num_classes: int = 80
    masks: bool = True

    def __post_init__(self) -> None:
        check_least(self, 1, "channels", "box_width", "num_classes")
        backbone = self.backbone.without_classifier()
        if (backbone.patch_size, backbone.stride) != (STRIDE, STRIDE):
            raise ValueError(
                f"a detector's patches must be {STRIDE} pixels, {STRIDE} apart, not "
                f"{backbone.patch_size} pixels, {backbone.stride} apart"
            )
        if backbone.width % 4:
            raise ValueError(f"a detector's width must be a multiple of 4, not {backbone.width}")
        object.__setattr__(self, "backbone", backbone)


_GRID = (64, 64)  # 1024 pixels

VIM_TINY_CASCADE = CascadeConfig(VimConfig(width=192, grid=_GRID, rope=Rope()))
VIM_SMALL_CASCADE = CascadeConfig(VimConfig(width=384, grid=_GRID, rope=Rope()))
VIM_BASE_CASCADE = CascadeConfig(VimConfig(width=768, grid=_GRID, rope=Rope()))


_WINDOW = 14  # ViTDet's


def _on_deits() -> Iterator[tuple[str, CascadeConfig]]:
    """Each size without class token: attention fused or eager over all tokens, or in windows."""
    sizes: dict[str, DeiTConfig] = {"tiny": DEIT_TINY, "small": DEIT_SMALL, "base": DEIT_BASE}
    for size, published in sizes.items():
        deit = replace(
            published, num_classes=0, grid=_GRID, class_token=False, class_position=False
        )
        yield f"deit-{size}-cascade", CascadeConfig(deit)
        yield f"deit-{size}-cascade-eager", CascadeConfig(replace(deit, attention="eager"))
        yield f"deit-{size}-cascade-windowed", CascadeConfig(replace(deit, window=_WINDOW))


DEIT_CASCADES = dict(_on_deits())
