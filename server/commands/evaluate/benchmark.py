"""What the tests of all tasks have in common; each task has a module beside this one."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from vimserve.model.spec import ModelSpec
from vimserve.server.commands.evaluate.bootstrap import Floats
from vimserve.server.commands.evaluate.samples import Record, Sample


@dataclass(frozen=True)
class Figure:
    """A share in percent.

    Attributes:
        value: of all pictures.
        low: the lower end of its interval over the pictures; None if it has none.
        high: the upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Rating:
    """How good a model's answers are.

    Attributes:
        figures: by their names, the main one first; None for what the pictures do not tell.
        classes: of each class that occurs, its figure in percent.
        per_class: the name of that figure; empty if there is none.
        notes: what a reader has to know besides.
    """

    figures: Mapping[str, Figure | None]
    classes: Mapping[str, float] = field(default_factory=dict)
    per_class: str = ""
    notes: Sequence[str] = ()


class Benchmark(abc.ABC):
    """Pictures with known truths, and how answers to them are rated.

    Attributes:
        task: that it is for.
        samples: the pictures.
        missing: the names of the pictures that are listed, but not there.
    """

    task: ClassVar[str]
    samples: Sequence[Sample]
    missing: Sequence[str] = ()

    def defaults(self, spec: ModelSpec) -> Mapping[str, Any]:  # noqa: ARG002
        """Values of the task's query, if nobody wants others."""
        return {}

    @abc.abstractmethod
    def record(self, sample: Sample, result: Any) -> Record:
        """What has to be known of the task's result for a picture, to be written as JSON.

        Raises:
            ValueError: if the truth does not fit the picture or the model.
            OSError: if the truth cannot be read.
        """

    @abc.abstractmethod
    def rate(self, records: Sequence[Record]) -> Rating:
        """The figures of the pictures that these records are of, at least one."""


def figures(names: Sequence[str], values: Floats, low: Floats, high: Floats) -> dict[str, Figure]:
    """Shares from 0 to 1 as figures, without those that are nan; an end that is nan is None."""
    rows = np.stack([values, low, high], axis=1)
    return {
        name: Figure(percent(row[0]), *(None if np.isnan(end) else percent(end) for end in row[1:]))
        for name, row in zip(names, rows, strict=True)
        if not np.isnan(row[0])
    }


def percent(share: float) -> float:
    """A share from 0 to 1 in percent, as it is written."""
    return round(100 * float(share), 3)
