"""What Prometheus scrapes; every application has a registry of its own."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from server.schemas import Timing

RESOLUTIONS = (224, 512, 1024, 1248)
# A second series per metric, which nothing here needs.
disable_created_metrics()  # type: ignore[no-untyped-call]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def resolution_bucket(height: int, width: int) -> str:
    """The smallest of the usual square sizes with at least the area of the model's input."""
    for side in RESOLUTIONS:
        if height * width <= side * side:
            return str(side)
    return "larger"


class Metrics:
    """Counters and histograms; attributes are their names without the prefix."""

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
            buckets=[2**power for power in range(9)],
            registry=registry,
        )
        self.batch_tokens = Histogram(
            "vimserve_batch_tokens",
            "Tokens in a batch",
            buckets=[2**power for power in range(6, 18)],
            registry=registry,
        )
        self.queue_depth = Gauge(
            "vimserve_queue_depth", "Images that wait", ["model"], registry=registry
        )
        self.inflight = Gauge(
            "vimserve_inflight", "Requests that are being answered", registry=registry
        )
        self.rejected = Counter(
            "vimserve_rejected", "Requests refused, by reason", ["reason"], registry=registry
        )
        self.model_info = Gauge(
            "vimserve_model_info",
            "Models that are ready",
            ["model", "family", "dtype", "device", "attention", "parameters"],
            registry=registry,
        )

    def observe_stages(self, model: str, timing: Timing) -> None:
        """Count where the time of a request went."""
        for stage in ("decode", "queue", "inference", "postprocess"):
            self.stage_seconds.labels(model, stage).observe(getattr(timing, stage) / 1000)
