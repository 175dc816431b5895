"""Locust against a running server, and what the server's metrics say of it."""

import json
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from vimserve.loadtests.compare.results import Served
from vimserve.model.families import Task

LOCUSTFILE = Path(__file__).parents[1] / "locustfile.py"
STAGES = ("decode", "queue", "inference", "postprocess")
# The Locust user for a task, and the flag that tells it the model.
USERS = {"classify": ("VimUser", "--vim-model"), "segment": ("VimSegmentUser", "--vim-segmenter")}
# Beyond the time of the load: for Locust to start, and for the last answers.
BESIDES_S = 180

Metrics = dict[str, float]


def drive(
    url: str, task: Task, model: str, size: int, clients: int, seconds: float, csv_prefix: Path
) -> Served:
    """Load the model for so many seconds; what is under way then is waited for.

    Raises:
        RuntimeError: if Locust fails or no answer came.
    """
    before = scrape(url, model)
    user, flag = USERS[task]
    command = [
        sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--host", url,
        "--headless", "--users", str(clients), "--spawn-rate", str(clients),
        "--run-time", f"{max(round(seconds), 1)}s", "--stop-timeout", str(BESIDES_S - 60),
        "--csv", str(csv_prefix), "--json", "--skip-log", "--loglevel", "ERROR",
        flag, model, "--resolution", str(size), user,
    ]  # fmt: skip
    start = time.monotonic()
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, timeout=seconds + BESIDES_S, check=False
    )
    after = scrape(url, model)
    try:
        (entry,) = json.loads(done.stdout)
    except ValueError as error:
        reason = (done.stderr or done.stdout).strip()[-1000:]
        raise RuntimeError(f"Locust gave no figures for {model} at {size}: {reason}") from error
    return _served(entry, before, after, model, size, clients, time.monotonic() - start)


def scrape(url: str, model: str) -> Metrics:
    """The samples of ``/metrics`` that are about the model or about no model, summed by name."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:  # noqa: S310
        text = answer.read().decode()
    found: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("model", model) == model and "le" not in sample.labels:
                name = sample.name.removeprefix("vimserve_")
                stage = sample.labels.get("stage")
                found[f"{name} {stage}" if stage else name] += sample.value
    return found


def _served(
    entry: dict[str, object],
    before: Metrics,
    after: Metrics,
    model: str,
    size: int,
    clients: int,
    wall_s: float,
) -> Served:
    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    def mean(name: str) -> float:
        return grown(f"{name}_sum") / max(grown(f"{name}_count"), 1)

    times = {float(ms): count for ms, count in entry["response_times"].items()}  # type: ignore[attr-defined]
    requests, failures = int(entry["num_requests"]), int(entry["num_failures"])  # type: ignore[call-overload]
    seconds = float(entry["last_request_timestamp"]) - float(entry["start_time"])  # type: ignore[arg-type]
    if requests == failures:
        raise RuntimeError(f"no answer from {model} at {size} pixels in {wall_s:.0f} s")
    refused = sum(grown(name) for name in ("rejected_total",))
    stages = {
        stage: 1e3 * grown(f"stage_seconds_sum {stage}") / max(requests - failures, 1)
        for stage in STAGES
    }
    return Served(
        model=model,
        size=size,
        clients=clients,
        seconds=seconds,
        requests=requests,
        refused=int(refused),
        wrong=failures - int(refused),
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
    """The least value that ``part`` of all do not exceed; ``counts`` says how often each came."""
    left = part * sum(counts.values())
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    raise ValueError("a percentile of nothing")
