"""Locust against a running server, and what the server's metrics say of it."""

import asyncio
import csv
import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vimserve.loadtests.common.client import open_session, scrape
from vimserve.loadtests.compare.results import Served

LOCUSTFILE = Path(__file__).parents[1] / "locustfile.py"
STAGES = ("decode", "queue", "inference", "postprocess")
# At the end of a load, Locust waits so long for the answers to what it has sent.
STOP_S = 120
# For Locust to start and to end, besides the load.
BESIDES_S = STOP_S + 600


@dataclass(frozen=True)
class Load:
    """What Locust sends to one model.

    Attributes:
        task: of the model.
        model: its name in the server.
        size: side of the square images, in pixels.
        clients: how many send at once, each its next request when it has its answer.
        seconds: the load lasts at least so long.
        requests: and until so many requests have ended.
        longest_s: but never longer than this.
    """

    task: str
    model: str
    size: int
    clients: int
    seconds: float
    requests: int
    longest_s: float


def drive(url: str, load: Load, table: Path) -> Served:
    """Put a load on the server at ``url``, and append Locust's own figures to the file ``table``.

    Requests that are under way at the end of the load are waited for.

    Raises:
        RuntimeError: if Locust fails or no request was answered.
        aiohttp.ClientError, TimeoutError: if the server's metrics cannot be read.
    """
    before = asyncio.run(_metrics(url, load.model))
    with tempfile.TemporaryDirectory() as folder:
        stats_csv = Path(folder, "stats.csv")
        entry = _run_locust(url, load, stats_csv)
        with stats_csv.open(newline="") as stats:
            _append(table, load, list(csv.reader(stats)))
    return _served(load, entry, before, asyncio.run(_metrics(url, load.model)))


def _run_locust(url: str, load: Load, stats_csv: Path) -> dict[str, Any]:
    """Run Locust, which writes its table of figures to a file.

    Returns:
        Its figures of all requests together.
    """
    command = [
        sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--host", url,
        "--headless", "--users", str(load.clients), "--spawn-rate", str(load.clients),
        "--least-seconds", str(load.seconds), "--least-requests", str(load.requests),
        "--run-time", f"{math.ceil(load.longest_s)}s", "--stop-timeout", str(STOP_S),
        "--stats-csv", str(stats_csv), "--json", "--skip-log", "--loglevel", "ERROR",
        "--task", load.task, "--vim-model", load.model, "--resolution", str(load.size), "VimUser",
    ]  # fmt: skip
    limit = load.longest_s + BESIDES_S
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"Locust took longer than {limit:.0f} s") from error
    try:
        (entry,) = json.loads(done.stdout)
    except ValueError as error:
        reason = (done.stderr or done.stdout).strip()[-1000:]
        raise RuntimeError(
            f"Locust gave no figures for {load.model} at {load.size}: {reason}"
        ) from error
    return dict(entry)


def _append(table: Path, load: Load, stats: Sequence[Sequence[str]]) -> None:
    """Append the rows of Locust's table, with columns that say which load they are of."""
    header, *rows = stats
    new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(["model", "size", "clients", *header])
        writer.writerows([load.model, load.size, load.clients, *row] for row in rows)


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


def _served(
    load: Load, entry: dict[str, Any], before: dict[str, float], after: dict[str, float]
) -> Served:
    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    def mean(name: str) -> float:
        return grown(f"{name}_sum") / max(grown(f"{name}_count"), 1)

    times = {float(ms): count for ms, count in entry["response_times"].items()}
    requests, failures = int(entry["num_requests"]), int(entry["num_failures"])
    seconds = float(entry["last_request_timestamp"]) - float(entry["start_time"])
    if requests == failures:
        raise RuntimeError(f"no answer from {load.model} at {load.size} pixels in {seconds:.0f} s")
    refused = int(grown("rejected_total"))
    stages = {
        stage: 1e3 * grown(f"stage_seconds_sum {stage}") / max(requests - failures, 1)
        for stage in STAGES
    }
    return Served(
        model=load.model,
        size=load.size,
        clients=load.clients,
        seconds=seconds,
        requests=requests,
        refused=refused,
        wrong=failures - refused,
        images_per_s=(requests - failures) / seconds,
        p50_ms=percentile(times, 0.5),
        p95_ms=percentile(times, 0.95),
        p99_ms=percentile(times, 0.99),
        stage_ms=stages,
        images_per_batch=mean("batch_images"),
        busy=min(grown("device_busy_seconds_total") / seconds, 1.0),
        peak_memory_bytes=mean("batch_peak_memory_bytes"),
    )


def percentile(counts: dict[float, int], part: float) -> float:
    """The least value that at least ``part`` of all values do not exceed.

    Args:
        counts: how often each value occurs.
        part: between 0 and 1.

    Raises:
        ValueError: if there are no values.
    """
    left = part * sum(counts.values())
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    raise ValueError("a percentile of nothing")
