"""The pipeline on images that are no files: it knows neither their format nor the answer's."""

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from operator import attrgetter

import PIL.Image
import pytest
import torch

from tests.patience import PATIENCE_S
from vimserve.server.config import ServerConfig
from vimserve.server.engine.cost import Load
from vimserve.server.engine.engine import Engine
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import CorruptImage, ImageTooLarge, ModelUnavailable, QueueFull
from vimserve.server.images.cost import Cost
from vimserve.server.images.source import EncodedImage
from vimserve.server.pipeline import Pipeline
from vimserve.server.tasks import TASKS
from vimserve.server.telemetry.metrics import Metrics

CLASSIFY = TASKS["classify"]


@dataclass(frozen=True)
class ArrayImage:
    """A raw array ``[3, H, W]``, as other protocols send them; it is never resized."""

    array: torch.Tensor
    name: str | None = None

    @property
    def size(self):
        return tuple(self.array.shape[1:])

    def open(self, max_pixels):
        if self.array[0].numel() > max_pixels:
            raise ImageTooLarge("too many pixels", limit=max_pixels, value=self.array[0].numel())
        return self

    def pixels(self, transform):
        assert transform.output_size(*self.size) == self.size
        return self.array

    def pixels_cost(self, transform):
        return Cost(self.array.nbytes, quick=True)

    def picture_cost(self):
        return self.pixels_cost(None)

    def picture(self):
        return PIL.Image.fromarray(self.array.permute(1, 2, 0).numpy())


@dataclass(frozen=True)
class SlowImage(ArrayImage):
    """An image whose decoding takes until ``gate`` opens."""

    gate: threading.Event = field(default_factory=threading.Event)

    def pixels(self, transform):
        assert self.gate.wait(PATIENCE_S)
        return self.array

    def pixels_cost(self, transform):
        return Cost(self.array.nbytes, quick=False)


class Undecodable(ArrayImage):
    def pixels(self, transform):
        raise CorruptImage("no pixels")


@asynccontextmanager
async def pipeline_of(spec, **settings):
    config, metrics = ServerConfig(**settings), Metrics()
    engine = Engine([spec], config, metrics)
    pipeline = Pipeline(config, engine, metrics)
    engine.start()
    await engine.ready()
    yield pipeline
    await engine.stop(PATIENCE_S)
    pipeline.close()


def run(pipeline, images, render=lambda measured, result: result, decoding=None, **query):
    model = pipeline.engine.loaded("tiny")
    spec = model.runner.spec
    asked = CLASSIFY.ask({"resolution": "native", "fit": "contain"} | query)
    plan = CLASSIFY.plan(spec, asked, pipeline.config.max_resolution)
    urgency = Urgency(time.monotonic(), PATIENCE_S, 5)
    return pipeline.run(model, plan, images, urgency, render, decoding=decoding)


def pixels(seed, height=32, width=48):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, height, width), dtype=torch.uint8, generator=generator)


def test_arrays_are_answered_as_the_files_with_these_pixels(tiny, spec, encode):
    arrays = [ArrayImage(pixels(seed, 32, 16 * (1 + seed))) for seed in range(3)]
    files = [EncodedImage(encode(image.picture())) for image in arrays]

    async def both():
        async with pipeline_of(spec) as pipeline:
            return (await run(pipeline, arrays)).results, (await run(pipeline, files)).results

    for from_array, from_file in zip(*asyncio.run(both()), strict=True):
        assert from_array.logits.tolist() == from_file.logits.tolist()


def test_floats_go_to_the_model_as_they_are(tiny, spec):
    normalised = torch.randn(3, 32, 32)

    async def answer():
        async with pipeline_of(spec) as pipeline:
            await run(pipeline, [ArrayImage(normalised)])

    asyncio.run(answer())
    assert tiny.batches[-1].patches.dtype == torch.float32
    assert tiny.batches[-1].patches[0].tolist() == normalised[:, :16, :16].flatten().tolist()


def test_results_are_rendered_in_order_in_another_thread(tiny, spec):
    sizes = [(16, 16), (32, 80), (64, 16)]
    threads = set()

    def render(measured, result):
        threads.add(threading.current_thread().name.partition("_")[0])
        return measured.name, measured.size, len(result.logits)

    async def answer():
        async with pipeline_of(spec) as pipeline:
            images = [ArrayImage(pixels(i, *size), f"n{i}") for i, size in enumerate(sizes)]
            completed = await run(pipeline, images, render)
        assert completed.results == [(f"n{i}", size, 7) for i, size in enumerate(sizes)]
        assert completed.batch.images >= 1
        assert completed.batch.tokens >= 17
        stages = completed.stages
        parts = (stages.decode_s, stages.queue_s, stages.inference_s, stages.postprocess_s)
        assert min(parts) >= 0
        assert sum(parts) <= stages.total_s

    asyncio.run(answer())
    assert threads == {"postprocess"}


def test_the_first_image_at_fault_is_named(tiny, spec):
    images = [ArrayImage(pixels(0), "good"), Undecodable(pixels(1), "bad"), ArrayImage(pixels(2))]

    async def answer():
        async with pipeline_of(spec, max_pixels=2000) as pipeline:
            with pytest.raises(CorruptImage) as corrupt:
                await run(pipeline, images)
            assert corrupt.value.file == "bad"
            with pytest.raises(ImageTooLarge) as large:
                await run(pipeline, [ArrayImage(pixels(0, 64, 64), "large")])
            assert large.value.file == "large"
            # Neither holds any room in the queue.
            assert pipeline.engine._backlog._reserved["tiny"] == Load()

    asyncio.run(answer())


def test_a_small_image_does_not_wait_for_the_decoding_of_large_ones(tiny, spec):
    async def answer():
        async with pipeline_of(spec, decode_threads=2) as pipeline:
            slow = [SlowImage(pixels(i)) for i in range(4)]
            held = [asyncio.create_task(run(pipeline, [image])) for image in slow]
            await run(pipeline, [ArrayImage(pixels(9))])
            assert not any(task.done() for task in held)
            for image in slow:
                image.gate.set()
            await asyncio.gather(*held)

    asyncio.run(answer())


def test_what_draws_on_the_picture_is_work_of_the_decoders(tiny, spec):
    threads = set()

    def draw(measured, result):
        threads.add(threading.current_thread().name.partition("_")[0])

    async def answer():
        async with pipeline_of(spec, max_decode_bytes=2**20) as pipeline:
            cost = attrgetter("picture_cost")
            await run(pipeline, [ArrayImage(pixels(0))], draw, cost)
            with pytest.raises(ImageTooLarge):  # before the model sees it
                await run(pipeline, [ArrayImage(pixels(0, 320, 320))], draw, cost)

    asyncio.run(answer())
    assert threads == {"decode"}


def test_a_full_queue_refuses_before_pixels_are_decoded(tiny, spec):
    async def answer():
        async with pipeline_of(spec, max_queue_tokens=14) as pipeline:
            while tiny.entered.acquire(blocking=False):
                pass
            tiny.gate.clear()
            first = asyncio.create_task(run(pipeline, [ArrayImage(pixels(0))]))
            await asyncio.to_thread(tiny.wait_for_batch)
            second = asyncio.create_task(run(pipeline, [ArrayImage(pixels(1))]))
            while not pipeline.engine._backlog._load("tiny").images:
                await asyncio.sleep(0.001)
            with pytest.raises(QueueFull):
                await run(pipeline, [Undecodable(pixels(2)), Undecodable(pixels(3))])
            tiny.gate.set()
            await asyncio.gather(first, second)

    asyncio.run(answer())


def test_a_model_that_went_while_the_images_were_on_their_way(tiny, spec):
    async def answer():
        async with pipeline_of(spec) as pipeline:
            work = run(pipeline, [ArrayImage(pixels(0))])
            await pipeline.engine.models.remove("tiny")
            with pytest.raises(ModelUnavailable):
                await work

    asyncio.run(answer())
