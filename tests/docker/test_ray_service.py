"""The RayService's application, begun on this machine as KubeRay does it on a head's pod."""

import os
import shlex
import socket
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager

import httpx2
import psutil
import pytest
import yaml

from tests.docker.tools import DOCKER, tool
from tests.paths import ROOT
from tests.patience import PATIENCE_S, wait_until

SERVICE = yaml.safe_load((DOCKER / "kubernetes" / "ray-service.yaml").read_text())["spec"]
KEY = "0123456789abcdef"
HERE = "127.0.0.1"
PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "metrics-export-port",
         "ray-client-server-port")  # fmt: skip
# Ray's own patience is short for a busy machine.
TOO_SLOW = "timed out during startup"
PATIENT = {
    "RAY_NUM_REDIS_GET_RETRIES": f"{PATIENCE_S:g}",
    "RAY_worker_register_timeout_seconds": f"{PATIENCE_S:g}",
}


def free_ports(number):
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server((HERE, 0))) for _ in range(number)]
        return [one.getsockname()[1] for one in taken]


@contextmanager
def head(ports):
    """The command line that KubeRay makes of the head's parameters, with ports that are free."""
    flags = SERVICE["rayClusterConfig"]["headGroupSpec"]["rayStartParams"] | ports
    flags |= {"dashboard-host": HERE, "num-cpus": "2"}  # it is the only pod here
    (container,) = SERVICE["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"]
    named = {one["name"]: one.get("value", KEY) for one in container["env"]}
    given = [f"--{name}={value}" for name, value in flags.items()]
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # paths of sockets must be short
        command = [tool("ray"), "start", "--head", "--block", f"--temp-dir={folder}", *given]
        with subprocess.Popen(
            ["/bin/bash", "-c", "--", f"ulimit -n 65536; {shlex.join(command)}"],
            env=os.environ | PATIENT | named | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                family = [*psutil.Process(process.pid).children(recursive=True), process]
                for one in family:
                    one.kill()
                psutil.wait_procs(family[:-1], PATIENCE_S)


@contextmanager
def begun():
    """A head that has begun, and the address of its dashboard."""
    log = TOO_SLOW
    while TOO_SLOW in log:
        log = ""
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        with head(ports) as process:
            for line in process.stdout:
                log += line
                if "block forever" in line:
                    yield f"http://{HERE}:{ports['dashboard-port']}"
                    return
    raise AssertionError(log)


@pytest.fixture
def answer():
    with httpx2.Client(timeout=PATIENCE_S) as client:
        yield client


def test_the_application_answers(answer):
    (port,) = free_ports(1)
    config = yaml.safe_load(SERVICE["serveConfigV2"])
    (application,) = config["applications"]
    # What this machine has not.
    application["args"] |= {"device": "cpu", "threads": 1, "replicas": "1", "model": "demo"}
    application["deployments"][0]["num_replicas"] = 1
    config["http_options"] = {"host": HERE, "port": port}
    with begun() as dashboard:
        applications = f"{dashboard}/api/serve/applications/"
        accepted = answer.put(applications, json=config)
        assert accepted.status_code == 200, accepted.text

        def runs():
            known = answer.get(applications).json()["applications"].get("vimserve")
            assert not known or known["status"] != "DEPLOY_FAILED", (
                known["message"],
                [one["message"] for one in known["deployments"].values()],
            )
            return known and known["status"] == "RUNNING"

        wait_until(runs)
        url = f"http://{HERE}:{port}"
        assert answer.get(f"{url}/-/healthz").text == "success"
        wait_until(lambda: answer.get(f"{url}/readyz").status_code == 200)
        image = (ROOT / "model" / "demo" / "samples" / "dog.jpg").read_bytes()
        assert answer.post(f"{url}/v1/classify", content=image).status_code == 401
        authorization = {"Authorization": f"Bearer {KEY}"}
        found = answer.post(f"{url}/v1/classify", content=image, headers=authorization)
        assert found.status_code == 200, found.text
        assert found.json()["results"][0]["predictions"][0]["label"] == "dog"
        metrics = answer.get(f"{url}/metrics", headers=authorization).text
        assert 'vimserve_cluster_routed_total{choice="first"' in metrics
        assert 'vimserve_cluster_replicas{group="all",state="running"} 1.0' in metrics
