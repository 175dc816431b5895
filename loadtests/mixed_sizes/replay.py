"""Replays a trace against a real model in real time, in one thread and without HTTP."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vimserve.loadtests.mixed_sizes.policies import Job, Policy
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
    policy: Policy,
    gap_s: float,
) -> Replay:
    """Let the images arrive, ``gap_s`` apart on average, and run what ``policy`` chooses.

    An image that arrives while a batch runs is noticed when the batch ends, but its latency counts
    from when it was due. With a gap of 0 all images wait from the start.
    """
    start = time.perf_counter()
    jobs = [
        Job(
            index,
            (arrival.height, arrival.width),
            model.num_tokens(image.grids[0]),
            Urgency(start + arrival.at * gap_s, math.inf, priority=5),
        )
        for index, (arrival, image) in enumerate(zip(arrivals, images, strict=True))
    ]
    latencies_s = [0.0] * len(jobs)
    scores: list[Tensor] = [torch.empty(0)] * len(jobs)
    arrived = answered = batches = 0
    while answered < len(jobs):
        while arrived < len(jobs) and jobs[arrived].urgency.arrived <= time.perf_counter():
            policy.add(jobs[arrived])
            arrived += 1
        batch = policy.next()
        if not batch:
            time.sleep(max(0.0, jobs[arrived].urgency.arrived - time.perf_counter()))
            continue
        began = time.perf_counter()
        rows = model(PackedBatch.cat([images[job.index] for job in batch]))
        now = time.perf_counter()
        policy.ran(batch, now - began)
        for job, row in zip(batch, rows, strict=True):
            latencies_s[job.index] = now - job.urgency.arrived
            scores[job.index] = row
        answered += len(batch)
        batches += 1
    return Replay(now - start, latencies_s, batches, torch.stack(scores))
