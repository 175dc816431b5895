"""The detector that is trained is the one that is served."""

import pytest
import torch

from tests.closeness import assert_close
from vimserve.model.batch import PackedBatch
from vimserve.model.config import VimConfig
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.families.cascade.heads import WEIGHTS
from vimserve.model.families.cascade.model import CascadeDetector
from vimserve.model.families.cascade.pyramid import PooledLevels, coarsest
from vimserve.model.training.cascade import DEVIATIONS, CascadeNetwork

CONFIG = CascadeConfig(
    VimConfig(width=32, depth=2, states=8, grid=(4, 4)), channels=16, box_width=24, num_classes=5
)
BOXES = torch.tensor(
    [[0.0, 0, 20, 30], [3, 5, 60, 21], [10, 10, 10, 30], [1, 2, 48, 47], [30, 20, 44, 40]]
)


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (80, 160)])
@torch.inference_mode()
def test_training_and_serving_agree(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = CascadeNetwork(CONFIG).eval()
    for name, parameter in network.named_parameters():
        if any(output in name for output in DEVIATIONS):
            torch.nn.init.normal_(parameter)  # begins too close to zero to be compared
    served = CascadeDetector(CONFIG).eval()
    served.load_state_dict(network.state_dict(), strict=True)
    images = torch.randn(2, 3, *size)
    grid = (size[0] // 16, size[1] // 16)
    batch = PackedBatch.from_images(list(images))

    pyramid, anchors = network(images)
    features = served.last_features(batch)
    pooled = PooledLevels.empty((grid, grid), CONFIG.channels, features)
    levels = pooled.of_images(0, 2)
    served.backbone(features.view(2, *grid, -1), levels)
    levels.append(coarsest(levels[-1]))
    for ours, (logits, deltas), theirs in zip(pyramid, anchors, levels, strict=True):
        assert_close("level", ours.permute(0, 2, 3, 1), theirs, atol=2e-5)
        expected = served.proposal_generator.rpn_head(theirs)
        assert_close("objectness", logits, expected[0], atol=1e-4)
        assert_close("moves", deltas, expected[1], atol=1e-4)

    which = torch.tensor([0, 1, 0, 1, 1])
    for stage in range(len(WEIGHTS)):
        scores, moves = network.stage(stage, pyramid, BOXES, which)
        expected = served.roi_heads.refine(stage, pooled, BOXES, which.int())
        assert_close("scores", scores, expected[0], atol=1e-4)
        assert_close("moves", moves, expected[1], atol=1e-4)

    classes = torch.tensor([0, 4, 2, 2, 1])
    masks = network.masks(pyramid, BOXES, which)[torch.arange(5), classes]
    expected_masks = served.roi_heads.mask_logits(pooled, BOXES, which.int(), classes)
    assert_close("masks", masks, expected_masks, atol=1e-4)
