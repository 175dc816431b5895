"""The dashboard and the alerts ask for what the server exports."""

import json
import re
import shutil
import socket
import subprocess
import sys

import httpx2
import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import AggregateExpr, BinaryExpr, Call, MatrixSelector, ParenExpr, VectorSelector

from tests.docker.tools import DOCKER, run
from tests.paths import ROOT
from tests.patience import PATIENCE_S, wait_until
from vimserve.server.cluster.directory import Directory
from vimserve.server.cluster.metrics import ClusterMetrics, Scrape
from vimserve.server.cluster.standing import Standing

DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "vimserve.json").read_text())
ALERTS = yaml.safe_load((DOCKER / "alerts.yml").read_text())
SCALING = yaml.safe_load((DOCKER / "kubernetes" / "scaling.yaml").read_text())
VARIABLES = {
    "$__rate_interval": "1m", "$model": "demo", "$resolution": "512", "$vim": "demo",
    "$deit": "demo",
}  # fmt: skip
# What Prometheus itself adds to every sample.
SCRAPED = {"job", "instance"}
# On a CPU this family has no samples; server/telemetry/gpu_memory.py gives it these labels.
ON_A_GPU = {"vimserve_gpu_memory_bytes": {"device", "kind"}}


def queries():
    """Every expression of the dashboard (with values for variables), of alerts and of scaling."""
    alerts = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    scaling = [trigger["metadata"]["query"] for trigger in SCALING["spec"]["triggers"]]
    return [with_values(target["expr"]) for _, target in targets()] + alerts + scaling


def targets():
    """Every panel's every query."""
    return [(panel, target) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def with_values(expr):
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def uses(expr):
    """Metrics, with the labels that are matched, and all labels that are grouped or joined by."""
    metrics: dict[str, set[str]] = {}
    labels: set[str] = set()

    def walk(node):
        if isinstance(node, VectorSelector):
            assert node.name is not None
            metrics.setdefault(node.name, set()).update(m.name for m in node.matchers.matchers)
        elif isinstance(node, MatrixSelector):
            walk(node.vector_selector)
        elif isinstance(node, Call):
            for argument in node.args:
                walk(argument)
        elif isinstance(node, BinaryExpr):
            walk(node.lhs)
            walk(node.rhs)
            if node.modifier and node.modifier.matching:
                labels.update(node.modifier.matching.labels)
        elif isinstance(node, ParenExpr | AggregateExpr):
            walk(node.expr)
            if isinstance(node, AggregateExpr) and node.modifier:
                labels.update(node.modifier.labels)

    walk(promql_parser.parse(expr))
    return metrics, labels


def of_a_router():
    """A scrape of a router's own metrics, each of which has a sample."""
    metrics = ClusterMetrics()
    standing = Standing("a", "all", "here", "a", 0, {"demo": 1.0}, 0, 0.0, 0)
    Directory(metrics).hear([standing])
    metrics.routed.labels("a", "first").inc()
    metrics.routed_tokens.labels("a").inc()
    metrics.rejected.labels("not-ready").inc()
    registry = CollectorRegistry()
    registry.register(Scrape(metrics, [standing], {("all", "running"): 1}, {}))
    return generate_latest(registry).decode()


@pytest.fixture(scope="module")
def exported(url):
    """The labels of every metric of a live scrape, and of a router's."""
    found = {"up": set(), **ON_A_GPU}
    scrape = httpx2.get(f"{url}/metrics", timeout=PATIENCE_S).text + of_a_router()
    for family in text_string_to_metric_families(scrape):
        labels = {name for sample in family.samples for name in sample.labels}
        for sample in family.samples:
            found[sample.name] = labels
        if family.type == "counter" and not family.samples:  # nothing has happened yet
            found[f"{family.name}_total"] = {"model", "reason"}
    return found


@pytest.mark.parametrize("expr", queries())
def test_every_query_asks_for_what_the_server_exports(expr, exported):
    metrics, labels = uses(expr)
    assert metrics
    known = set(SCRAPED)
    for metric, matched in metrics.items():
        assert metric in exported
        assert matched <= exported[metric] | SCRAPED | {"le"}, metric
        known |= exported[metric]
    assert labels <= known


def test_legends_show_labels_that_the_queries_keep():
    for panel, target in targets():
        _, kept = uses(with_values(target["expr"]))
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, panel["title"]


def test_the_dashboard_is_what_its_source_writes():
    code = "import dashboard, json; print(json.dumps(dashboard.dashboard()))"
    written = json.loads(run(sys.executable, "-c", code, env={"PYTHONPATH": "docker/grafana"}))
    assert written == DASHBOARD, "run python docker/grafana/dashboard.py"


def test_panels_do_not_overlap():
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not own & cells, panel["title"]
        cells |= own


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian package prometheus")
def test_promtool_accepts_rules_and_configuration():
    run("promtool", "check", "rules", "docker/alerts.yml")
    run("promtool", "check", "config", "docker/prometheus.yml")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian package prometheus")
def test_alerts_fire_when_they_should():
    run("promtool", "test", "rules", "tests/docker/alerts_test.yml")


@pytest.fixture
def prometheus(url, tmp_path):
    """The client of a Prometheus that scrapes the server every second."""
    configuration = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    configuration["global"]["scrape_interval"] = "1s"
    del configuration["rule_files"]
    (job,) = configuration["scrape_configs"]
    job["static_configs"] = [{"targets": [url.removeprefix("http://")]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = "{}:{}".format(*free.getsockname())
    command = [
        "prometheus", f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address={address}",
    ]  # fmt: skip
    with (
        subprocess.Popen(command, stderr=subprocess.DEVNULL) as process,
        httpx2.Client(base_url=f"http://{address}", timeout=PATIENCE_S) as client,
    ):
        yield client
        process.terminate()


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian package prometheus")
def test_prometheus_answers_the_queries_of_the_dashboard_with_data(url, prometheus):
    data = (ROOT / "model" / "demo" / "samples" / "dog.jpg").read_bytes()
    asked = {with_values(target["expr"]) for _, target in targets()}
    # What has no samples on a CPU or without a router, and what has not gone wrong.
    absent = {*ON_A_GPU, "vimserve_batch_retries_total"}
    routed = {metric for expr in asked for metric in uses(expr)[0] if "_cluster_" in metric}
    expected = {expr for expr in asked if set(uses(expr)[0]) - absent - routed}

    def has_data(expr):
        try:
            answer = prometheus.get("/api/v1/query", params={"query": expr}).json()
        except (httpx2.TransportError, ValueError):  # not yet
            return False
        assert answer["status"] == "success", expr
        return answer["data"]["result"]

    def every_query_has_data():  # a rate needs two scrapes with something between them
        for path in ("classify", "segment", "classify?top_k=0"):
            httpx2.post(f"{url}/v1/{path}", content=data, timeout=PATIENCE_S)
        return all(map(has_data, expected))

    wait_until(every_query_has_data)
