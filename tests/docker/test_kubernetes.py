"""What is for Kubernetes follows the schemas of its kinds, and agrees with the server.

Schemas of KServe's and the Gateway API's kinds are in no package that Python could install, so of
those only the parts are checked that are Kubernetes' own or the server's.
"""

import json

import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject

from tests.docker.tools import DOCKER, run, tool
from vimserve.server.config import ServerConfig

FOLDER = DOCKER / "kubernetes"


def documents(name):
    """By their kinds."""
    return {one["kind"]: one for one in yaml.safe_load_all((FOLDER / name).read_text())}


@pytest.fixture(scope="module")
def deployment():
    return documents("vimserve.yaml")


def test_keda_accepts_the_scaled_object(deployment):
    (scaled,) = documents("scaling.yaml").values()
    read = ScaledObject.model_validate(scaled)
    # Fields that it does not know would be missing.
    assert json.loads(read.model_dump_json(by_alias=True, exclude_unset=True)) == scaled
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["Deployment"]["metadata"]["name"]
    assert "replicas" in deployment["Deployment"]["spec"]


def test_nodes_that_are_drained_take_the_deployment_s_replicas_one_by_one(deployment):
    budget = deployment["PodDisruptionBudget"]["spec"]
    assert budget["selector"] == deployment["Deployment"]["spec"]["selector"]
    assert budget["maxUnavailable"] == 1


def test_the_route_leads_to_the_service_and_waits_for_its_answers(deployment):
    (route,) = documents("http-route.yaml").values()
    (port,) = deployment["Service"]["spec"]["ports"]
    for rule in route["spec"]["rules"]:
        (backend,) = rule["backendRefs"]
        assert backend == {
            "name": deployment["Service"]["metadata"]["name"],
            "port": port["port"],
        }
    jobs, others = route["spec"]["rules"]
    assert "retry" not in jobs
    assert others["retry"]["codes"] == [429, 503]
    seconds = float(others["timeouts"]["request"].removesuffix("s"))
    assert seconds > ServerConfig.model_fields["request_timeout"].default


def test_kserve_s_runtime_has_a_pod_that_kubernetes_accepts(tmp_path, deployment):
    parts = documents("kserve.yaml")
    runtime, service = parts["ServingRuntime"], parts["InferenceService"]
    (container,) = runtime["spec"]["containers"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "vimserve"},
        "spec": {"containers": [container], "volumes": runtime["spec"]["volumes"]},
    }
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    run(tool("kubernetes-validate"), "--strict", str(tmp_path / "pod.yaml"))
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    (supported,) = runtime["spec"]["supportedModelFormats"]
    assert model["modelFormat"]["name"] == supported["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    grace = deployment["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert service["spec"]["predictor"]["terminationGracePeriodSeconds"] == grace
    (file,) = (one["value"] for one in container["env"] if one["name"] == "VIMSERVE_MODEL")
    assert model["storageUri"].endswith(file.rpartition("/")[2])
