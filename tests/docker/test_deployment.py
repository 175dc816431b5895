"""What is under docker/ agrees with the server, with itself, and with the tools that read it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import AggregateExpr, BinaryExpr, Call, MatrixSelector, ParenExpr, VectorSelector

from tests.paths import ROOT
from vimserve.loadtests.common.server import serving
from vimserve.server.config import ServerConfig

DOCKER = ROOT / "docker"
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "vimserve.json").read_text())
ALERTS = yaml.safe_load((DOCKER / "alerts.yml").read_text())
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
VARIABLES = {
    "$__rate_interval": "1m", "$model": "demo", "$resolution": "512", "$vim": "demo",
    "$deit": "demo",
}  # fmt: skip
# What Prometheus itself adds to every sample.
SCRAPED = {"job", "instance"}
# On a CPU this family has no samples; server/telemetry/gpu_memory.py gives it these labels.
ON_A_GPU = {"vimserve_gpu_memory_bytes": {"device", "kind"}}


def run(*command, **options):
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(name):
    return str(Path(sys.executable).with_name(name))


def queries():
    """Every expression of the dashboard, with values for its variables, and of the alerts."""
    alerts = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    return [with_values(target["expr"]) for _, target in targets()] + alerts


def targets():
    """Every panel's every query."""
    return [(panel, target) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def with_values(expr):
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def uses(expr):
    """Metrics, with the labels that are matched, and all labels that are grouped or joined by."""
    metrics, labels = {}, set()

    def walk(node):
        if isinstance(node, VectorSelector):
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


@pytest.fixture(scope="module")
def url():
    """A server that has answered and refused."""
    with serving(["--max-resolution", "320"]) as server:
        url = server.url
        data = (ROOT / "model" / "demo" / "samples" / "dog.jpg").read_bytes()
        for path in ("classify", "segment", "classify?top_k=0"):
            httpx2.post(f"{url}/v1/{path}", content=data, timeout=60)
        yield url


@pytest.fixture(scope="module")
def exported(url):
    """The labels of every metric of a live scrape."""
    found = {"up": set(), **ON_A_GPU}
    for family in text_string_to_metric_families(httpx2.get(f"{url}/metrics").text):
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
    cells = set()
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


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian package prometheus")
def test_prometheus_answers_the_queries_of_the_dashboard_with_data(url, tmp_path):
    configuration = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    configuration["global"]["scrape_interval"] = "1s"
    del configuration["rule_files"]
    (job,) = configuration["scrape_configs"]
    job["static_configs"] = [{"targets": [url.removeprefix("http://")]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = "127.0.0.1:19090"
    command = [
        "prometheus", f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address={address}",
    ]  # fmt: skip
    data = (ROOT / "model" / "demo" / "samples" / "dog.jpg").read_bytes()

    def series(expr):
        answer = httpx2.get(f"http://{address}/api/v1/query", params={"query": expr}).json()
        assert answer["status"] == "success", expr
        return answer["data"]["result"]

    def ask():
        for path in ("classify", "segment", "classify?top_k=0"):
            httpx2.post(f"{url}/v1/{path}", content=data, timeout=60)

    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 60
            while not _up(series):
                assert time.monotonic() < end
                time.sleep(0.2)
            for _ in range(4):  # a rate needs two scrapes with something between them
                ask()
                time.sleep(1)
            asked = {with_values(target["expr"]) for _, target in targets()}
            empty = {expr for expr in asked if not series(expr)}
        finally:
            process.terminate()
    # What has no samples on a CPU, and what has not gone wrong.
    assert {m for expr in empty for m in uses(expr)[0]} <= {
        *ON_A_GPU,
        "vimserve_batch_retries_total",
    }


def _up(series):
    try:
        return [sample["value"][1] for sample in series('up{job="vimserve"}')] == ["1"]
    except (httpx2.TransportError, ValueError):  # not yet
        return False


def test_hadolint_finds_nothing():
    assert run(tool("hadolint"), "docker/Dockerfile") == ""


def test_the_compose_files_follow_their_schema(tmp_path):
    over = (DOCKER / "compose.cpu.yaml").read_text()
    assert over.count("!reset null") == 1
    (tmp_path / "cpu.yaml").write_text(over.replace("!reset null", "{}"))
    schema = ["--builtin-schema", "vendor.compose-spec"]
    run(tool("check-jsonschema"), *schema, "docker/compose.yaml", str(tmp_path / "cpu.yaml"))


def test_compose_hardens_every_service_and_publishes_on_the_loopback_alone():
    for name, service in COMPOSE["services"].items():
        hardened = COMPOSE["x-hardened"] | service.get("<<", {}) | service
        assert hardened["read_only"], name
        assert hardened["cap_drop"] == ["ALL"], name
        assert hardened["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        for port in service["ports"]:
            assert port.startswith(("127.0.0.1:", "${VIMSERVE_ADDRESS:-127.0.0.1}:")), name


def test_compose_mounts_files_that_are_there():
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (
                (DOCKER / source).exists()
                if source.startswith(".")
                else (source in COMPOSE["volumes"])
            )


def test_every_setting_in_the_deployments_is_one_of_the_server_s():
    texts = [
        (DOCKER / "Dockerfile").read_text(),
        *(yaml.safe_dump(s.get("environment", {})) for s in COMPOSE["services"].values()),
        (DOCKER / "kubernetes" / "vimserve.yaml").read_text(),
    ]
    named = {name.lower() for text in texts for name in re.findall(r"\bVIMSERVE_(\w+)[:=\n]", text)}
    assert named - {"load_api_key"} <= set(ServerConfig.model_fields)


def test_kubernetes_accepts_the_manifest():
    run(tool("kubernetes-validate"), "--strict", "docker/kubernetes/vimserve.yaml")
    documents = yaml.safe_load_all((DOCKER / "kubernetes" / "vimserve.yaml").read_text())
    parts = {document["kind"]: document for document in documents}
    (container,) = parts["Deployment"]["spec"]["template"]["spec"]["containers"]
    labels = parts["Deployment"]["spec"]["template"]["metadata"]["labels"]
    (port,) = parts["Service"]["spec"]["ports"]
    assert parts["Service"]["spec"]["selector"] == labels
    assert port["targetPort"] == container["ports"][0]["name"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in ("/healthz", "/readyz")
    monitor = yaml.safe_load((DOCKER / "kubernetes" / "service-monitor.yaml").read_text())
    assert monitor["spec"]["selector"]["matchLabels"] == labels
    assert monitor["spec"]["endpoints"][0]["port"] == port["name"]


def test_users_and_grace_agree():
    deployment = next(yaml.safe_load_all((DOCKER / "kubernetes" / "vimserve.yaml").read_text()))
    pod = deployment["spec"]["template"]["spec"]
    user = str(pod["securityContext"]["runAsUser"])
    dockerfile = (DOCKER / "Dockerfile").read_text()
    assert f"useradd --uid {user} " in dockerfile
    assert set(re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE)) == {f"{user}:{user}"}
    grace = int(COMPOSE["services"]["server"]["stop_grace_period"].removesuffix("s"))
    assert grace == pod["terminationGracePeriodSeconds"] > ServerConfig().drain_timeout


def test_kernels_compile_into_the_caches_once(tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'docker'); import fill_caches as f; "
        "f.PUBLISHED = ('vim-tiny',); print(f.fill_triton(90))"
    )
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    kernels = int(run(sys.executable, "-c", code, env=environment))
    cubins = set(tmp_path.rglob("*.cubin"))
    assert len(cubins) == kernels >= 5
    written = {file: file.stat().st_mtime_ns for file in cubins}
    assert int(run(sys.executable, "-c", code, env=environment)) == kernels
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.cubin")} == written


def test_the_health_check_tells_a_ready_server_from_none(url):
    check = [sys.executable, "docker/healthcheck.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run(*check, env=environment | {"VIMSERVE_PORT": url.rpartition(":")[2]})
    done = subprocess.run(
        check, cwd=ROOT, env=environment | {"VIMSERVE_PORT": "9"}, capture_output=True, check=False
    )
    assert done.returncode == 1
