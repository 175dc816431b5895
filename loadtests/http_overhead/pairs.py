"""The bare model and the server take turns, for one model at one size."""

import asyncio
import multiprocessing
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vimserve.loadtests.common.client import open_session
from vimserve.loadtests.common.images import intact
from vimserve.loadtests.common.process import cpu_seconds
from vimserve.loadtests.common.server import serving
from vimserve.loadtests.http_overhead import bare
from vimserve.loadtests.http_overhead.clients import Driven, drive

IMAGES = 8
BATCHES = (1, 4, 8)
# Relative to the score, because with random weights the scores of 1000 classes are all small.
TOLERANCE = 1e-3
LONGEST_RUN_S = 600


@dataclass(frozen=True)
class Pair:
    """One turn of each: images per second, and seconds of processor time per image.

    ``bare`` is the bare model on one image at a time, ``best`` the same at its best batch size.
    """

    bare: float
    best: float
    server: float
    bare_cpu_s: float
    server_cpu_s: float
    client_cpu_s: float


@dataclass(frozen=True)
class Comparison:
    """All pairs of one model on images of ``pixels`` squared."""

    model: str
    pixels: int
    best_batch: int
    connections: int
    pairs: list[Pair]

    def ratios(self, to: str) -> list[float]:
        """The server's throughput over that of ``to``, pair by pair."""
        return [pair.server / getattr(pair, to) for pair in self.pairs]

    def median(self, field: str) -> float:
        """The median over the pairs."""
        return statistics.median(getattr(pair, field) for pair in self.pairs)


def compare_with_bare(
    name: str, weights: Path | None, pixels: int, connections: int, pairs: int, seconds: float
) -> Comparison:
    """Measure so many pairs, the server first in every other one.

    Args:
        name: of the model in the catalog.
        weights: file with its weights; None for those that are embedded.
        pixels: side of the images.
        connections: clients at once.
        pairs: how many to measure.
        seconds: least time of a run.

    Raises:
        RuntimeError: if the server does not start, or answers other than the bare model.
    """
    files = [intact(pixels, pixels, seed) for seed in range(IMAGES)]
    argument = name if weights is None else f"{name}-random={weights}"
    spawn = multiprocessing.get_context("spawn")
    loading = (name, weights, files)
    with (
        serving(["--model", argument]) as server,
        ProcessPoolExecutor(1, spawn, initializer=bare.load, initargs=loading) as model,
        ProcessPoolExecutor(1, spawn) as client,
    ):
        path = f"/v1/classify?resolution={pixels}&fit=contain"

        def loop(batch: int) -> bare.Looped:
            return model.submit(bare.loop, batch, seconds).result(LONGEST_RUN_S)

        def drive_server() -> tuple[Driven, float]:
            before = cpu_seconds(server.pid)
            job = client.submit(drive, server.url, path, files, connections, seconds)
            return job.result(LONGEST_RUN_S), cpu_seconds(server.pid) - before

        scores = model.submit(bare.scores).result(LONGEST_RUN_S)
        asyncio.run(check(server.url, path, files, scores))
        drive_server()
        speeds = {batch: _rate(loop(batch)) for batch in BATCHES}
        best_batch = max(speeds, key=lambda batch: speeds[batch])
        measured = []
        for number in range(pairs):
            if number % 2:
                driven, server_cpu_s = drive_server()
            alone = loop(1)
            best = alone if best_batch == 1 else loop(best_batch)
            if number % 2 == 0:
                driven, server_cpu_s = drive_server()
            measured.append(
                Pair(
                    bare=_rate(alone),
                    best=_rate(best),
                    server=_rate(driven),
                    bare_cpu_s=alone.cpu_s / alone.images,
                    server_cpu_s=server_cpu_s / driven.images,
                    client_cpu_s=driven.cpu_s / driven.images,
                )
            )
    return Comparison(argument.partition("=")[0], pixels, best_batch, connections, measured)


def _rate(run: bare.Looped | Driven) -> float:
    return run.images / run.seconds


async def check(
    url: str, path: str, files: Sequence[bytes], scores: Sequence[Sequence[float]]
) -> None:
    """Compare the server's answers with the ``scores`` of all classes, for each of ``files``.

    Raises:
        RuntimeError: if the server refuses a file or gives a class another score.
        aiohttp.ClientError, TimeoutError: if a connection fails.
    """
    async with open_session(url) as session:
        for file, expected in zip(files, scores, strict=True):
            async with session.post(path, data=file) as response:
                answer = await response.json(content_type=None)
            if "results" not in answer:
                raise RuntimeError(f"the server refuses an image: {answer.get('detail')}")
            for prediction in answer["results"][0]["predictions"]:
                error = abs(prediction["score"] / expected[prediction["index"]] - 1)
                if not error <= TOLERANCE:
                    raise RuntimeError(
                        f"the server's score of class {prediction['index']} is {error:.2e} of it "
                        f"off the bare model's, more than {TOLERANCE:g}"
                    )
