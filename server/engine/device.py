"""The device that the models run on, and what it supports."""

import logging
from collections.abc import Callable, Sequence

import torch

from vimserve.kernels.dispatch import implementation
from vimserve.model.families.upernet.graphs import GraphedSegmenter
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.graphs import GraphedModel
from vimserve.model.packed import PackedModel
from vimserve.model.served import ServedModel

logger = logging.getLogger(__name__)


def usable_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        ValueError: if it does not exist.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used: {error}") from error
    return device


def has_kernels(device: torch.device) -> bool:
    """Whether our Triton kernels run on this GPU; logs a warning if not."""
    module = implementation("selective_scan", device.type).__module__
    if module.endswith(".naive"):
        major, minor = torch.cuda.get_device_capability(device)
        logger.warning(
            "%s (sm_%d%d) runs the plain PyTorch path: slowly, and without CUDA graphs",
            torch.cuda.get_device_name(device), major, minor,
        )  # fmt: skip
        return False
    return True


def backbone_of(model: ServedModel) -> PackedModel | None:
    """What runs over packed tokens and can be recorded: the model itself, or a part of it."""
    part = model.backbone if isinstance(model, UPerNetSegmenter) else model
    return part if isinstance(part, PackedModel) else None


def record_graphs(
    model: ServedModel, max_tokens: int, fits: Callable[[Sequence[int]], bool]
) -> GraphedModel | GraphedSegmenter | None:
    """Record CUDA graphs of the model for batches up to ``max_tokens``; None if it has none.

    ``fits`` says whether there is memory for a batch of sequences of these lengths.
    """
    backbone = backbone_of(model)
    if backbone is None:
        return None
    device = backbone.patch_embed.proj.weight.device
    if device.type != "cuda" or (backbone.graphs_need_kernels and not has_kernels(device)):
        return None
    try:
        buckets = [b for b in backbone.graph_buckets(max_tokens) if fits(b.pad(()))]
    except ValueError as error:
        logger.info("no CUDA graphs: %s", error)
        return None
    if not buckets:
        return None
    if isinstance(model, UPerNetSegmenter):
        return GraphedSegmenter(model, buckets)
    return GraphedModel(backbone, buckets)
