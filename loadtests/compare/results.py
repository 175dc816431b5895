"""What a comparison has measured, and on which machine."""

import json
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from vimserve import __version__
from vimserve.loadtests.common.checkout import commit
from vimserve.loadtests.compare.disturbance import Disturbance
from vimserve.loadtests.compare.intervals import Estimate, estimate


@dataclass(frozen=True)
class Case:
    """What all models do in turn.

    Attributes:
        size: side of the square images, in pixels.
        batch: images in a forward pass of the bare model; 0 over HTTP.
        clients: how many send at once over HTTP; 0 for the bare model.
        backbone: whether the pass of a bare detector ends with its backbone.
    """

    size: int
    batch: int = 1
    clients: int = 0
    backbone: bool = False

    @classmethod
    def http(cls, size: int, clients: int) -> "Case":
        """Over HTTP."""
        return cls(size, 0, clients)

    @property
    def images(self) -> int:
        """The least number of images in a turn."""
        return self.batch or self.clients

    @property
    def way(self) -> str:
        """How the models are asked, in a few words."""
        if self.batch:
            bare = "backbone" if self.backbone else "bare"
            return bare if self.batch == 1 else f"{bare}, {self.batch} images"
        return "1 client" if self.clients == 1 else f"{self.clients} clients"

    def at(self, size: int) -> "Case":
        """The same at another size."""
        return replace(self, size=size)

    def __str__(self) -> str:
        return f"{self.size} pixels, {self.way}"


@dataclass(frozen=True)
class Served:
    """What a model's turn over HTTP tells besides its speed.

    Attributes:
        latencies_ms: of the right answers.
        refused: how many requests were refused because there was too much to do.
        wrong: how many ended otherwise than with the right answer or such a refusal.
        stage_ms: mean time of a request in each of the server's stages.
        images_per_batch: on the average.
        busy: share of the time in which the device ran batches.
        peak_memory_bytes: what a batch took above the weights at its peak, on the average; of a
            CUDA graph, what the pass took while it was recorded.
    """

    latencies_ms: list[float]
    refused: int
    wrong: int
    stage_ms: dict[str, float]
    images_per_batch: float
    busy: float
    peak_memory_bytes: float


@dataclass(frozen=True)
class Turn:
    """A model's part of a round.

    Attributes:
        model: its name.
        image_ms: time for an image: of the bare model the median pass over the number of its
            images; over HTTP from the first request to the last answer, over the right answers.
        count: of passes, or of right answers.
        seconds: of all of them.
        served: None for the bare model.
    """

    model: str
    image_ms: float
    count: int
    seconds: float
    served: Served | None = None


@dataclass(frozen=True)
class Round:
    """One turn of each model, one after another, with nothing in between."""

    case: Case
    turns: list[Turn]
    seconds: float
    disturbance: Disturbance

    def turn(self, model: str) -> Turn:
        """That of a model."""
        return next(turn for turn in self.turns if turn.model == model)


@dataclass(frozen=True)
class FirstPass:
    """The first forward pass of a bare model in a process of its own.

    Attributes:
        model: its name.
        case: what it was the first pass of.
        tokens: length of one image's sequence.
        peak_bytes: how far the device's memory, on a CPU the resident set, rose above what it was
            with the model loaded.
        boxes: of an image that a detector's first box head took.
        masks: of an image that its mask head made.
    """

    model: str
    case: Case
    tokens: int
    peak_bytes: int
    boxes: int = 0
    masks: int = 0


@dataclass
class Results:
    """All that one comparison has measured; ``partial`` until it has come to its end.

    Attributes:
        environment: the machine and the versions.
        task: of the models.
        models: Vim first.
        cases: what was to be measured.
    """

    environment: dict[str, str | int]
    task: str
    models: list[str]
    cases: list[Case]
    partial: bool = True
    first_passes: list[FirstPass] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)

    @property
    def sizes(self) -> list[int]:
        """Of all cases, ascending."""
        return sorted({case.size for case in self.cases})

    @property
    def ways(self) -> list[Case]:
        """How the models are asked, each once, whatever the size."""
        return list(dict.fromkeys(case.at(0) for case in self.cases))

    def first_pass(self, model: str, case: Case) -> FirstPass | None:
        """The bare model's; None if it was not measured."""
        found = (one for one in self.first_passes if (one.model, one.case) == (model, case))
        return next(found, None)

    def rounds_of(self, case: Case) -> list[Round]:
        """In the order in which they were played."""
        return [one for one in self.rounds if one.case == case]

    def disturbed(self) -> list[bool]:
        """Whether each of the rounds is no measurement."""
        best_ms = min((one.disturbance.product_ms for one in self.rounds), default=0.0)
        return [one.disturbance.disturbed(best_ms) for one in self.rounds]

    def turns(self, case: Case, model: str) -> list[Turn]:
        """Those that count: the undisturbed ones, or all if there are no such."""
        quiet, disturbed = self._played(case)
        return [one.turn(model) for one in quiet or disturbed]

    def latencies_ms(self, case: Case, model: str) -> list[float]:
        """Of all answers over HTTP in those turns."""
        served = (turn.served for turn in self.turns(case, model))
        return [ms for one in served if one for ms in one.latencies_ms]

    def wrong(self, case: Case, model: str) -> int:
        """How many answers were wrong."""
        turns = (one.turn(model).served for one in self.rounds_of(case))
        return sum(served.wrong for served in turns if served)

    def image_ms(self, case: Case, model: str) -> Estimate | None:
        """Time for an image; None if it was not measured or answers were wrong."""
        if self.wrong(case, model):
            return None
        return self._estimate(case, lambda one: one.turn(model).image_ms)

    def p50_ms(self, case: Case, model: str) -> Estimate | None:
        """The median latency of each turn over HTTP, likewise."""
        if self.wrong(case, model):
            return None
        return self._estimate(case, lambda one: _median_latency_ms(one.turn(model)))

    def ratio(self, case: Case, model: str, other: str) -> Estimate | None:
        """How many times faster ``model`` is than ``other``, likewise: the ratio of each round."""
        if self.wrong(case, model) or self.wrong(case, other):
            return None
        return self._estimate(case, lambda one: one.turn(other).image_ms / one.turn(model).image_ms)

    def settled(self, case: Case) -> bool:
        """Whether more rounds would tell no more: all ratios are narrow, or answers are wrong."""
        if any(self.wrong(case, model) for model in self.models):
            return True
        first, *others = self.models
        ratios = [self.ratio(case, first, other) for other in others]
        return all(ratio is not None and ratio.narrow for ratio in ratios)

    def save(self, folder: Path) -> None:
        """Write ``results.json``."""
        (folder / "results.json").write_text(json.dumps(asdict(self), indent=1) + "\n")

    def _estimate(self, case: Case, figure: Callable[[Round], float]) -> Estimate | None:
        quiet, disturbed = self._played(case)
        return estimate(list(map(figure, quiet)), list(map(figure, disturbed)))

    def _played(self, case: Case) -> tuple[list[Round], list[Round]]:
        """The undisturbed rounds of a case, and the others."""
        quiet: list[Round] = []
        disturbed: list[Round] = []
        for one, bad in zip(self.rounds, self.disturbed(), strict=True):
            if one.case == case:
                (disturbed if bad else quiet).append(one)
        return quiet, disturbed


def _median_latency_ms(turn: Turn) -> float:
    if turn.served is None:
        raise ValueError(f"the bare {turn.model} has no latencies")
    return statistics.median(turn.served.latencies_ms)


def describe(device: str, threads: int) -> dict[str, str | int]:
    """The machine and the versions, as far as they bear on speed."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "device": torch.cuda.get_device_name(device) if device != "cpu" else _processor(),
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "dtype": "float32" if device == "cpu" else "bfloat16",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vimserve": __version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
