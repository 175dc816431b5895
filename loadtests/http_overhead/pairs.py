"""One model at one size: the bare loop and the server, by turns."""

import json
import multiprocessing
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from vimserve.loadtests.common.images import sample
from vimserve.loadtests.common.process import cpu_seconds
from vimserve.loadtests.common.server import serving
from vimserve.loadtests.http_overhead import bare
from vimserve.loadtests.http_overhead.clients import TIMEOUT_S, Driven, drive

IMAGES = 8
BATCHES = (1, 4, 8)
# Of a score itself: random weights make all of 1000 classes equally unlikely.
TOLERANCE = 1e-3
LONGEST_RUN_S = 600


@dataclass(frozen=True)
class Pair:
    """Images per second one after the other, and the processor's seconds per image.

    ``best`` is the bare model at its best batch size.
    """

    bare: float
    best: float
    server: float
    bare_cpu_s: float
    server_cpu_s: float
    client_cpu_s: float


@dataclass(frozen=True)
class Comparison:
    """All pairs of one model at one size of ``pixels`` squared."""

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


def compare(
    name: str, weights: Path | None, pixels: int, connections: int, pairs: int, seconds: float
) -> Comparison:
    """Measure ``pairs`` times, the server first every other time.

    Raises:
        RuntimeError: if the server answers anything but what the bare model says.
    """
    files = [sample(pixels, pixels, seed) for seed in range(IMAGES)]
    argument = name if weights is None else f"{name}-random={weights}"
    spawn = multiprocessing.get_context("spawn")
    loading = (name, weights, files)
    with (
        serving(["--model", argument]) as server,
        ProcessPoolExecutor(1, spawn, initializer=bare.load, initargs=loading) as model,
        ProcessPoolExecutor(1, spawn) as client,
    ):
        address = _address(server.url)
        path = f"/v1/classify?resolution={pixels}&fit=contain"

        def loop(batch: int) -> bare.Looped:
            return model.submit(bare.loop, batch, seconds).result(LONGEST_RUN_S)

        def drive_server() -> tuple[Driven, float]:
            before = cpu_seconds(server.pid)
            job = client.submit(drive, address, path, files, connections, seconds)
            return job.result(LONGEST_RUN_S), cpu_seconds(server.pid) - before

        check(server.url, path, files, model.submit(bare.scores).result(LONGEST_RUN_S))
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


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 80)


def check(url: str, path: str, files: Sequence[bytes], scores: Sequence[Sequence[float]]) -> None:
    """Compare the server's answers with the ``scores`` of all classes, for each of ``files``.

    Raises:
        RuntimeError: if it refuses a file or gives a class another score.
    """
    connection = HTTPConnection(*_address(url), timeout=TIMEOUT_S)
    try:
        for file, expected in zip(files, scores, strict=True):
            connection.request("POST", path, file)
            answer = json.loads(connection.getresponse().read())
            if "results" not in answer:
                raise RuntimeError(f"the server refuses an image: {answer.get('detail')}")
            for prediction in answer["results"][0]["predictions"]:
                error = abs(prediction["score"] / expected[prediction["index"]] - 1)
                if not error <= TOLERANCE:
                    raise RuntimeError(
                        f"the server's score of class {prediction['index']} is {error:.2e} of it "
                        f"off the bare model's, more than {TOLERANCE:g}"
                    )
    finally:
        connection.close()
