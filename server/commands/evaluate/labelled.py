"""Classification: pictures in a folder for each class, or in a list with their classes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vimserve.model.picture_files import check_folder, pictures
from vimserve.model.spec import ModelSpec
from vimserve.model.text_files import read_text
from vimserve.server.commands.evaluate.benchmark import Benchmark, Rating, figures, percent
from vimserve.server.commands.evaluate.bootstrap import Floats, Ints, intervals
from vimserve.server.commands.evaluate.classes import Classes
from vimserve.server.commands.evaluate.samples import Record, Sample, without_missing
from vimserve.server.tasks.classify import ClassScores

TOP = 5
RESAMPLES = 1000


class Labelled(Benchmark):
    """Pictures of one class each.

    Args:
        spec: the model that is tested.
        data: a folder with a folder for each class (torchvision's ``ImageFolder``), or a text file
            with a picture and its class in each line, as ImageNet's list of validation images.
        images: where the pictures of a list are; by default where the list is.
        skip_missing: whether to go on without pictures that are listed, but not there.

    Raises:
        ValueError: for data that cannot be used; the message says why.
        OSError: for data that cannot be read.
    """

    task = "classify"

    def __init__(
        self, spec: ModelSpec, data: Path, images: Path | None = None, *, skip_missing: bool = False
    ) -> None:
        self._labels = spec.labels
        classes = Classes(spec.labels)
        if data.is_file():
            folder = data.parent if images is None else images
            check_folder(folder, "--images")
            listed = list(_lines(data, folder, classes))
            self.missing = [one.name for one in listed if not one.path.is_file()]
            found = [one for one in listed if one.path.is_file()]
            where = f"pictures that {data} lists in {folder}"
            self.samples = without_missing(found, self.missing, where, skip=skip_missing)
            return
        check_folder(data, "--data")
        if images is not None:
            raise ValueError(f"--images is for a list of pictures, but --data {data} is a folder")
        self.samples = list(_of_folders(data, classes))
        if not self.samples:
            raise ValueError(f"--data {data} has no pictures in a folder for each class")

    def record(self, sample: Sample, result: ClassScores) -> Record:
        """The likeliest class, and how many are likelier than the right one."""
        logits, truth = result.logits, sample.truth
        before = (logits > logits[truth]).sum() + (logits[:truth] == logits[truth]).sum()
        return {"class": truth, "found": int(logits.argmax()), "rank": int(before)}

    def rate(self, records: Sequence[Record]) -> Rating:
        """Top-1 and top-5, and top-1 of each class."""
        ranks = np.array([record["rank"] for record in records])
        truths = np.array([record["class"] for record in records])
        right = np.stack([ranks < 1, ranks < TOP], axis=1).astype(np.float64)
        names = ["top-1", "top-5"]
        if len(self._labels) <= TOP:  # that would be all
            right, names = right[:, :1], names[:1]

        def share(drawn: Ints) -> Floats:
            return drawn @ right / drawn.sum()

        low, high = intervals(len(records), share, RESAMPLES)
        of_class = {
            self._labels[index]: percent((ranks[truths == index] < 1).mean())
            for index in np.unique(truths).tolist()
        }
        return Rating(figures(names, right.mean(0), low, high), of_class, "top-1")


def _lines(file: Path, folder: Path, classes: Classes) -> Iterator[Sample]:
    """The pictures of a list: a name, then a blank, then a class by name, WordNet id or number."""
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().replace("\t", " ", 1).partition(" ")
        if not label:
            raise ValueError(f"{file}, line {number}: {line.strip()!r} has no class")
        yield Sample(name, folder / name, _index(classes, label.strip(), f"{file}, line {number}"))


def _of_folders(data: Path, classes: Classes) -> Iterator[Sample]:
    folders = (one for one in sorted(data.iterdir()) if one.is_dir())
    for folder in folders:
        if folder.name.startswith("."):
            continue
        index = _index(classes, folder.name, f"folder {folder}")
        for file in pictures(folder):
            yield Sample(file.relative_to(data).as_posix(), file, index)


def _index(classes: Classes, name: str, where: str) -> int:
    try:
        return classes.index(name, numbered=not where.startswith("folder"))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
