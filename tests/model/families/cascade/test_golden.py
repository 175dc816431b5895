"""The detector gives the published code's numbers, from the picture to the masks."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.closeness import assert_close
from tests.model.families.cascade.golden import CASES, Case, make_case, matched, strided
from tests.paths import GOLDEN
from vimserve.kernels.paste_masks import paste_masks
from vimserve.model.catalog import resolve
from vimserve.model.detections import Detections, Selection
from vimserve.model.families import build
from vimserve.model.families.cascade.boxes import clip
from vimserve.model.families.cascade.pyramid import STRIDES

STAGE_BOUNDS = (1e-3, 2e-3, 4e-3)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(request.param)


def test_pictures_are_resized_as_published(case: Case) -> None:
    golden = case.golden
    for i, (picture, pixels) in enumerate(zip(case.pictures, case.pixels, strict=True)):
        assert picture.sum((0, 1), dtype=np.int64).tolist() == golden[f"original_sum{i}"].tolist()
        assert pixels.sum((1, 2)).tolist() == golden[f"resized_sum{i}"].tolist()
        sample = pixels.permute(1, 2, 0)[::8, ::8]
        assert torch.equal(sample, golden[f"resized_sample{i}"])
    assert [list(size) for size in case.sizes] == golden["resized_sizes"].tolist()


def test_features_and_first_stage(case: Case) -> None:
    step = 4 if case.model.config.channels == 32 else 16
    features = case.model.last_features(case.batch).view(*case.golden["padded_shape"].new_tensor(
        [case.batch.num_images, *case.batch.grids[0], -1]).tolist())  # fmt: skip
    assert_close("last_feat", strided(features, step), case.golden["last_feat"], atol=1e-4)
    for level, maps in enumerate(case.levels(), 2):
        assert_close(f"p{level}", strided(maps, step), case.golden[f"p{level}"], atol=1e-4)
        with torch.inference_mode():
            logits, deltas = case.model.proposal_generator.rpn_head(maps)
        for name, values in (("logits", logits), ("deltas", deltas)):
            of_pixels = values.reshape(*maps.shape[:3], -1)
            golden = case.golden[f"rpn_{name}_p{level}"]
            assert_close(f"rpn {name} {level}", strided(of_pixels, 1), golden, atol=1e-4)


@torch.inference_mode()
def test_proposals_as_a_set(case: Case) -> None:
    sizes = torch.tensor(case.sizes, dtype=torch.float32)
    boxes, logits, finite = case.model.proposal_generator(case.levels(), sizes)
    assert finite.all()
    for i in range(case.batch.num_images):
        golden, of_golden = case.golden[f"proposals{i}"], case.golden[f"proposal_logits{i}"]
        real = logits[i].isfinite()
        assert real.sum() == len(golden)
        assert (logits[i].diff()[: len(golden) - 1] <= 0).all()
        distances = (golden[:, None] - boxes[i, real]).abs().amax(2)
        nearest = matched(distances, 0.02)
        close = (logits[i, real][nearest] - of_golden).abs() <= 2e-4
        share = (close & (nearest >= 0)).float().mean()
        assert share >= 0.99, f"{share:.4f} of the proposals"
        assert len(nearest.unique()) >= 0.99 * len(golden)


@torch.inference_mode()
def test_heads_on_given_boxes(case: Case) -> None:
    golden, heads, images = case.golden, case.model.roi_heads, case.given_images
    levels = case.pooled_levels()
    limits = torch.tensor(case.sizes, dtype=torch.float32)[images.long()]
    boxes = golden["fixed_boxes"]
    step = 4 if case.model.config.channels == 32 else 32
    pooled = levels.pool(boxes, images, 7).permute(0, 3, 1, 2)[:, ::step]
    assert_close("pooled", pooled, golden["fixed_pooled7"], atol=3e-4)
    scores = torch.zeros_like(golden["fixed_scores"])
    for stage, bound in enumerate(STAGE_BOUNDS):
        logits, deltas, refined = heads.refine(stage, levels, boxes, images)
        assert_close(f"logits {stage}", logits, golden[f"fixed_stage{stage}_logits"], atol=bound)
        assert_close(f"deltas {stage}", deltas, golden[f"fixed_stage{stage}_deltas"], atol=1e-3)
        assert_close(f"boxes {stage}", refined, golden[f"fixed_stage{stage}_boxes"], atol=1e-2)
        scores += logits.softmax(1) / 3
        boxes = clip(refined, limits)
    assert_close("scores", scores, golden["fixed_scores"], atol=2e-4)


@torch.inference_mode()
def test_masks_of_given_boxes(case: Case) -> None:
    golden, images = case.golden, case.given_images
    boxes, classes = golden["fixed_mask_boxes"], golden["fixed_mask_classes"].long()
    levels = case.pooled_levels()
    logits = case.model.roi_heads.mask_logits(levels, boxes, images, classes)
    assert_close("mask logits", logits, golden["fixed_mask_logits"], atol=1e-3)
    for i, original in enumerate(case.originals):
        mine = images == i
        masks = pasted(logits[mine].sigmoid(), in_original(boxes[mine], case, i), original)
        assert_areas(masks.sum((1, 2)), golden[f"fixed_mask_area{i}"], 0.002)
        assert_areas(masks[:8].sum(2), golden[f"fixed_mask_rows{i}"], 0.002)
        assert_areas(masks[:8].sum(1), golden[f"fixed_mask_columns{i}"], 0.002)


def test_detections_as_a_set(case: Case) -> None:
    selections = [Selection(size) for size in case.sizes]
    answers = case.model.answer(case.batch, selections)
    assert answers.finite.all()
    for i, original in enumerate(case.originals):
        golden = {
            name: case.golden[f"{name}{i}"]
            for name in ("raw_boxes", "boxes", "scores", "classes", "mask_areas", "mask_logits")
        }
        ours = Detections.unpack(answers.outputs[i][0])
        boxes, scores, classes = map(torch.from_numpy, (ours.boxes, ours.scores, ours.classes))
        assert abs(len(boxes) - len(golden["scores"])) <= 1
        distances = (golden["raw_boxes"][:, None] - boxes).abs().amax(2)
        distances += 1e6 * (golden["classes"][:, None] != classes)
        nearest = matched(distances, 0.1)
        good = (nearest >= 0) & ((scores[nearest] - golden["scores"]).abs() <= 1e-3)
        assert good.float().mean() >= 0.98, f"{good.float().mean():.4f} of the detections"
        assert len(nearest[good].unique()) == good.sum()
        whole = in_original(boxes, case, i)
        assert (whole[nearest[good]] - golden["boxes"][good]).abs().max() <= 0.2

        assert ours.masks is not None
        masks = torch.from_numpy(ours.masks)
        with_logits = good.nonzero()[:, 0]
        with_logits = with_logits[with_logits < len(golden["mask_logits"])]
        assert len(with_logits) > 0
        assert_close(
            "masks",
            masks[nearest[with_logits]].logit(),
            golden["mask_logits"][with_logits],
            atol=2e-2,
        )
        areas = pasted(masks, whole, original).sum((1, 2))
        assert_areas(areas[nearest[good]], golden["mask_areas"][good], 0.01)


@pytest.mark.parametrize(
    ("whole", "bounds"), [(False, (1e-2, 5e-2, 2e-2)), (True, (2.5e-2, 5e-2, 2e-2))]
)
@torch.inference_mode()
def test_bfloat16_is_close_on_given_boxes(case: Case, whole: bool, bounds: Any) -> None:
    """Rounding a backbone's 24 blocks of random weights costs more than all that follows."""
    rounded, golden, images = case.in_bfloat16(), case.golden, case.given_images
    heads = rounded.model.roi_heads
    features = None if whole else case.model.last_features(case.batch)
    for level, maps in enumerate(rounded.levels(features), 2):
        logits, _ = rounded.model.proposal_generator.rpn_head(maps)
        of_pixels = strided(logits.view(*maps.shape[:3], -1), 1)
        assert relative(of_pixels, golden[f"rpn_logits_p{level}"]) <= bounds[0]
    levels, boxes = rounded.pooled_levels(features), golden["fixed_boxes"]
    limits = torch.tensor(case.sizes, dtype=torch.float32)[images.long()]
    for stage in range(3):
        logits, _, _ = heads.refine(stage, levels, boxes, images)
        # The published ones: a box that rounding moves to another level is pooled from other maps.
        boxes = clip(golden[f"fixed_stage{stage}_boxes"], limits)
    assert relative(logits, golden["fixed_stage2_logits"]) <= bounds[1]
    boxes, classes = golden["fixed_mask_boxes"], golden["fixed_mask_classes"].long()
    logits = heads.mask_logits(levels, boxes, images, classes)
    assert relative(logits, golden["fixed_mask_logits"]) <= bounds[2]


def test_state_dict_is_the_published_one() -> None:
    shapes = json.loads((GOLDEN / "det_state_dict_shapes.json").read_text())
    rope = {"backbone.net.rope.freqs_cos", "backbone.net.rope.freqs_sin"}
    with torch.device("meta"):
        state = build(resolve("vim-tiny-cascade").config).state_dict()
    assert {name: [*t.shape] for name, t in state.items()} == {
        name: shape for name, shape in shapes.items() if name not in rope
    }
    assert STRIDES[:4] == (4, 8, 16, 32)


def in_original(boxes: Tensor, case: Case, i: int) -> Tensor:
    """Boxes in pixels of the picture before it was resized, cut off at its edges."""
    (height, width), (high, wide) = case.originals[i], case.sizes[i]
    scale = torch.tensor([width / wide, height / high] * 2)
    return clip(boxes * scale, torch.tensor([height, width], dtype=torch.float32))


def pasted(masks: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Bool ``[R, height, width]`` of the run lengths, which run down the columns."""
    runs, begins = paste_masks(masks, boxes, (size[0], size[1]))
    height, width = size
    made = []
    for begin, end in zip(begins.tolist(), begins.tolist()[1:], strict=False):
        of_mask = runs[begin:end]
        bits = torch.arange(len(of_mask)) % 2 == 1
        made.append(bits.repeat_interleave(of_mask.long()).view(width, height).T)
    return torch.stack(made)


def assert_areas(areas: Tensor, golden: Tensor, share: float) -> None:
    """Within 8 pixels, or a share of them."""
    error = (areas - golden).abs()
    assert (error <= (share * golden).clamp(min=8)).all(), f"{error.max()} pixels"


def relative(ours: Tensor, golden: Tensor) -> float:
    """The length of the difference in lengths of the golden one."""
    error = ((ours - golden).norm() / golden.norm()).item()
    print(f"relative error {error:.2e}")
    return error
