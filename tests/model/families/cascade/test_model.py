"""What rides together changes nothing, and a GPU's way gives what a CPU's does."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.closeness import assert_close
from tests.model.families.cascade.small import DEIT, VIM, VIM_BACKBONE, detector, pictures
from tests.model.offdevice import stubbed_kernels
from vimserve.model.batch import PackedBatch
from vimserve.model.detections import Detections, Selection
from vimserve.model.families.cascade import layers
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.families.cascade.model import CascadeDetector, bundles, runs

SIZES = [(32, 32), (64, 96), (176, 48), (64, 96), (144, 208)]


@pytest.fixture(params=[VIM, DEIT], ids=["vim", "deit"])
def small(request: pytest.FixtureRequest) -> CascadeDetector:
    return detector(request.param)


def answers(
    model: CascadeDetector, images: Sequence[Tensor], **wanted: float
) -> tuple[Tensor, ...]:
    selections = [Selection(tuple(image.shape[1:]), **wanted) for image in images]  # type: ignore[arg-type]
    made = model.answer(PackedBatch.from_images(images), selections)
    assert made.finite.all()
    return tuple(output[0] for output in made.outputs)


def assert_same_detections(ours: Tensor, expected: Tensor) -> None:
    """Equal but for the order of scores that are as good as equal."""
    assert ours.shape == expected.shape
    a, b = (rows[rows[:, :6].mul(torch.tensor([1, 1, 1, 1, 1e4, 1e6])).sum(1).argsort()]
            for rows in (ours, expected))  # fmt: skip
    assert_close("detections", a, b, atol=2e-3)


def test_images_together_equal_each_alone(small: CascadeDetector) -> None:
    images = pictures(*SIZES)
    for image, rows in zip(images, answers(small, images), strict=True):
        (alone,) = answers(small, [image])
        assert rows.shape == (100, 6 + 28 * 28)
        assert_same_detections(rows, alone)


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.4, 0.7, 0.999])
def test_fixed_shapes_and_what_is_skipped_change_no_detection(
    threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = detector(background_bias=0)
    images = pictures(*SIZES)
    compact = answers(model, images, score_threshold=threshold)
    monkeypatch.setattr(model, "fixed_shapes", True)
    fixed = answers(model, images, score_threshold=threshold)
    found = 0
    for ours, expected in zip(compact, fixed, strict=True):
        assert_same_detections(ours, expected)
        found += int((ours[:, 4] > 0).sum())
    assert (found > 0) == (threshold < 0.999)


def test_a_higher_threshold_computes_fewer_boxes_of_later_stages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, counts = detector(background_bias=0), list[int]()
    refine = model.roi_heads.refine

    def counted(*args: Any) -> Any:
        counts.append(len(args[2]))
        return refine(*args)

    monkeypatch.setattr(model.roi_heads, "refine", counted)
    for threshold in (0.05, 0.5, 0.8):
        answers(model, pictures((144, 208)), score_threshold=threshold)
    low, middle, high = counts[:3], counts[3:6], counts[6:]
    assert low == [1000, 1000, 1000]
    assert middle[:2] == [1000, 1000]
    assert middle[2] < 1000
    assert high[1] < 1000
    assert high[2] < middle[2]


def test_a_threshold_and_a_limit_take_the_best_of_all(small: CascadeDetector) -> None:
    image = pictures((64, 96))
    (many,) = answers(small, image, most=300)
    scores = many[:, 4]
    assert (scores.diff() <= 0).all()
    bound = float(scores[20])
    (few,) = answers(small, image, most=10)
    assert torch.equal(few, many[:10])
    (good,) = answers(small, image, most=300, score_threshold=bound)
    assert_close("those above the threshold", good[:20], many[:20], atol=1e-4)
    assert (good[20:] == 0).all()


def test_boxes_are_cut_off_at_the_picture(small: CascadeDetector) -> None:
    (image,) = pictures((64, 96))
    batch = PackedBatch.from_images([image])
    rows = small.answer(batch, [Selection((50, 70))]).outputs[0][0]
    assert rows[:, [0, 2]].max() <= 70
    assert rows[:, [1, 3]].max() <= 50
    assert rows[:, :4].min() >= 0


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = detector(), pictures((144, 208), (144, 208))
    whole = answers(model, images)
    monkeypatch.setattr(layers, "STRIP_PIXELS", 1)  # four rows at a time
    for ours, expected in zip(answers(model, images), whole, strict=True):
        assert_same_detections(ours, expected)


def test_without_a_mask_head_there_are_boxes_alone() -> None:
    model, images = detector(replace(VIM, masks=False)), pictures((64, 96))
    (rows,) = answers(model, images, masks=False)
    (with_masks,) = answers(detector(), images)
    assert torch.equal(rows, with_masks[:, :6])
    assert model.whole((64, 96)) == Selection((64, 96), masks=False)
    with pytest.raises(ValueError, match="no mask head"):
        answers(model, images, masks=True)


def test_masks_are_of_the_images_that_want_them() -> None:
    model, images = detector(), pictures((64, 96), (64, 96), (32, 32))
    wanted = [Selection((64, 96)), Selection((64, 96), masks=False, most=7), None]
    outputs = model.answer(PackedBatch.from_images(images), wanted).outputs
    assert [output.shape for output in outputs] == [(1, 100, 790), (1, 7, 6), (1, 100, 790)]
    whole = answers(model, images)
    assert torch.equal(outputs[1][0], whole[1][:7, :6])
    found = Detections.unpack(outputs[0][0])
    assert found.masks is not None
    assert found.masks.min() >= 0
    assert found.masks.max() <= 1


@pytest.mark.parametrize(
    "name",
    [
        "backbone.net.patch_embed.proj.weight",
        "proposal_generator.rpn_head.objectness_logits.bias",
        "proposal_generator.rpn_head.anchor_deltas.bias",
        "roi_heads.box_predictor.0.bbox_pred.bias",
        "roi_heads.box_predictor.1.cls_score.bias",
        "roi_heads.box_predictor.2.bbox_pred.bias",
        "roi_heads.mask_head.predictor.bias",
    ],
)
def test_weights_that_are_not_finite_are_told(name: str) -> None:
    model = detector()
    model.load_state_dict(model.state_dict() | {name: model.state_dict()[name] * torch.nan})
    made = model.answer(PackedBatch.from_images(pictures((64, 96))), [Selection((64, 96))])
    assert made.finite.tolist() == [False]


def test_on_a_gpu_nothing_waits_for_the_device() -> None:
    """Tensors without values take its way: whatever asked for one, or for how many, would fail."""
    grids = [(4, 6), (4, 6), (11, 3)]
    selections = [Selection((60, 90)), Selection((64, 96), 0.9), Selection((176, 48), masks=False)]
    with stubbed_kernels(), torch.device("meta"), torch.inference_mode():
        model = CascadeDetector(VIM).bfloat16()
        features = [torch.empty(r * c, 32, dtype=torch.bfloat16) for r, c in grids]
        rows, finite = model.detect(features, grids, selections)
        with pytest.raises(NotImplementedError):
            finite.nonzero()
        with pytest.raises(RuntimeError):
            finite.any().item()
    assert [tuple(of.shape) for of in rows] == [(100, 790), (100, 790), (100, 6)]
    assert finite.shape == (3,)


def test_bundles_are_of_equal_grids_and_not_too_large() -> None:
    grids = [(64, 64), (2, 2), (64, 64), (64, 64), (2, 2), (128, 128)]
    assert bundles(grids) == [[0, 2], [3, 1, 4], [5]]
    assert list(runs([grids[i] for i in [3, 1, 4]])) == [(0, 1), (1, 3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, not 0"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"backbone": replace(VIM_BACKBONE, stride=8)}, "16 pixels, 16 apart, not 16 pixels, 8"),
    ],
)
def test_a_wrong_configuration_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(VIM, **changes)  # type: ignore[arg-type]


def test_the_backbone_has_no_classifier() -> None:
    config = CascadeConfig(replace(VIM_BACKBONE, num_classes=7))
    assert config.backbone.num_classes == 0
    assert config.trained_size == (64, 64)
