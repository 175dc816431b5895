"""Replays a trace against a real model by several policies in turns, in one thread."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vimserve.loadtests.mixed_sizes.policies import Clock, Job, Limits, Policy
from vimserve.loadtests.mixed_sizes.trace import Arrival
from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import Classifier
from vimserve.server.engine.urgency import Urgency


@dataclass(frozen=True)
class Replay:
    """How one policy dealt with a trace.

    Attributes:
        makespan_s: seconds from the first arrival to the last answer.
        latencies_s: seconds from each image's arrival to its answer, in the order of the trace.
        batches: how many there were.
        scores: ``[N, classes]``, in the order of the trace.
    """

    makespan_s: float
    latencies_s: list[float]
    batches: int
    scores: Tensor


class Station:
    """A policy and the time that it has had of the model, which may serve others in between.

    Its clock advances by what its passes take, and from the end of one to the next arrival if
    nothing waits; it stands still while others run.

    Args:
        make: makes the policy.
        limits: of its batches and of its queue.
    """

    def __init__(self, make: Callable[[Limits, Clock], Policy], limits: Limits) -> None:
        self._now = 0.0
        self._policy = make(limits, lambda: self._now)

    def begin(self, arrivals: Sequence[Arrival], lengths: Sequence[int], gap_s: float) -> None:
        """Begin with a trace of images of so many tokens, ``gap_s`` apart on average."""
        self._start = self._now
        self._jobs = [
            Job(
                index,
                (arrival.height, arrival.width),
                tokens,
                Urgency(self._start + arrival.at * gap_s, math.inf, priority=5),
            )
            for index, (arrival, tokens) in enumerate(zip(arrivals, lengths, strict=True))
        ]
        self._arrived = self._batches = 0
        self._answers: dict[int, tuple[float, Tensor]] = {}

    @property
    def passed_s(self) -> float:
        """Seconds of its own since it began."""
        return self._now - self._start

    @property
    def ended(self) -> bool:
        """Whether all images are answered."""
        return len(self._answers) == len(self._jobs)

    def run(self, model: Classifier, images: Sequence[PackedBatch]) -> None:
        """Run the next batch.

        An image that arrives while a batch runs is noticed when the batch ends, but its latency
        counts from when it was due.
        """
        self._admit()
        batch = self._policy.next()
        if not batch:
            self._now = self._jobs[self._arrived].urgency.arrived
            self._admit()
            batch = self._policy.next()
        began = time.perf_counter()
        rows = model(PackedBatch.cat([images[job.index] for job in batch]))
        seconds = time.perf_counter() - began
        self._now += seconds
        self._policy.ran(batch, seconds)
        self._batches += 1
        for job, row in zip(batch, rows, strict=True):
            self._answers[job.index] = self._now - job.urgency.arrived, row

    def end(self) -> Replay:
        """What it did since it began."""
        latencies_s, scores = zip(*(self._answers[job.index] for job in self._jobs), strict=True)
        return Replay(self.passed_s, [*latencies_s], self._batches, torch.stack(scores))

    def _admit(self) -> None:
        waiting = self._jobs[self._arrived :]
        for job in waiting:
            if job.urgency.arrived > self._now:
                break
            self._policy.add(job)
            self._arrived += 1


def cut(model: Classifier, arrivals: Sequence[Arrival], seed: int = 0) -> list[PackedBatch]:
    """Make a random image of each size, and cut it into patches as the server does."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    images = []
    for arrival in arrivals:
        shape = (3, arrival.height, arrival.width)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        images.append(PackedBatch.from_images([pixels], config.patch_size, config.stride))
    return images


def warm_up(model: Classifier, images: Sequence[PackedBatch]) -> None:
    """Compile everything and run every size once, so that the first policy is not the slowest."""
    model.warm_up()
    for image in {image.grids: image for image in images}.values():
        model(image)


def replay(
    model: Classifier,
    arrivals: Sequence[Arrival],
    images: Sequence[PackedBatch],
    stations: Iterable[Station],
    gap_s: float,
) -> list[Replay]:
    """Let the images arrive at each station, ``gap_s`` apart on average; its policy chooses.

    The stations take turns with the model batch by batch, always the one that is furthest behind.
    So whatever the machine does meanwhile meets all of them alike. With a gap of 0 all images wait
    from the start.

    Returns:
        What each station did, in its own time.
    """
    stations = [*stations]
    lengths = [model.num_tokens(image.grids[0]) for image in images]
    for station in stations:
        station.begin(arrivals, lengths, gap_s)
    while left := [station for station in stations if not station.ended]:
        min(left, key=lambda station: station.passed_s).run(model, images)
    return [station.end() for station in stations]
