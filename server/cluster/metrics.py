"""The metrics of a cluster: the router's own, and those of all replicas."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from vimserve.server.cluster.standing import Standing
from vimserve.server.telemetry.metrics import Metrics

# Of replicas, by group and state.
Counts = Mapping[tuple[str, str], int]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class ClusterMetrics(Metrics):
    """What a router counts.

    What it has in common with a single server is counted by the replicas, so of that only the
    requests count that no replica saw.

    Attributes:
        exposed: the registry of those that are shown.
    """

    def __init__(self) -> None:
        super().__init__()
        self.exposed = registry = CollectorRegistry()
        self.rejected = Counter(
            "vimserve_cluster_rejected",
            "Requests that the router itself refused or failed, by reason",
            ["reason"],
            registry=registry,
        )
        self.routed = Counter(
            "vimserve_cluster_routed",
            "Requests that were sent to a replica: the first choice, or a next one after refusals",
            ["replica", "choice"],
            registry=registry,
        )
        self.routed_tokens = Counter(
            "vimserve_cluster_routed_tokens",
            "Tokens of these, as far as their heads tell",
            ["replica"],
            registry=registry,
        )
        self.changes = Counter(
            "vimserve_cluster_replica_changes",
            "Replicas that have joined, drain, left when they were to, were lost or fell silent",
            ["group", "change"],
            registry=registry,
        )
        self.decision_seconds = Histogram(
            "vimserve_cluster_decision_seconds",
            "From the head of a request until its replicas are ranked",
            buckets=_SECONDS,
            registry=registry,
        )


class Scrape(Collector):
    """Everything at one time: the router's metrics, how replicas are, and their own metrics.

    Args:
        metrics: the router's.
        standings: what the replicas have said last.
        counts: of replicas, by group and state.
        texts: what they have answered in OpenMetrics, by the replica's name; every sample gets that
            as a label.
    """

    def __init__(
        self,
        metrics: ClusterMetrics,
        standings: Iterable[Standing],
        counts: Counts,
        texts: Mapping[str, str],
    ) -> None:
        self._metrics = metrics
        self._standings = standings
        self._counts = counts
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        """All metrics, family by family."""
        yield from self._metrics.exposed.collect()
        yield from _of_standings(self._standings)
        yield _of_counts(self._counts)
        yield from _of_replicas(self._texts)


def _of_standings(standings: Iterable[Standing]) -> Iterator[Metric]:
    seconds = GaugeMetricFamily(
        "vimserve_cluster_queue_seconds",
        "Until a replica has run what waits and runs",
        labels=["group", "replica"],
    )
    tokens = GaugeMetricFamily(
        "vimserve_cluster_queue_tokens",
        "Tokens that wait and run in a replica",
        labels=["group", "replica"],
    )
    speed = GaugeMetricFamily(
        "vimserve_cluster_tokens_per_second",
        "What a replica has learnt of its speed",
        labels=["group", "replica", "model"],
    )
    loaded = InfoMetricFamily(
        "vimserve_cluster_model",
        "The weights that a replica has, by their identity in /v1/models",
        labels=["group", "replica", "model"],
    )
    for one in standings:
        seconds.add_metric([one.group, one.replica], one.queued_seconds)
        tokens.add_metric([one.group, one.replica], one.queued_tokens)
        for model, value in one.models.items():
            speed.add_metric([one.group, one.replica, model], value)
        for model, identity in one.identities.items():
            loaded.add_metric([one.group, one.replica, model], {"identity": identity})
    yield from (seconds, tokens, speed, loaded)


def _of_counts(counts: Counts) -> Metric:
    replicas = GaugeMetricFamily(
        "vimserve_cluster_replicas",
        "Replicas that Ray Serve runs, starts or stops; those that do not stop were asked for",
        labels=["group", "state"],
    )
    for labels, number in counts.items():
        replicas.add_metric(labels, number)
    return replicas


def _of_replicas(texts: Mapping[str, str]) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    for replica, text in texts.items():
        for one in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
            family = families.setdefault(one.name, _without_samples(one))
            for sample in one.samples:
                labels = {**sample.labels, "replica": replica}
                family.samples.append(Sample(sample.name, labels, *sample[2:]))
    yield from families.values()


def _without_samples(metric: Metric) -> Metric:
    return Metric(metric.name, metric.documentation, metric.type, metric.unit)
