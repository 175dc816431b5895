"""The network that is trained is the network that is served."""

import pytest
import torch

from tests.closeness import assert_close
from vimserve.model.batch import PackedBatch
from vimserve.model.config import VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.training.vim import Network


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (96, 80)])
def test_training_and_serving_agree(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    config = VimConfig(width=32, depth=2, states=8, num_classes=5, grid=(4, 4))
    network = Network(config).eval()
    served = Vim(config).eval()
    served.load_state_dict(network.state_dict(), strict=True)
    images = torch.randn(3, 3, *size)
    with torch.inference_mode():
        expected = network(images)
        logits = served(PackedBatch.from_images(list(images)))
    assert_close("logits", logits, expected, atol=1e-5)


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = Network(VimConfig(width=32, depth=2, states=8, num_classes=5, grid=(4, 4)))
    network(torch.randn(2, 3, 80, 64)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
