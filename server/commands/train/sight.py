"""What a backbone makes of pictures at one resolution, and what their thumbnails show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Self

from torch import Tensor

from vimserve.model.architecture import Readout
from vimserve.model.batch import PackedBatch
from vimserve.model.heads import duplicates
from vimserve.model.heads.cache import FeatureCache
from vimserve.model.heads.data import Picture
from vimserve.model.heads.features import Seen, columns, readable
from vimserve.model.packed import PackedModel
from vimserve.model.spec import ModelSpec
from vimserve.server.commands.train.pictures import (
    CachedFeatures,
    load_pixels,
    look_at,
    weights_key,
)
from vimserve.server.commands.train.request import Request
from vimserve.server.config import Config


class Sight:
    """The features of pictures for a classifier, in a cache, while a ``with`` block runs.

    Args:
        config: device, precision and limits.
        request: where features are kept.
        spec: the backbone.
        resolution: in pixels; None is the backbone's own.

    Attributes:
        transform: of the pictures.

    Raises:
        ValueError: if the backbone is no Vim and no DeiT, or the cache is in use.
        OSError: if the cache cannot be written.
    """

    def __init__(
        self, config: Config, request: Request, spec: ModelSpec, resolution: int | None
    ) -> None:
        self._read = readable(spec)
        self.transform = replace(spec.transform, resolution=resolution or spec.transform.resolution)
        self._max_pixels = config.max_pixels
        key = weights_key(spec, config, self.transform, "classifier")
        room = (request.cache, request.cache_bytes)
        self._features = FeatureCache(room[0], key, (self._read.features,), room[1])
        self._thumbnails = FeatureCache(
            room[0], f"thumbnails {self.transform!r}", duplicates.SHAPE, room[1]
        )
        self._keys: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._features.close()
        self._thumbnails.close()

    @property
    def size(self) -> str:
        """The resolution in words."""
        return str(self.transform.resolution or "native")

    @property
    def readouts(self) -> tuple[Readout, ...]:
        """What a classifier may read."""
        return self._read.readouts

    def look(
        self, pictures: Sequence[Picture], model: Callable[[], PackedModel]
    ) -> Mapping[str, str]:
        """Have the backbone look at those pictures that it has not seen yet.

        Returns:
            Why pictures cannot be decoded, by their names.

        Raises:
            ValueError: if the cache has no room.
            OSError: if a picture has gone, or the cache cannot be written.
        """
        self._keys = {one.name: one.key() for one in pictures}
        absent = {
            key
            for cache in (self._features, self._thumbnails)
            for key in cache.missing([*self._keys.values()])
        }
        return look_at(
            f"features at {self.size}",
            pictures,
            [name for name, key in self._keys.items() if key in absent],
            self.load,
            model,
            _run,
            self._keep,
        )

    def load(self, picture: Picture) -> Tensor:
        """A picture as the backbone sees it; as ``load_pixels``."""
        return load_pixels(picture, self.transform, self._max_pixels)

    def features(self, pictures: Sequence[Picture], readout: Readout) -> CachedFeatures:
        """What a classifier reads of pictures, of which the backbone has seen all."""
        keys = [self._keys[one.name] for one in pictures]
        return CachedFeatures(self._features, keys, columns(self._read, readout))

    def near_duplicates(
        self, train: Sequence[Picture], held: Sequence[Picture]
    ) -> list[tuple[str, str]]:
        """Pictures that are trained on, each with a held-out one that is nearly the same."""
        first, second = (
            {one.name: self._thumbnails.get(self._keys[one.name]) for one in those}
            for those in (train, held)
        )
        return [*duplicates.near_duplicates(first, second)]

    def _keep(self, seen: Seen[Picture]) -> None:
        key = self._keys[seen.item.name]
        self._thumbnails.put(key, duplicates.thumbnail(seen.pixels))
        self._features.put(key, seen.features.numpy())


def _run(model: PackedModel, batch: PackedBatch) -> Sequence[Tensor]:
    return [*model(batch)]
