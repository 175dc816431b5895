"""Features of pictures by a frozen backbone, in packed batches of pictures of any sizes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from vimserve.model import catalog
from vimserve.model.architecture import Readout, TokensConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.families.upernet.model import as_maps, of_images
from vimserve.model.packed import PackedModel
from vimserve.model.spec import ModelSpec

# A larger batch only takes longer, because the device is already full.
BATCH_TOKENS = {"cpu": 8192, "cuda": 65_536}
DECODERS = 4  # threads
AHEAD = 16  # pictures that are decoded while a batch runs

T = TypeVar("T")


@dataclass(frozen=True)
class Seen(Generic[T]):
    """A picture that was decoded.

    Attributes:
        item: what it was loaded from.
        pixels: as the backbone saw it, uint8 ``[3, H, W]``.
        features: float32, on the CPU.
    """

    item: T
    pixels: Tensor
    features: Tensor


def frozen(
    spec: ModelSpec, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> PackedModel:
    """A classifier's backbone, whose output is whatever a new classifier of it may read.

    That is ``[N, features]`` for N pictures: what the published classifier reads, and behind it the
    mean of the patches' tokens; only this mean where no token stands for all.

    Raises:
        ValueError: if it is no Vim and no DeiT that classifies.
        CheckpointError: if the weights cannot be had.
    """
    return load_backbone(spec, readable(spec), device, dtype)


def load_backbone(
    spec: ModelSpec, config: TokensConfig, device: str | torch.device, dtype: torch.dtype
) -> PackedModel:
    """A classifier without its head, as ``config`` has it.

    Raises:
        CheckpointError: if the weights cannot be had.
    """
    model = catalog.load(replace(spec, config=config), device, dtype, unused=("head.",))
    assert isinstance(model, PackedModel)
    return model


def columns(config: TokensConfig, readout: Readout) -> slice:
    """Where, in the features of a backbone with this configuration, a classifier reads."""
    if config.readout == readout:
        return slice(None)
    return slice(config.class_width) if readout == "class" else slice(config.class_width, None)


def readable(spec: ModelSpec) -> TokensConfig:
    """The configuration of what ``frozen`` returns.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(spec.config, TokensConfig):
        raise ValueError(
            f"--backbone {spec.name} is a {spec.family}: a head is trained on a Vim or a DeiT that "
            "classifies"
        )
    config = spec.config
    return replace(config, num_classes=0, readout=config.readouts[-1])  # type: ignore[type-var]


def block_maps(model: PackedModel, batch: PackedBatch, out_indices: Sequence[int]) -> list[Tensor]:
    """Features ``[blocks, D, rows, columns]`` of each image, after each of ``out_indices``."""
    features = model.of_patches(model.forward_features(batch, out_indices), batch)
    blocks = of_images(features, batch.grids, range(batch.num_images))
    return [
        torch.cat([as_maps(of_block[image][None], grid) for of_block in blocks])
        for image, grid in enumerate(batch.grids)
    ]


def extract(
    items: Iterable[T],
    load: Callable[[T], Tensor],
    model: PackedModel,
    run: Callable[[PackedBatch], Sequence[Tensor]],
    on_problem: Callable[[T, Exception], None],
) -> Iterator[Seen[T]]:
    """Yield the features of each item, in their order; no more than a batch of them is held.

    Args:
        items: what pictures are loaded from.
        load: an item to uint8 ``[3, H, W]``; it runs in several threads.
        model: the frozen backbone.
        run: a batch of N images to their N features.
        on_problem: is told of an item for which ``load`` raised ValueError or OSError; there are no
            features of it.
    """
    config, device = model.config, next(model.parameters()).device
    most = BATCH_TOKENS[device.type]
    batch: list[tuple[T, Tensor, PackedBatch]] = []
    tokens = 0

    def features() -> Iterator[Seen[T]]:
        packed = PackedBatch.cat([patches for *_, patches in batch]).to(device)
        for (item, pixels, _), of_image in zip(batch, run(packed), strict=True):
            yield Seen(item, pixels, of_image.float().cpu())

    for item, decoded in _decoded(items, load):
        try:
            pixels = decoded.result()
        except (ValueError, OSError) as error:
            on_problem(item, error)
            continue
        patches = PackedBatch.from_images([pixels], config.patch_size, config.stride)
        length = model.num_tokens(patches.grids[0])
        if batch and tokens + length > most:
            yield from features()
            batch, tokens = [], 0
        batch.append((item, pixels, patches))
        tokens += length
    if batch:
        yield from features()


def _decoded(items: Iterable[T], load: Callable[[T], Tensor]) -> Iterator[tuple[T, Future[Tensor]]]:
    """The items in their order, each with its picture, of which ``AHEAD`` are loaded ahead."""
    with ThreadPoolExecutor(DECODERS, "decode") as pool:
        waiting: deque[tuple[T, Future[Tensor]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(load, item)))
                if len(waiting) > AHEAD:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _, future in waiting:
                future.cancel()
