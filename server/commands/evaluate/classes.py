"""Finds a model's classes by what data sets call them."""

import json
from collections.abc import Sequence
from functools import cache

from vimserve.model.class_names import IMAGENET
from vimserve.model.text_files import read_text

SHOWN = 5


class Classes:
    """The classes of a model, by name, by number and, if they are ImageNet's, by WordNet id.

    Small and capital letters are alike, and so are blanks, hyphens and underscores.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels
        self._indices: dict[str, list[int]] = {}
        for index, label in enumerate(labels):
            self._indices.setdefault(_folded(label), []).append(index)
        self._wordnet = _wordnet_ids() if tuple(labels) == _imagenet_labels() else {}

    def find(self, name: str) -> int | None:
        """The index of the class of that name or WordNet id; None if there is none.

        Raises:
            ValueError: if several classes have the name.
        """
        if (index := self._wordnet.get(name)) is not None:
            return index
        found = self._indices.get(_folded(name), [])
        if len(found) > 1:
            numbers = ", ".join(map(str, found))
            raise ValueError(f"{name!r} is the name of several of the model's classes: {numbers}")
        return found[0] if found else None

    def index(self, name: str, *, numbered: bool = False) -> int:
        """The index of the class of that name.

        Args:
            name: its name or WordNet id.
            numbered: whether a number that is no name is the index itself.

        Raises:
            ValueError: if it is no class of the model.
        """
        index = self.find(name)
        if index is None and numbered and name.isascii() and name.isdigit():
            index = int(name)
            if index >= len(self.labels):
                raise ValueError(
                    f"class {index} is beyond the model's: it has {len(self.labels)}, from 0"
                )
        if index is None:
            more = ", …" if len(self.labels) > SHOWN else ""
            raise ValueError(
                f"{name!r} is no class of the model, which has {len(self.labels)}: "
                f"{', '.join(self.labels[:SHOWN])}{more}"
            )
        return index


def _folded(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


@cache
def _imagenet_labels() -> tuple[str, ...]:
    return tuple(json.loads(read_text(IMAGENET))["labels"])


@cache
def _wordnet_ids() -> dict[str, int]:
    return {name: index for index, name in enumerate(json.loads(read_text(IMAGENET))["synsets"])}
