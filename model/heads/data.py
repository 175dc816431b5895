"""Pictures in a folder for each class: their classes, which are held out, and what is odd."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from unicodedata import category

from vimserve.model.picture_files import check_folder, pictures, some

IMBALANCED = 5  # how many times as many pictures as another class a class may have unnamed
NO_LETTERS = {"Cc", "Cs"}  # control characters, and bytes that are no UTF-8
FEW = 5  # pictures of a class, with which it goes by chance


@dataclass(frozen=True)
class Picture:
    """A picture with its class.

    Attributes:
        name: of its file within the data's folder.
        path: its file.
        label: number of its class.
    """

    name: str
    path: Path
    label: int = 0

    def key(self) -> str:
        """Changes with the name, the size and the time of change of the file.

        Raises:
            OSError: if it is not there.
        """
        stat = self.path.stat()
        return f"{self.name} {stat.st_size} {stat.st_mtime_ns}"


@dataclass(frozen=True)
class Labelled:
    """Pictures of some classes.

    Attributes:
        labels: the names of the classes.
        pictures: in the order of their names.
    """

    labels: tuple[str, ...]
    pictures: tuple[Picture, ...]

    def counts(self) -> Mapping[str, int]:
        """The pictures of each class."""
        of_class = Counter(one.label for one in self.pictures)
        return {label: of_class[index] for index, label in enumerate(self.labels)}

    def without(self, names: Sequence[str]) -> "Labelled":
        """The same without some pictures.

        Raises:
            ValueError: if too few are left.
        """
        out = {*names}
        left = tuple(one for one in self.pictures if one.name not in out)
        return _checked(Labelled(self.labels, left), "are left")


def read_folders(data: Path) -> Labelled:
    """The pictures of a folder with a folder for each class (torchvision's ``ImageFolder``).

    Raises:
        ValueError: if there are fewer than two classes, or one of them has fewer than two pictures.
        OSError: if it cannot be read.
    """
    check_folder(data, "--data")
    folders = sorted(one for one in data.iterdir() if one.is_dir() and one.name[0] != ".")
    if len(folders) < 2:
        found = f"only {folders[0].name!r}" if folders else "none"
        raise ValueError(
            f"--data {data} needs a folder of pictures for each of at least two classes, it has "
            f"{found}"
        )
    read = tuple(
        Picture(file.relative_to(data).as_posix(), file, label)
        for label, folder in enumerate(folders)
        for file in pictures(folder)
    )
    labels = tuple(folder.name for folder in folders)
    if garbled := [label for label in labels if {*map(category, label)} & NO_LETTERS]:
        raise ValueError(f"--data {data} has folders whose names cannot be labels: {garbled!r}")
    return _checked(Labelled(labels, read), f"are in {data}")


def _checked(data: Labelled, where: str) -> Labelled:
    counts = data.counts()
    if empty := [label for label, count in counts.items() if not count]:
        raise ValueError(f"no pictures of {len(empty)} classes {where}: {some(empty)}")
    if single := [label for label, count in counts.items() if count == 1]:
        raise ValueError(
            f"a class needs a picture to train on and one to be tested by, but single pictures of "
            f"{len(single)} classes {where}: {some(single)}"
        )
    return data


def split(
    pictures: Sequence[Picture], held_out: float, seed: int
) -> tuple[list[Picture], list[Picture]]:
    """Those to train on, and those that are held out: of each class that share, at least one.

    Which ones depends on their names and the seed, so that a further picture moves few of them.
    """

    def drawn(one: Picture) -> bytes:
        return sha256(os.fsencode(f"{seed} {one.name}")).digest()

    classes: dict[int, list[Picture]] = {}
    for one in pictures:
        classes.setdefault(one.label, []).append(one)
    held: set[str] = set()
    for of_class in classes.values():
        count = min(max(round(held_out * len(of_class)), 1), len(of_class) - 1)
        held |= {one.name for one in sorted(of_class, key=drawn)[:count]}
    return (
        [one for one in pictures if one.name not in held],
        [one for one in pictures if one.name in held],
    )


def remarks(data: Labelled) -> Iterator[str]:
    """What is odd about the numbers of pictures, in words."""
    counts = data.counts()
    most, least = (pick(counts, key=lambda one: counts[one]) for pick in (max, min))
    if counts[most] >= IMBALANCED * counts[least]:
        yield (
            f"classes are imbalanced: {most!r} has {counts[most]} pictures, {least!r} has "
            f"{counts[least]}; read the balanced accuracy, and the rows of the confusion matrix"
        )
    if rare := [label for label, count in counts.items() if count < FEW]:
        yield f"fewer than {FEW} pictures of {len(rare)} classes: {some(rare)}"
