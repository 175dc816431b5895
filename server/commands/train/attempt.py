"""The pictures of a classifier, and the probes that were tried on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vimserve.model.architecture import Readout
from vimserve.model.heads.data import Picture
from vimserve.model.heads.probe import Choice, Ints, Probe
from vimserve.server.commands.evaluate.benchmark import Rating
from vimserve.server.commands.evaluate.results import told_figure
from vimserve.server.commands.evaluate.samples import Record
from vimserve.server.commands.train.cost import Cost
from vimserve.server.commands.train.pictures import CachedFeatures
from vimserve.server.commands.train.sight import Sight


@dataclass(frozen=True)
class Data:
    """Pictures, of which some are held out.

    Attributes:
        labels: the names of the classes.
        pictures: all that can be read.
        train: rows of those to train on.
        held: rows of those that are held out.
        remarks: what is odd about them, in words.
        twins: pictures that are trained on, each with a held-out one that is nearly the same.
    """

    labels: tuple[str, ...]
    pictures: Sequence[Picture]
    train: Ints
    held: Ints
    remarks: Sequence[str]
    twins: Sequence[tuple[str, str]]

    @cached_property
    def classes(self) -> Tensor:
        """The class of each picture, int64."""
        return torch.tensor([one.label for one in self.pictures])


@dataclass(frozen=True)
class Attempt:
    """A probe.

    Attributes:
        sight: the features at its resolution.
        readout: what of them it reads.
        features: which that are, of all pictures.
        choice: its penalty.
        probe: trained on all pictures to train on.
        records: its answers for the pictures that are held out.
        rating: of these answers.
        cost: of a picture; None if nothing was measured.
    """

    sight: Sight
    readout: Readout
    features: CachedFeatures
    choice: Choice
    probe: Probe
    records: Sequence[Record]
    rating: Rating
    cost: Cost | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """The higher, the better it is in cross-validation."""
        return self.choice.accuracy, -self.choice.loss

    @property
    def top_1(self) -> float:
        """Accuracy on the pictures that are held out, in percent."""
        figure = self.rating.figures["top-1"]
        return figure.value if figure else float("nan")

    @property
    def balanced(self) -> float:
        """The mean of the accuracies of all classes, in percent."""
        return sum(self.rating.classes.values()) / len(self.rating.classes)

    def errors(self) -> list[Record]:
        """The wrong answers, the surest first."""
        wrong = [one for one in self.records if one["rank"]]
        return sorted(wrong, key=lambda one: one["true"] - one["sure"])

    def told(self) -> str:
        """What it is and how good, in a sentence."""
        return (
            f"A probe that reads {_READS[self.readout]} at {self.sight.size} pixels is right about "
            f"{told_figure(self.rating.figures['top-1'])} % of {len(self.records)} pictures that "
            "were held out."
        )


_READS: dict[Readout, str] = {
    "class": "the class token",
    "mean": "the mean of the patches",
    "both": "the class token and the mean of the patches",
}
