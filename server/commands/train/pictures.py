"""The pictures of the command as the backbone sees them, and what is kept of them."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from hashlib import file_digest

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vimserve import __version__
from vimserve.model.batch import PackedBatch
from vimserve.model.heads.cache import FeatureCache
from vimserve.model.heads.data import Picture
from vimserve.model.heads.features import Seen, extract
from vimserve.model.heads.probe import Ints
from vimserve.model.packed import PackedModel
from vimserve.model.picture_files import some
from vimserve.model.sources import file_of
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Transform
from vimserve.server.config import Config
from vimserve.server.errors import ServerError
from vimserve.server.images.source import EncodedImage

IN_MEMORY = 256 << 20  # bytes of features that are read once


def load_pixels(picture: Picture, transform: Transform, max_pixels: int) -> Tensor:
    """A picture as the server decodes it, uint8 ``[3, H, W]``.

    Raises:
        ValueError: if it cannot be decoded.
        OSError: if it cannot be read.
    """
    try:
        return EncodedImage(picture.path.read_bytes()).open(max_pixels).pixels(transform)
    except ServerError as error:
        raise ValueError(error.detail) from error


def weights_key(spec: ModelSpec, config: Config, transform: Transform, kept: str) -> str:
    """Whatever features depend on besides the pictures.

    Args:
        spec: the backbone.
        config: device and precision.
        transform: of the pictures.
        kept: what is kept of the backbone's output.
    """
    with file_of(spec.source).open("rb") as opened:
        weights = file_digest(opened, "sha256").hexdigest()
    computed = [weights, repr(spec.config), repr(transform), config.device, config.model_dtype]
    return json.dumps([*computed, kept, __version__])


def look_at(
    title: str,
    pictures: Sequence[Picture],
    missing: Collection[str],
    load: Callable[[Picture], Tensor],
    model: Callable[[], PackedModel],
    run: Callable[[PackedModel, PackedBatch], Sequence[Tensor]],
    keep: Callable[[Seen[Picture]], None],
) -> dict[str, str]:
    """Have a backbone look at pictures, and keep what it makes of them.

    Args:
        title: of the progress bar.
        pictures: all of them.
        missing: the names of those that it has not seen yet; without any, it is not loaded.
        load: a picture to pixels, uint8 ``[3, H, W]``.
        model: loads the backbone.
        run: the backbone and a batch of N images to their N features.
        keep: is given each picture with its features.

    Returns:
        Why pictures cannot be decoded, by their names.
    """
    problems: dict[str, str] = {}
    names = {*missing}
    to_do = [one for one in pictures if one.name in names]
    if not to_do:
        return problems
    backbone = model()
    total, done = len(pictures), len(pictures) - len(to_do)
    with tqdm(total=total, initial=done, desc=title, unit="picture", disable=None) as bar:

        def refuse(picture: Picture, error: Exception) -> None:
            reason = error.strerror if isinstance(error, OSError) else None
            problems[picture.name] = reason or str(error)
            bar.update()

        for seen in extract(to_do, load, backbone, partial(run, backbone), refuse):
            keep(seen)
            bar.update()
    return problems


def check_problems(problems: dict[str, str], total: int, *, skip: bool) -> None:
    """Refuse to go on without pictures that cannot be read, unless that is wanted.

    Raises:
        ValueError: naming them and why.
    """
    if problems and not skip:
        raise ValueError(
            f"{len(problems)} of {total} pictures cannot be read: {_named(problems)}; "
            "--skip-unreadable goes on without them"
        )


def left_out(problems: Mapping[str, str]) -> list[str]:
    """A remark on pictures that cannot be read, if there are any."""
    if not problems:
        return []
    return [f"{len(problems)} pictures cannot be read, and are left out: {_named(problems)}"]


def _named(problems: Mapping[str, str]) -> str:
    return some([f"{name} ({reason})" for name, reason in problems.items()])


class CachedFeatures:
    """The features of pictures in a cache, as ``heads.probe.Features``.

    Up to ``IN_MEMORY`` bytes are read once; of more, those that are asked for.

    Args:
        cache: has them all.
        keys: of the pictures in it.
        columns: which part of the features.
    """

    def __init__(self, cache: FeatureCache, keys: Sequence[str], columns: slice) -> None:
        self._cache, self._keys, self._columns = cache, keys, columns
        width = len(range(*columns.indices(len(cache.get(keys[0])))))
        self._read = self._rows(range(len(keys))) if 4 * width * len(keys) <= IN_MEMORY else None

    def __len__(self) -> int:
        return len(self._keys)

    def take(self, rows: Ints) -> Tensor:
        """Of some pictures, float32 ``[rows, features]``."""
        return self._rows(rows) if self._read is None else self._read[rows]

    def _rows(self, rows: Iterable[int]) -> Tensor:
        whole = self._cache.take([self._keys[row] for row in rows])
        return torch.from_numpy(np.ascontiguousarray(whole[:, self._columns], np.float32))
