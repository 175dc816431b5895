"""What is known of pictures and masks before a backbone looks at them, kept for the next run."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from vimserve.model.heads import duplicates
from vimserve.model.heads.cache import FeatureCache
from vimserve.model.mask_files import IGNORED, read_mask
from vimserve.model.transform import Transform
from vimserve.server.commands.evaluate.samples import Sample
from vimserve.server.commands.train.request import Request
from vimserve.server.errors import ServerError
from vimserve.server.images.source import EncodedImage

Size = tuple[int, int]

THUMBNAIL = Transform(resolution=64, fit="contain")  # of which thumbnails are made


def sizes_of(
    samples: Sequence[Sample], request: Request, max_pixels: int
) -> tuple[dict[str, Size], dict[str, str]]:
    """The sizes of pictures by their names, and why others cannot be read.

    Raises:
        OSError: if the cache cannot be written.
    """
    problems = {}

    def size(sample: Sample) -> Size | None:
        try:
            return EncodedImage(sample.path.read_bytes()).open(max_pixels).size
        except ServerError as error:
            problems[sample.name] = error.detail
        except OSError as error:
            problems[sample.name] = error.strerror or str(error)
        return None

    known = _remembered("sizes", samples, request, (2,), size)
    return {name: (int(one[0]), int(one[1])) for name, one in known.items()}, problems


def most_class(samples: Sequence[Sample], request: Request) -> int:
    """The highest class of all masks; -1 if there is none.

    Raises:
        ValueError: for a mask that cannot be used.
        OSError: if one cannot be read, or the cache cannot be written.
    """

    def highest(sample: Sample) -> tuple[int]:
        (file,) = sample.files
        mask = read_mask(file, IGNORED, reduce_zero_label=request.pixels.reduce_zero_label)
        return (int(mask[mask != IGNORED].max(initial=-1)),)

    of_masks = _remembered("classes", samples, request, (1,), highest)
    return max((int(one[0]) for one in of_masks.values()), default=-1)


def near_duplicates(
    train: Sequence[Sample], held_out: Sequence[Sample], request: Request, max_pixels: int
) -> list[tuple[str, str]]:
    """Pictures that are trained on, each with a held-out one that is nearly the same.

    Raises:
        OSError: if the cache cannot be written.
    """

    def thumbnail(sample: Sample) -> duplicates.Floats | None:
        try:
            opened = EncodedImage(sample.path.read_bytes()).open(max_pixels)
            return duplicates.thumbnail(opened.pixels(THUMBNAIL))
        except (ServerError, OSError):
            return None  # it is named when its features are computed

    shape = duplicates.SHAPE
    known = _remembered("thumbnails", [*train, *held_out], request, shape, thumbnail)
    first, second = (
        {one.name: known[one.name].astype(np.float32) for one in those if one.name in known}
        for those in (train, held_out)
    )
    return [*duplicates.near_duplicates(first, second)]


def _remembered(
    what: str,
    samples: Sequence[Sample],
    request: Request,
    shape: tuple[int, ...],
    find: Callable[[Sample], Any],
) -> dict[str, "np.ndarray[Any, np.dtype[np.int32]]"]:
    """Whole numbers of each sample, by name; files that have not changed are not read again.

    Those for which ``find`` returns None are left out.
    """
    key = f"{what} {request.paths['images'].resolve()}"
    keys = {sample.key(): sample for sample in samples}
    room = request.cache_bytes
    with FeatureCache(request.cache, key, shape, room, dtype=np.int32) as cache:
        absent = {*cache.missing([*keys])}
        found = {}
        for of_sample, sample in tqdm(keys.items(), desc=what, disable=None, leave=False):
            if of_sample in absent and (values := find(sample)) is not None:
                cache.put(of_sample, np.array(values))
                absent.remove(of_sample)
            if of_sample not in absent:
                found[sample.name] = cache.get(of_sample)
    return found
