"""Pictures with masks as a backbone sees them, in the variants that a head is trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from vimserve.model.architecture import ModelConfig
from vimserve.model.batch import PackedBatch, patch_grid
from vimserve.model.heads.data import Picture
from vimserve.model.heads.features import Seen, block_maps
from vimserve.model.heads.pixels.backbone import Frozen
from vimserve.model.heads.pixels.maps import LABELS_A_SIDE, Entry, PixelCaches
from vimserve.model.mask_files import check_size, read_mask
from vimserve.model.packed import PackedModel
from vimserve.model.transform import Transform
from vimserve.server.commands.evaluate.samples import Sample
from vimserve.server.commands.train.pictures import load_pixels, look_at
from vimserve.server.commands.train.pixel_flags import Pixels
from vimserve.server.commands.train.sample_facts import Size


@dataclass(frozen=True, kw_only=True)
class View(Picture):
    """A picture in one variant.

    Attributes:
        sample: the picture and its mask.
        size: (height, width) of the picture in pixels, upright.
        transform: how it is resized.
        flipped: whether it is mirrored.
        entry: under which it is kept.
    """

    sample: Sample
    size: Size
    transform: Transform
    flipped: bool
    entry: Entry


def views_of(
    sample: Sample, size: Size, transform: Transform, config: ModelConfig, pixels: Pixels
) -> list[View]:
    """The variants of a picture, as it is first.

    Raises:
        OSError: if one of its files has gone.
    """
    key, views = sample.key(), []
    for scale in (1.0, *pixels.scales):
        side = transform.resolution
        resized = replace(transform, resolution=side and max(round(side * scale), 1))
        height, width = resized.output_size(*size)
        grid = patch_grid((3, height, width), config.patch_size, config.stride)
        for flipped in (False, True) if pixels.flips else (False,):
            variant = f"{' flipped' if flipped else ''}{f' at {scale:g}' if scale != 1 else ''}"
            views.append(
                View(
                    name=sample.name + variant,
                    path=sample.path,
                    sample=sample,
                    size=size,
                    transform=resized,
                    flipped=flipped,
                    entry=Entry(f"{key}{variant}", grid),
                )
            )
    return views


def truth_of(view: View, num_classes: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The classes of a view's pixels, uint8 ``[16 * rows, 16 * columns]``.

    Raises:
        ValueError: for a mask that cannot be used.
        OSError: if it cannot be read.
    """
    classes = checked_mask(view, num_classes)
    if view.flipped:
        classes = np.ascontiguousarray(classes[:, ::-1])
    rows, cols = view.entry.grid
    size = cols * LABELS_A_SIDE, rows * LABELS_A_SIDE
    return np.asarray(Image.fromarray(classes).resize(size, Image.Resampling.NEAREST))


def checked_mask(view: View, num_classes: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The mask of a view's picture, uint8 ``[H, W]``; raises as ``truth_of``."""
    (file,) = view.sample.files
    mask = read_mask(file, num_classes, reduce_zero_label=bool(view.sample.truth))
    check_size(file, mask, view.size)
    return mask.astype(np.uint8)


def look(
    views: Sequence[View],
    caches: PixelCaches,
    frozen: Callable[[], Frozen],
    num_classes: int,
    blocks: Sequence[int],
    max_pixels: int,
) -> dict[str, str]:
    """Have a backbone look at those views that are not kept yet; their masks are checked first.

    Returns:
        Why pictures cannot be decoded, by the names of their views.

    Raises:
        ValueError: for a mask that cannot be used.
        OSError: for a mask that cannot be read, or a full disk.
    """
    missing = [view for view in views if caches.missing(view.entry)]
    firsts = {view.sample.name: view for view in reversed(missing)}
    for view in tqdm(firsts.values(), desc="masks", unit="mask", disable=None, leave=False):
        checked_mask(view, num_classes)
    of_views = {view.name: view for view in views}

    def load(picture: Picture) -> Tensor:
        view = of_views[picture.name]
        pixels = load_pixels(view, view.transform, max_pixels)
        return pixels.flip(2) if view.flipped else pixels

    def keep(seen: Seen[Picture]) -> None:
        view = of_views[seen.item.name]
        caches.put(view.entry, seen.features, truth_of(view, num_classes))

    def run(model: PackedModel, batch: PackedBatch) -> Sequence[Tensor]:
        return block_maps(model, batch, blocks)

    names = [view.name for view in missing]
    return look_at("features", views, names, load, lambda: frozen().model, run, keep)
