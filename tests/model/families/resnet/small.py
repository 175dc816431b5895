"""Small ResNets and their weights."""

import torch
from torch import Tensor, nn

from vimserve.model.families.resnet.config import ResNetConfig
from vimserve.model.families.upernet.config import UPerNetConfig

# A ResNet-50 with an eighth of the channels, and a small one.
NARROW = ResNetConfig(width=8, inner=8, num_classes=10)
SMALL = ResNetConfig(blocks=(1, 2, 1, 1), width=8, inner=8, num_classes=5)
UPERNET = UPerNetConfig(SMALL, (0, 1, 2, 3), channels=12, num_classes=7)


def made_weights(model: nn.Module) -> dict[str, Tensor]:
    """A state dict as a training leaves it: no statistic is 0 or 1, and no activation explodes."""
    random = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in model.state_dict().items():
        noise = torch.randn(tensor.shape, generator=random)
        if name.endswith("running_var"):
            state[name] = 0.5 + noise.abs()
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1000)
        elif tensor.ndim == 1:  # what is added, and the scales, less at the end of a bottleneck
            scale = name.endswith("weight")
            state[name] = scale * (0.3 if "bn3" in name else 1.0) + 0.1 * noise
        else:
            state[name] = noise * (2 / tensor[0].numel()) ** 0.5
    return state
