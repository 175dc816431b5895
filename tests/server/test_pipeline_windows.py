"""Pictures of which the model sees a window at a time, in memory that does not grow with them."""

import asyncio
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.patience import PATIENCE_S
from tests.server.conftest import CLASSES
from tests.server.test_pipeline import ArrayImage, pipeline_of, pixels
from vimserve.model.served import Answers
from vimserve.server.engine.in_flight import PARTS_AT_ONCE
from vimserve.server.engine.progress import Progress
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import ModelFailure
from vimserve.server.tasks import TASKS

SEGMENT = TASKS["segment"]
WINDOW = 128
# One is computed, one is handed over, one is added, and a thread may still hold one that was.
MOST_HELD = 5


class Watched(Progress):
    """Knows how many windows were queued or run at most."""

    most = 0

    def queue(self, requests):
        super().queue(requests)
        self.most = max(self.most, len(self.requests))


class Scores:
    """A model's answers to windows: what their first pixel shows is the class of all.

    It waits until no more than ``MOST_HELD`` of its answers are there.
    """

    def __init__(self):
        self.held = set()
        self.windows = 0
        self.fails_at = None

    def __call__(self, batch, wanted):
        if wanted != [None]:  # at the start
            return Answers.of_scores(torch.zeros(len(wanted), CLASSES))
        ends = time.monotonic() + PATIENCE_S
        while len(self.held) > MOST_HELD:
            assert time.monotonic() < ends, f"{len(self.held)} answers are held"
            time.sleep(0.001)
        self.windows += 1
        if self.windows == self.fails_at:
            raise RuntimeError("a fault")
        rows, columns = batch.grids[0]
        scores = np.zeros((1, CLASSES, 4 * rows, 4 * columns), np.float32)
        scores[0, int(batch.patches[0, 0]) // 100] = 1
        self.held.add(self.windows)
        weakref.finalize(scores, self.held.discard, self.windows)
        return Answers([torch.from_numpy(scores)], torch.ones(1, dtype=torch.bool))


@pytest.fixture
def scores(tiny, monkeypatch):
    scores = Scores()
    monkeypatch.setattr(tiny, "answer", scores)
    return scores


async def segment(pipeline, image, progress=None):
    model = pipeline.engine.loaded("tiny")
    query = SEGMENT.ask({"mode": "slide", "window": WINDOW, "resolution": "native"})
    plan = SEGMENT.plan(model.runner.spec, query, pipeline.config.max_resolution)
    urgency = Urgency(time.monotonic(), PATIENCE_S, 5)
    return await pipeline.run(
        model, plan, [image], urgency, lambda _, result: result.classes, progress=progress
    )


def striped(height, width):
    """Columns of 0, then of 100, then of 200."""
    values = torch.arange(width) * 3 // width * 100
    return ArrayImage(values.to(torch.uint8).expand(3, height, width).contiguous())


SETTINGS = {"max_resolution": WINDOW, "max_batch_tokens": 65}


def test_answers_become_classes_as_they_come(spec, scores):
    async def answer():
        progress = Watched()
        async with pipeline_of(spec, **SETTINGS) as pipeline:
            scores.windows = 0
            completed = await segment(pipeline, striped(256, 2048), progress)
        return completed, progress

    completed, progress = asyncio.run(answer())
    (classes,) = completed.results
    assert classes.shape == (256, 2048)
    assert [set(classes[:, at].flat) for at in (100, 1000, 1900)] == [{0}, {1}, {2}]
    windows = len(completed.measured[0].views)
    assert windows == scores.windows == completed.batch.images == progress.done > 50
    assert not progress.requests
    assert progress.most <= PARTS_AT_ONCE < windows


def test_a_window_that_fails_ends_the_request(spec, scores):
    async def answer():
        async with pipeline_of(spec, **SETTINGS) as pipeline:
            scores.fails_at = scores.windows + 9
            progress = Progress()
            with pytest.raises(ModelFailure):
                await segment(pipeline, striped(256, 2048), progress)
            while progress.requests:  # the others leave the queue
                await asyncio.sleep(0.001)
            assert not pipeline.engine._backlog._load("tiny").images
            await segment(pipeline, ArrayImage(pixels(0, 128, 256)))

    asyncio.run(answer())


def test_room_is_reserved_for_all_windows_that_are_queued_at_once(spec, scores):
    """Without a joiner all of them are; with one, only those that are in flight."""

    async def reserved():
        async with pipeline_of(spec, **SETTINGS) as pipeline:
            model = pipeline.engine.loaded("tiny")
            query = SEGMENT.ask({"mode": "slide", "window": WINDOW, "resolution": "native"})
            joined = SEGMENT.plan(model.runner.spec, query, WINDOW)
            urgency = Urgency(time.monotonic(), PATIENCE_S, 5)
            for plan in (joined, replace(joined, joiner=None)):
                with pipeline.engine.room(model, urgency) as room:
                    measured = await pipeline._measure(model, plan, [striped(256, 2048)], room)
                    yield len(measured[0].views), room.load.images, room.later.images

    async def collected():
        return [counts async for counts in reserved()]

    (windows, first, later), alone = asyncio.run(collected())
    assert (first, later) == (PARTS_AT_ONCE, windows - PARTS_AT_ONCE)
    assert alone == (windows, windows, 0)
