"""Small detectors whose scores differ from box to box."""

from dataclasses import replace

import torch
from torch import Tensor

from vimserve.loadtests.gpu_check.recipe import make_detector_weights
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.families.cascade.model import CascadeDetector
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.vim.config import Rope, VimConfig

VIM_BACKBONE = VimConfig(width=32, depth=2, states=8, grid=(4, 4), rope=Rope())
VIM = CascadeConfig(VIM_BACKBONE, channels=16, box_width=32, num_classes=5)
DEIT = replace(VIM, backbone=DeiTConfig(width=64, depth=2, heads=1, grid=(4, 4)))


def detector(config: CascadeConfig = VIM, background_bias: float = 2.0) -> CascadeDetector:
    model = CascadeDetector(config).eval()
    model.load_state_dict(make_detector_weights(model, background_bias))
    return model.requires_grad_(False)


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randint(256, (3, *s), dtype=torch.uint8, generator=random) for s in sizes]
