"""Turns over HTTP: Locust against a running server, and what the server's metrics say of it."""

import asyncio
import csv
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

from vimserve.loadtests.common.client import open_session, scrape
from vimserve.loadtests.compare.load import Answers, Load
from vimserve.loadtests.compare.results import Served, Turn

STAGES = ("decode", "queue", "inference", "postprocess")


@contextmanager
def driving(url: str, task: str, table: Path) -> Iterator["Driver"]:
    """A Locust that stays, against the server at ``url``; it ends with the block.

    Args:
        url: without a slash at the end.
        task: of the models.
        table: file to which Locust's own figures of each turn are appended.
    """
    command = [
        sys.executable, "-m", "vimserve.loadtests.compare.locust_process",
        "--host", url, "--task", task,
    ]  # fmt: skip
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(  # noqa: S603
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        try:
            yield Driver(url, table, process, errors)
        finally:
            process.kill()


class Driver:
    """Gives the models of a server their turns, by ``driving``."""

    def __init__(
        self, url: str, table: Path, process: subprocess.Popen[bytes], errors: IO[bytes]
    ) -> None:
        self._url, self._table, self._process, self._errors = url, table, process, errors

    def turn(self, load: Load) -> Turn:
        """Put a load on the server and wait for all of its answers.

        Raises:
            RuntimeError: if Locust fails or no request was answered.
            aiohttp.ClientError, TimeoutError: if the server's metrics cannot be read.
        """
        before = asyncio.run(_metrics(self._url, load.model))
        answers = self._take(load)
        _append(self._table, load, answers)
        return _turn(load, answers, before, asyncio.run(_metrics(self._url, load.model)))

    def _take(self, load: Load) -> Answers:
        line = b""
        if self._process.stdin and self._process.stdout:
            with suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(asdict(load)).encode() + b"\n")
                line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            reason = self._errors.read().decode(errors="replace").strip()
            raise RuntimeError(f"Locust has ended: {reason[-1000:]}")
        return Answers(**json.loads(line))


def _append(table: Path, load: Load, answers: Answers) -> None:
    """Append Locust's row, with columns that say which load it is of."""
    new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(["model", "size", "clients", *answers.header])
        writer.writerow([load.model, load.size, load.clients, *answers.row])


async def _metrics(url: str, model: str) -> dict[str, float]:
    """The server's metrics of this model, and those of no model, summed by name and stage."""
    async with open_session(url) as session:
        samples = await scrape(session)
    found: defaultdict[str, float] = defaultdict(float)
    for sample in samples:
        if sample.labels.get("model", model) == model and "le" not in sample.labels:
            name = sample.name.removeprefix("vimserve_")
            stage = sample.labels.get("stage")
            found[f"{name} {stage}" if stage else name] += sample.value
    return found


def _turn(load: Load, answers: Answers, before: dict[str, float], after: dict[str, float]) -> Turn:
    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    def mean(name: str) -> float:
        return grown(f"{name}_sum") / max(grown(f"{name}_count"), 1)

    seconds, right = answers.ended - answers.began, len(answers.latencies_ms)
    if not right:
        raise RuntimeError(
            f"no right answer from {load.model} at {load.size} pixels: {answers.refused} requests "
            f"were refused, {answers.wrong} went wrong"
        )
    served = Served(
        latencies_ms=answers.latencies_ms,
        refused=answers.refused,
        wrong=answers.wrong,
        stage_ms={stage: 1e3 * grown(f"stage_seconds_sum {stage}") / right for stage in STAGES},
        images_per_batch=mean("batch_images"),
        busy=min(grown("device_busy_seconds_total") / seconds, 1.0),
        peak_memory_bytes=mean("batch_peak_memory_bytes"),
    )
    return Turn(load.model, 1e3 * seconds / right, right, seconds, served)
