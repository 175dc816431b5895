"""The metrics that Prometheus scrapes; every application has a registry of its own."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from vimserve.model.spec import ModelSpec
from vimserve.model.threads import threads_in_use
from vimserve.server.engine.cost import Load
from vimserve.server.telemetry import tracing

RESOLUTIONS = (224, 512, 1024, 1248)
# They would be a second series for each metric, which nothing here needs.
disable_created_metrics()  # type: ignore[no-untyped-call]

BYTES = tuple(2**power for power in range(20, 38))
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def resolution_bucket(height: int, width: int) -> str:
    """The smallest of the usual square sizes with at least the area of the model's input."""
    for side in RESOLUTIONS:
        if height * width <= side * side:
            return str(side)
    return "larger"


@dataclass(frozen=True)
class BatchFigures:
    """Size and memory of a batch that has run.

    Attributes:
        largest: (height, width) of its largest image.
        peak_bytes: peak of the device's memory during the batch, above the weights; with a CUDA
            graph, that of the recorded pass plus that of what ran outside it.
        predicted_bytes: what the memory model predicted for ``peak_bytes``.
    """

    model: str
    images: int
    tokens: int
    largest: tuple[int, int]
    peak_bytes: int
    predicted_bytes: int


class DeviceBusy(Collector):
    """``vimserve_device_busy_seconds_total``.

    It is read at each scrape, so that a long batch counts while it runs.
    """

    def __init__(self, busy_seconds: Callable[[], dict[str, float]]) -> None:
        self._busy_seconds = busy_seconds

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The metric with its current samples."""
        family = CounterMetricFamily(
            "vimserve_device_busy_seconds",
            "Time that the device has run batches",
            labels=["device"],
        )
        for device, seconds in self._busy_seconds().items():
            family.add_metric([device], seconds)
        yield family


class JobsHeld(Collector):
    """``vimserve_jobs``, read at each scrape, because jobs start to run without telling."""

    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metric with its current samples."""
        family = GaugeMetricFamily("vimserve_jobs", "Jobs that are held", labels=["status"])
        for status, number in self._count().items():
            family.add_metric([status], number)
        yield family


@dataclass(frozen=True)
class Totals:
    """What a model has done since the start.

    Attributes:
        answered: requests that got a result.
        failed: requests for it that were refused or failed, and the seconds that they took.
        images: that the device has run, in ``batches``.
        stages_s: seconds that the answered requests spent in each stage.
        last_answer: seconds since 1970; 0 if there was none.
    """

    answered: int
    failed: int
    failed_s: float
    images: int
    batches: int
    stages_s: Mapping[str, float]
    last_answer: float


class Metrics:
    """The metrics; their attributes are their names without the prefix ``vimserve_``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "vimserve_requests", "Requests answered", ["model", "task", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "vimserve_request_seconds",
            "From the head of a request to its answer, by the side of the square that has the "
            "area of its largest input",
            ["model", "task", "resolution"],
            buckets=SECONDS,
            registry=registry,
        )
        self.failed_seconds = Counter(
            "vimserve_failed_seconds",
            "Time of requests that were refused or failed, from head to answer",
            ["model"],
            registry=registry,
        )
        self.last_answer = Gauge(
            "vimserve_last_answer_timestamp_seconds",
            "When a request was last answered, since 1970",
            ["model"],
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "vimserve_stage_seconds",
            "What a request spends in each stage",
            ["model", "stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_images = Histogram(
            "vimserve_batch_images",
            "Images in a batch",
            ["model"],
            buckets=[2**power for power in range(9)],
            registry=registry,
        )
        self.batch_tokens = Histogram(
            "vimserve_batch_tokens",
            "Tokens in a batch",
            ["model"],
            buckets=[2**power for power in range(6, 18)],
            registry=registry,
        )
        self.queue_depth = Gauge(
            "vimserve_queue_depth", "Images that wait", ["model"], registry=registry
        )
        self.queue_tokens = Gauge(
            "vimserve_queue_tokens", "Tokens that wait", ["model"], registry=registry
        )
        self.tokens = Counter(
            "vimserve_tokens", "Tokens that the device has run", ["model"], registry=registry
        )
        self.batch_retries = Counter(
            "vimserve_batch_retries",
            "Batches that were run again in parts, by what went wrong",
            ["model", "reason"],
            registry=registry,
        )
        self.batch_peak_memory_bytes = Histogram(
            "vimserve_batch_peak_memory_bytes",
            "Peak of a batch above what the weights hold, by the side of the square that has the "
            "area of its largest input; with a CUDA graph, the peak that its pass had when it was "
            "recorded, padding included, plus that of what runs outside the graph",
            ["model", "resolution"],
            buckets=BYTES,
            registry=registry,
        )
        self.batch_predicted_memory_bytes = Histogram(
            "vimserve_batch_predicted_memory_bytes",
            "What the memory model expected of vimserve_batch_peak_memory_bytes",
            ["model", "resolution"],
            buckets=BYTES,
            registry=registry,
        )
        self.inflight = Gauge(
            "vimserve_inflight", "Requests that are being answered", registry=registry
        )
        self.rejected = Counter(
            "vimserve_rejected",
            "Requests refused or failed, by reason",
            ["reason"],
            registry=registry,
        )
        self.jobs_finished = Counter(
            "vimserve_jobs_finished",
            "Jobs that have ended: done, failed or cancelled",
            ["outcome"],
            registry=registry,
        )
        self.threads = Gauge(
            "vimserve_threads",
            "CPU threads of the latest forward pass; without --threads the number adapts",
            registry=registry,
        )
        self.threads.set_function(threads_in_use)
        self.model_info = Gauge(
            "vimserve_model_info",
            "Models that are ready",
            ["model", "family", "dtype", "device", "attention", "parameters"],
            registry=registry,
        )

    def totals(self, model: str) -> Totals:
        """What the metrics count of a model."""
        stages, images = (
            _samples(metric, model=model) for metric in (self.stage_seconds, self.batch_images)
        )
        sums = {s.labels["stage"]: s.value for s in stages if s.name.endswith("_sum")}
        counts = [s.value for s in stages if s.name.endswith("_count")]
        batch = {sample.name.rpartition("_")[2]: sample.value for sample in images}
        requests = _samples(self.requests, model=model)
        failed = [s.value for s in requests if s.labels["status"] >= "400"]
        return Totals(
            answered=int(max(counts, default=0)),
            failed=int(sum(failed)),
            failed_s=sum(s.value for s in _samples(self.failed_seconds, model=model)),
            images=int(batch.get("sum", 0)),
            batches=int(batch.get("count", 0)),
            stages_s=sums,
            last_answer=sum(s.value for s in _samples(self.last_answer, model=model)),
        )

    def show_queue(self, model: str, load: Load) -> None:
        """Set what waits for a model."""
        self.queue_depth.labels(model).set(load.images)
        self.queue_tokens.labels(model).set(load.tokens)

    def show_model(self, spec: ModelSpec, device: str, dtype: str) -> None:
        """List a model that is ready."""
        self.model_info.labels(
            model=spec.name,
            family=spec.family,
            dtype=dtype,
            device=device,
            attention=spec.attention,
            parameters=spec.parameters,
        ).set(1)

    def forget_model(self, model: str) -> None:
        """Stop listing a model; its counters remain."""
        self.model_info.remove_by_labels({"model": model})
        self.show_queue(model, Load())

    def observe_batch(self, batch: BatchFigures) -> None:
        """Count a batch that has run."""
        model, resolution = batch.model, resolution_bucket(*batch.largest)
        self.batch_images.labels(model).observe(batch.images)
        self.batch_tokens.labels(model).observe(batch.tokens)
        self.tokens.labels(model).inc(batch.tokens)
        self.batch_peak_memory_bytes.labels(model, resolution).observe(batch.peak_bytes)
        self.batch_predicted_memory_bytes.labels(model, resolution).observe(batch.predicted_bytes)

    def observe_stages(self, model: str, **stages: float) -> None:
        """Count the seconds that a request spent in each stage, by the stage's name."""
        exemplar = tracing.current.get().exemplar
        for stage, seconds in stages.items():
            self.stage_seconds.labels(model, stage).observe(seconds, exemplar)
        self.last_answer.labels(model).set_to_current_time()


def _samples(metric: MetricWrapperBase, **labels: str) -> list[Sample]:
    return [
        sample
        for family in metric.collect()
        for sample in family.samples
        if labels.items() <= sample.labels.items()
    ]
