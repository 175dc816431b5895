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
disable_created_metrics()

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def resolution_bucket(height: int, width: int) -> str:
    """The smallest of the usual square sizes with at least the area of the model's input."""
    for side in RESOLUTIONS:
        if height * width <= side * side:
            return str(side)
    return "larger"


class Metrics:
    """Counters and histograms by their names without the ``vimserve_`` prefix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        shared = {"namespace": "vimserve", "registry": self.registry}
        self.requests = Counter(
            "requests", "Requests answered", ["model", "task", "status"], **shared
        )
        self.request_seconds = Histogram(
            "request_seconds",
            "From the head of a request to its answer, by the side of the square that has the "
            "area of its largest input",
            ["model", "task", "resolution"],
            buckets=SECONDS,
            **shared,
        )
        self.stage_seconds = Histogram(
            "stage_seconds",
            "What a request spends in each stage",
            ["model", "stage"],
            buckets=SECONDS,
            **shared,
        )
        self.batch_images = Histogram(
            "batch_images",
            "Images in a batch",
            buckets=[2**power for power in range(9)],
            **shared,
        )
        self.batch_tokens = Histogram(
            "batch_tokens",
            "Tokens in a batch",
            buckets=[2**power for power in range(6, 18)],
            **shared,
        )
        self.queue_depth = Gauge("queue_depth", "Images that wait", ["model"], **shared)
        self.inflight = Gauge("inflight", "Requests that are being answered", **shared)
        self.rejected = Counter("rejected", "Requests refused, by reason", ["reason"], **shared)
        self.model_info = Gauge(
            "model_info",
            "Models that are ready",
            ["model", "family", "dtype", "device", "attention", "parameters"],
            **shared,
        )

    def observe_stages(self, model: str, timing: Timing) -> None:
        """Count where the time of a request went."""
        for stage in ("decode", "queue", "inference", "postprocess"):
            self.stage_seconds.labels(model, stage).observe(getattr(timing, stage) / 1000)
