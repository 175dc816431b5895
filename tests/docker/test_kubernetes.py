"""What is for Kubernetes follows the schemas of its kinds, and agrees with the server."""

import copy
import importlib
import warnings

import pytest
import yaml

from tests.docker.custom_resources import mistakes
from tests.docker.tools import DOCKER
from tests.paths import ROOT
from vimserve.server.cluster.groups import layout_on_demand
from vimserve.server.config import ServerConfig
from vimserve.server.config.cluster import ClusterConfig

FOLDER = DOCKER / "kubernetes"


def documents(name):
    """By their kinds."""
    return {one["kind"]: one for one in yaml.safe_load_all((FOLDER / name).read_text())}


@pytest.fixture(scope="module")
def deployment():
    return documents("vimserve.yaml")


def custom_resources():
    """All of them, but for ``retry`` of a route, which is newer than the schema."""
    names = ("http-route", "kserve", "ray-service", "scaling", "service-monitor")
    for name in names:
        for resource in documents(f"{name}.yaml").values():
            for rule in resource["spec"].get("rules", []):
                rule.pop("retry", None)
            yield pytest.param(resource, id=resource["kind"])


def fields(value, path=()):
    """Where the fields are."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from fields(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from fields(inner, (*path, index))


@pytest.mark.parametrize("resource", [*custom_resources()])
def test_custom_resources_follow_their_schemas(resource):
    assert mistakes(resource) == []


# What is in these may have any name.
FREE = ("matchLabels", "labels", "rayStartParams", "requests", "limits", "metadata")


@pytest.mark.parametrize("resource", [*custom_resources()])
def test_a_misspelt_field_is_a_mistake(resource):
    checked = [path for path in fields(resource) if not {*path[:-1]} & {*FREE}]
    assert len(checked) > 8
    for path in checked:
        misspelt = copy.deepcopy(resource)
        holder = misspelt
        for step in path[:-1]:
            holder = holder[step]
        holder[f"{path[-1]}x"] = holder.pop(path[-1])
        if path not in [("apiVersion",), ("kind",)]:
            assert mistakes(misspelt), path


def test_the_scaled_object_scales_the_deployment(deployment):
    (scaled,) = documents("scaling.yaml").values()
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
    assert others["retry"] == {"codes": [429, 503], "attempts": 2, "backoff": "100ms"}
    seconds = float(others["timeouts"]["request"].removesuffix("s"))
    assert seconds > ServerConfig.model_fields["request_timeout"].default


def test_kserve_s_service_asks_its_runtime_for_what_it_has(deployment):
    parts = documents("kserve.yaml")
    runtime, service = parts["ServingRuntime"], parts["InferenceService"]
    (container,) = runtime["spec"]["containers"]
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    (supported,) = runtime["spec"]["supportedModelFormats"]
    assert model["modelFormat"]["name"] == supported["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    grace = deployment["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert service["spec"]["predictor"]["terminationGracePeriodSeconds"] == grace
    (file,) = (one["value"] for one in container["env"] if one["name"] == "VIMSERVE_MODEL")
    assert model["storageUri"].endswith(file.rpartition("/")[2])


@pytest.fixture
def ray_service():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, at its import
        return importlib.import_module("vimserve.server.cluster.ray_service")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replcas": 2}, "^.*replcas.*$"),
        ({"replicas": 2}, "^threads: say how many CPUs a replica has.*$"),
    ],
)
def test_ray_s_service_says_in_a_line_what_cannot_be(ray_service, settings, message):
    with pytest.raises(ValueError, match=message):
        ray_service.application(settings)


def test_ray_s_service_deploys_the_application_on_the_image_s_version(deployment, ray_service):
    schema = importlib.import_module("ray.serve.schema").ServeDeploySchema
    (service,) = documents("ray-service.yaml").values()
    cluster = service["spec"]["rayClusterConfig"]
    lock = (ROOT / "requirements.lock").read_text()
    assert f"\nray=={cluster['rayVersion']}\n" in lock

    (application,) = schema(**yaml.safe_load(service["spec"]["serveConfigV2"])).applications
    module, _, name = application.import_path.partition(":")
    assert getattr(importlib.import_module(module), name) is ray_service.application
    (router,) = application.deployments
    assert router.name == ray_service.ROUTER
    (group,) = layout_on_demand(ClusterConfig(**application.args)).groups
    (workers,) = cluster["workerGroupSpecs"]
    assert (workers["minReplicas"], workers["maxReplicas"]) == (group.least, group.most)

    grace = deployment["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert workers["template"]["spec"]["terminationGracePeriodSeconds"] == grace
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    for pod in (cluster["headGroupSpec"]["template"], workers["template"]):
        (container,) = pod["spec"]["containers"]
        assert container["image"] == compose["services"]["cluster"]["image"]
