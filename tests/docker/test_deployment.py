"""The image and its deployments agree with the server, with each other and with their schemas."""

import re

import yaml

from tests.docker.tools import DOCKER, run, tool
from vimserve.server.config.cluster import ClusterConfig

MANIFESTS = ("vimserve.yaml", "kserve.yaml", "ray-service.yaml")
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())


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
        *((DOCKER / "kubernetes" / name).read_text() for name in MANIFESTS),
    ]
    named = {name.lower() for text in texts for name in re.findall(r"\bVIMSERVE_(\w+)[:=\n]", text)}
    assert named - {"load_api_key"} <= set(ClusterConfig.model_fields)


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
    drain_timeout = ClusterConfig.model_fields["drain_timeout"].default
    assert grace == pod["terminationGracePeriodSeconds"] > drain_timeout
