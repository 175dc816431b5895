"""The losses of Cascade R-CNN (arXiv 1712.00726) with the masks of Mask R-CNN (1703.06870)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vimserve.model.families.cascade import rpn
from vimserve.model.families.cascade.boxes import clip, decode
from vimserve.model.families.cascade.heads import WEIGHTS
from vimserve.model.training.boxes import encode
from vimserve.model.training.cascade import CascadeNetwork
from vimserve.model.training.proposals import (
    Objects,
    Sampled,
    match,
    match_anchors,
    propose,
    sample,
    some,
)
from vimserve.model.training.roi_align import roi_align

ANCHOR_SAMPLES, ANCHOR_SHARE = 64, 0.5
BOX_SAMPLES, BOX_SHARE = 48, 0.33
MOST_MASKS = 8  # of a picture, a step
STAGE_IOU = (0.5, 0.6, 0.7)
STAGE_WEIGHTS = (1.0, 0.5, 0.25)
MASK_SIDE = 28


def losses(
    network: CascadeNetwork,
    pyramid: Sequence[Tensor],
    levels: Sequence[tuple[Tensor, Tensor]],
    objects: Sequence[Objects],
    size: Tensor,
) -> dict[str, Tensor]:
    """Each loss by its name, weighted.

    Args:
        network: the detector, whose stages and masks are asked.
        pyramid: ``network``'s, of N images.
        levels: its anchors' logits and deltas.
        objects: of each image.
        size: ``[2]``, height and width of the images.
    """
    places = [
        rpn.anchors(torch.arange(logits.shape[1]), index, level.shape[3])
        for index, ((logits, _), level) in enumerate(zip(levels, pyramid, strict=True))
    ]
    named = anchor_losses(levels, torch.cat(places), objects)
    proposals = propose(levels, places, size)
    sampled = [
        _sampled(boxes, of_image) for boxes, of_image in zip(proposals, objects, strict=True)
    ]
    named["masks"] = mask_loss(network, pyramid, sampled, objects)
    for index in range(len(WEIGHTS)):
        boxes, images = _joined([one.boxes for one in sampled])
        logits, deltas = network.stage(index, pyramid, boxes, images)
        background = network.config.num_classes
        classes, targets = _box_targets(sampled, objects, index, background)
        positive = classes < background
        named[f"classes{index}"] = STAGE_WEIGHTS[index] * F.cross_entropy(logits, classes)
        apart = (deltas[positive] - targets[positive]).abs().sum() / len(boxes)
        named[f"boxes{index}"] = STAGE_WEIGHTS[index] * apart
        if index + 1 < len(WEIGHTS):
            moved = clip(decode(deltas.detach(), boxes, WEIGHTS[index]), size)
            sampled = [
                Sampled(of_image, match(of_image, known.boxes, STAGE_IOU[index + 1]))
                for of_image, known in zip(
                    moved.split([len(one.boxes) for one in sampled]), objects, strict=True
                )
            ]
    return named


def anchor_losses(
    levels: Sequence[tuple[Tensor, Tensor]], places: Tensor, objects: Sequence[Objects]
) -> dict[str, Tensor]:
    """Whether anchors ``[A, 4]`` know that they have an object, and where it is."""
    logits = torch.cat([level for level, _ in levels], 1)
    deltas = torch.cat([level for _, level in levels], 1)
    seen, wanted, moves, targets = [], [], [], []
    for image, of_image in enumerate(objects):
        matched = match_anchors(places, of_image.boxes)
        chosen = sample(matched, ANCHOR_SAMPLES, ANCHOR_SHARE)
        positive = chosen[matched[chosen] >= 0]
        seen.append(logits[image, chosen])
        wanted.append((matched[chosen] >= 0).float())
        moves.append(deltas[image, positive])
        targets.append(encode(places[positive], of_image.boxes[matched[positive]], rpn.WEIGHTS))
    scores = torch.cat(seen)
    apart = F.l1_loss(torch.cat(moves), torch.cat(targets), reduction="sum")
    return {
        "anchors": F.binary_cross_entropy_with_logits(scores, torch.cat(wanted)),
        "moves": apart / len(scores),
    }


def mask_loss(
    network: CascadeNetwork,
    pyramid: Sequence[Tensor],
    sampled: Sequence[Sampled],
    objects: Sequence[Objects],
) -> Tensor:
    """How far the masks of the true classes are off, in some of the boxes that have an object."""
    boxes, classes, targets = [], [], []
    for one, of_image in zip(sampled, objects, strict=True):
        positive = some((one.objects >= 0).nonzero().flatten(), MOST_MASKS)
        matched = one.objects[positive]
        boxes.append(one.boxes[positive])
        classes.append(of_image.classes[matched])
        targets.append(mask_targets(of_image.masks, boxes[-1], matched))
    places, images = _joined(boxes)
    logits = network.masks(pyramid, places, images)
    of_class = logits[torch.arange(len(logits)), torch.cat(classes)]
    return F.binary_cross_entropy_with_logits(of_class, torch.cat(targets))


def mask_targets(masks: Tensor, boxes: Tensor, objects: Tensor) -> Tensor:
    """What masks ``[n, H, W]`` are within boxes ``[R, 4]`` of the n objects: ``[R, 28, 28]``."""
    shares = roi_align([masks[:, None].float()], (1,), boxes, objects, MASK_SIDE)
    return (shares[:, 0] >= 0.5).float()


def _sampled(proposals: Tensor, objects: Objects) -> Sampled:
    """Some proposals, and the objects' own boxes, so that there are always positive ones."""
    boxes = torch.cat((objects.boxes, proposals))
    matched = match(boxes, objects.boxes, STAGE_IOU[0])
    chosen = sample(matched, BOX_SAMPLES, BOX_SHARE)
    return Sampled(boxes[chosen], matched[chosen])


def _joined(boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The boxes of all images, and the image of each."""
    counts = torch.tensor([len(of_image) for of_image in boxes])
    return torch.cat(list(boxes)), torch.arange(len(boxes)).repeat_interleave(counts)


def _box_targets(
    sampled: Sequence[Sampled], objects: Sequence[Objects], index: int, background: int
) -> tuple[Tensor, Tensor]:
    """The class ``[R]`` of each box, the background's behind all others, and its deltas."""
    classes, targets = [], []
    for one, of_image in zip(sampled, objects, strict=True):
        nearest = one.objects.clamp(min=0)
        is_object = one.objects >= 0
        classes.append(torch.where(is_object, of_image.classes[nearest], background))
        targets.append(encode(one.boxes, of_image.boxes[nearest], WEIGHTS[index]))
    return torch.cat(classes), torch.cat(targets)
