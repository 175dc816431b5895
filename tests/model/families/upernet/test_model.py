"""The segmenter gives the published code's numbers, whatever else rides in the batch."""

import json
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.closeness import assert_close
from tests.paths import GOLDEN
from vimserve.loadtests.gpu_check.recipe import make_images, make_weights
from vimserve.model.batch import PackedBatch
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.upernet.model import HEAD_PATCHES, UPerNetSegmenter
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.layout import equal_groups

CASES = json.loads((GOLDEN / "seg_cases.json").read_text())
SHAPES = json.loads((GOLDEN / "seg_state_dict_shapes.json").read_text())
TEN = [(16, 16), (16, 48), (80, 32), (64, 64), (96, 80), (64, 64), (48, 112), (16, 160), (64, 64),
       (128, 96)]  # fmt: skip


def published(case: dict[str, Any]) -> UPerNetSegmenter:
    given, (height, width) = case["config"], case["image_hw"]
    backbone = VimConfig(
        width=given["embed_dim"], depth=given["depth"], grid=(height // 16, width // 16)
    )
    model = UPerNetSegmenter(backbone, given["out_indices"], given["channels"], given["classes"])
    model.load_state_dict(make_weights(model))
    return model


@pytest.fixture(params=["vim", "deit"])
def small(request: pytest.FixtureRequest) -> UPerNetSegmenter:
    backbone = (
        VimConfig(width=32, depth=4, states=8, grid=(4, 4))
        if request.param == "vim"
        else DeiTConfig(width=32, depth=4, heads=2, grid=(4, 4))
    )
    model = UPerNetSegmenter(backbone, (0, 1, 2, 3), channels=16, num_classes=5)
    model.load_state_dict(make_weights(model))
    return model


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_matches_published_outputs(case: dict[str, Any]) -> None:
    model = published(case)
    assert {name: [*t.shape] for name, t in model.state_dict().items()} == SHAPES[case["name"]]
    assert sum(p.numel() for p in model.parameters()) == case["params"]
    golden = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / f"{case['name']}.npz").items()}
    batch = PackedBatch.from_images(make_images(1, *case["image_hw"]))

    # The published hook sees features after their necks; only the third's is the identity.
    assert_close("feature", model.features(batch)[2].mean(0), golden["feature2_mean"][0], atol=1e-4)
    (scores,) = model(batch)
    stride = int(golden["stride"])
    expected = golden["logits_quarter_strided"][0]
    assert_close("scores", scores[:, ::stride, ::stride], expected, atol=2e-4)
    (classes,) = model.segment(batch)
    assert (classes == golden["argmax_full"]).float().mean() >= 0.995


def test_ten_ragged_scenes_together_equal_the_ten_alone(small: UPerNetSegmenter) -> None:
    torch.manual_seed(0)
    images = [torch.randn(3, height, width) for height, width in TEN]
    together = small(PackedBatch.from_images(images))
    for size, image, scores in zip(TEN, images, together, strict=True):
        (alone,) = small(PackedBatch.from_images([image]))
        assert scores.shape == (5, size[0] // 4, size[1] // 4)
        assert_close(str(size), scores, alone, atol=1e-5)
    maps = small.segment(PackedBatch.from_images(images))
    assert [tuple(classes.shape) for classes in maps] == TEN


def test_groups_are_of_equal_grids_and_not_too_large() -> None:
    grids = [(64, 64), (2, 2), (64, 64), (64, 64), (2, 2)]
    assert equal_groups(grids, HEAD_PATCHES) == [[0, 2], [3], [1, 4]]


def test_batch_norms_are_folded_again_after_loading(small: UPerNetSegmenter) -> None:
    batch = PackedBatch.from_images([torch.randn(3, 64, 48)])
    (before,) = small(batch)
    state = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    state["decode_head.fpn_bottleneck.bn.running_mean"] += 1
    small.load_state_dict(state)
    assert (small(batch)[0] - before).abs().max() > 1e-3


def test_the_head_is_that_of_plain_modules(small: UPerNetSegmenter) -> None:
    """A sum of convolutions of parts is the convolution of their concatenation, resized."""
    torch.manual_seed(0)
    module = small.decode_head.fpn_bottleneck
    parts = [torch.randn(1, 16, side, side) for side in (12, 6, 3, 1)]
    stacked = torch.cat(
        [F.interpolate(part, (12, 12), mode="bilinear", align_corners=False) for part in parts], 1
    )
    expected = module.bn.eval()(module.conv(stacked)).relu()  # type: ignore[operator, union-attr]
    with torch.inference_mode():
        assert_close("fusion", module(*parts), expected.detach(), atol=1e-5)
