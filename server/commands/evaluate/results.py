"""What an evaluation has found out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vimserve.server.commands.evaluate.benchmark import Figure, Rating
from vimserve.server.commands.evaluate.protocols import Expected


@dataclass(frozen=True)
class Outcome:
    """How one model has done at one size.

    Attributes:
        model: its name.
        resolution: what was asked for; None for the model's own.
        rating: how good its answers are.
        images: how many pictures they are for.
        image_ms: how long the device has run batches, over the number of pictures.
        peak_bytes: what the costliest picture alone takes of the device's memory above the weights,
            by the curve that is fitted to measured batches when the model is loaded.
        failed: by the names of pictures that have no answer, why.
        missing: the names of pictures that are listed, but not there.
        expected: the published figures, if this is how they were measured.
    """

    model: str
    resolution: str | None
    rating: Rating
    images: int
    image_ms: float
    peak_bytes: int
    failed: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()
    expected: Expected | None = None

    @property
    def main(self) -> Figure:
        """The figure by which models are compared.

        Raises:
            ValueError: if the pictures do not tell it.
        """
        name, figure = next(iter(self.rating.figures.items()), ("", None))
        if figure is None:
            raise ValueError(f"there is nothing to rate {self.model} by: {name or 'no figures'}")
        return figure

    @property
    def at(self) -> str:
        """Model and size in words."""
        return f"{self.model} at {self.size}"

    @property
    def size(self) -> str:
        """The size in words."""
        if self.resolution is None:
            return "its own size"
        return self.resolution + (" pixels" if self.resolution.isdecimal() else " size")


@dataclass(frozen=True)
class Evaluation:
    """All that was measured.

    Attributes:
        task: of the models.
        environment: the machine and the settings.
        outcomes: one for each model and size.
        protocol: the published protocol's name and what it says, or empty.
    """

    task: str
    environment: Mapping[str, str]
    outcomes: Sequence[Outcome]
    protocol: Mapping[str, str] = field(default_factory=dict)

    @property
    def measure(self) -> str:
        """The name of the figure by which models are compared."""
        return next(iter(self.outcomes[0].rating.figures))

    @property
    def best(self) -> Outcome:
        """The one with the highest figure, of equal ones the fastest."""
        return max(self.outcomes, key=lambda one: (one.main.value, -one.image_ms))

    @property
    def cheapest(self) -> Outcome:
        """The fastest one whose figure is within the interval of the best one's, or above."""
        least = self.best.main.value if self.best.main.low is None else self.best.main.low
        within = [one for one in self.outcomes if one.main.value >= least]
        return min(within, key=lambda one: one.image_ms)

    def advice(self) -> str:
        """Which setting pays, in a sentence."""
        best, cheapest = self.best, self.cheapest
        told = f"{best.at} is best, with {self.measure} {told_figure(best.main)}"
        if len(self.outcomes) == 1:
            return f"{best.at}: {self.measure} {told_figure(best.main)}."
        if cheapest is best:
            return f"{told}; no faster setting reaches that interval."
        faster = best.image_ms / cheapest.image_ms
        memory = (
            f" and {cheapest.peak_bytes / best.peak_bytes:.0%} of the memory"
            if best.peak_bytes
            else ""
        )
        return (
            f"{told}; the cheapest setting within that interval is {cheapest.at}, with "
            f"{cheapest.main.value:.1f} in {faster:.1f} times less time{memory}."
        )

    def save(self, folder: Path) -> None:
        """Write ``results.json``."""
        content: dict[str, Any] = {
            "task": self.task,
            "measure": self.measure,
            "advice": self.advice(),
            "protocol": self.protocol,
            "environment": self.environment,
            "outcomes": [asdict(one) for one in self.outcomes],
        }
        (folder / "results.json").write_text(json.dumps(content, indent=1) + "\n")


def told_figure(figure: Figure | None) -> str:
    """A figure with its interval."""
    if figure is None:
        return "–"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.1f}"
    return f"{figure.value:.1f} ({figure.low:.1f} to {figure.high:.1f})"
