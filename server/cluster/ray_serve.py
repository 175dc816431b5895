"""All that needs Ray: machines, the replicas' lives, and the registry in which they are found.

Ray Serve places replicas, watches over them, replaces them, scales them and updates them one by
one. Its proxies and its router are not used, so requests pass no process of Ray's. Written for ray
2.60: policies of scaling that are told metrics of one's own, and updates that start new replicas
before old ones stop, are new there and may change.
"""

import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import ApplicationStatus

from vimserve import __version__
from vimserve.server.cluster.groups import Group, Layout, Machine
from vimserve.server.cluster.policy import QUEUED_SECONDS, QueuedSeconds
from vimserve.server.cluster.replica import Replica
from vimserve.server.cluster.standing import Registry, Standing
from vimserve.server.config import ServerConfig
from vimserve.server.config.cluster import ClusterConfig
from vimserve.server.telemetry import observe
from vimserve.server.telemetry.logs import configure_logging

NAMESPACE = "vimserve"
REGISTRY = "registry"
# Of a connection to a cluster that is there already, and of a question to the registry.
CONNECT_S, HEAR_S = 5.0, 5.0
# How often Ray Serve asks whether a replica is well, and how long that may take it to say.
HEALTH_EVERY_S, HEALTH_S = 1.0, 30.0
# Beyond what requests in progress may take until a replica has ended.
FAREWELL_S = 10.0
# A replica that cannot start is given up after so many tries.
TRIES = 3
_STORE_BYTES = 100 * 2**20  # nothing is put there

LOCAL = "127.0.0.1"
_QUIET = {"log_level": "WARNING", "enable_access_log": False}


def start(layout: Layout, machine: Machine) -> None:
    """Start a cluster of this machine alone, for this process; it ends with it."""
    # On CPUs one more replica fits than there is room for, so that an update can start a new one
    # before it stops an old one; meanwhile the two share the CPUs.
    replicas = sum(group.most for group in layout.groups) + (not layout.gpus)
    _init(
        address="local",  # not one that somebody has started on this machine
        num_cpus=max(machine.cpus, layout.cpus * replicas),
        num_gpus=machine.gpus,
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        _node_ip_address=LOCAL,
    )


def connect(address: str) -> list[Machine]:
    """Connect to a cluster of which this machine is a node.

    Returns:
        Its machines.

    Raises:
        OSError: it does not answer.
        ValueError: it has another version of Ray, or this machine is none of it.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError(
            f"ray-address: an address is HOST:PORT, such as 10.0.0.1:6379, not {address!r}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise OSError(f"no Ray cluster answers at {address}: {error}") from error
    _init(address=address)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Machine(int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in nodes]


def _init(**options: Any) -> None:
    try:
        ray.init(
            namespace=NAMESPACE,
            configure_logging=False,
            log_to_driver=True,
            logging_level=logging.WARNING,
            **options,
        )
    except Exception as error:  # some are of no type of their own
        raise ValueError(f"Ray cannot be used: {error}") from error


def deploy(config: ClusterConfig, layout: Layout) -> bool:
    """Have these replicas and no others; what runs already is updated replica by replica.

    Returns:
        Whether none ran before.
    """
    serve.start(proxy_location="Disabled", logging_config=_QUIET)
    registry = (
        ray.remote(Registry)
        .options(
            name=REGISTRY, lifetime="detached", get_if_exists=True, max_restarts=-1, num_cpus=0
        )
        .remote()
    )
    running = {name for name in serve.status().applications if name.startswith(NAMESPACE)}
    local = config.ray_address is None
    deployment: Any = serve.deployment(Device)
    targets = [
        serve.RunTarget(
            deployment.options(
                **_options(config, layout, group),
                version=_version(group.name, _settings(config, layout), local),
                _internal=True,
            ).bind(group.name, _settings(config, layout), registry, local),
            name=_application(group),
            route_prefix=None,
        )
        for group in layout.groups
    ]
    serve.run_many(targets, wait_for_applications_running=False)
    for name in running - {target.name for target in targets}:
        serve.delete(name, _blocking=False)
    return not running


def failure(layout: Layout) -> str | None:
    """Why replicas cannot be started, if one of the groups has none."""
    known = serve.status().applications
    for group in layout.groups:
        one = known.get(_application(group))
        if one is not None and one.status is ApplicationStatus.DEPLOY_FAILED:
            messages = [deployment.message for deployment in one.deployments.values()]
            return _last_line(" ".join(messages) or one.message)
    return None


def remove(layout: Layout) -> None:
    """Stop all replicas, once they have answered what they have accepted."""
    for group in layout.groups:
        serve.delete(_application(group), _blocking=False)
    for group in layout.groups:
        serve.delete(_application(group))


def end() -> None:
    """Let go of the cluster, which ends if it is this process's own."""
    ray.shutdown()


class Hearing:
    """Asks the registry, by itself and not through Ray's head, which may be away."""

    def __init__(self) -> None:
        self._registry: Any = None

    async def __call__(self) -> Sequence[Standing]:
        """What the replicas have said last.

        Raises:
            Exception: the registry cannot be asked.
        """
        if self._registry is None:
            self._registry = await asyncio.to_thread(ray.get_actor, REGISTRY, NAMESPACE)
        try:
            return await asyncio.wait_for(self._registry.standings.remote(), HEAR_S)
        except Exception:
            self._registry = None  # it may have been made anew
            raise


class Device:
    """A replica as Ray Serve has it: it calls these methods."""

    def __init__(self, group: str, settings: Mapping[str, Any], registry: Any, local: bool) -> None:
        config = ServerConfig(**settings)
        configure_logging(config.log_level.upper(), config.log_format)
        if config.log_level != "debug":  # the router has a line for each request
            logging.getLogger(observe.__name__).setLevel(logging.WARNING)
        self._name = serve.get_replica_context().replica_id.unique_id
        self._registry = registry
        host = LOCAL if local else ray.util.get_node_ip_address()
        self._replica = Replica(self._name, group, config, host, self._publish)

    async def _publish(self, standing: Standing) -> None:
        self._registry.publish.remote(standing)

    async def reconfigure(self, config: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """Serve these models: at the start, and whenever they or their files have changed."""
        await self._replica.serve([model for model, _ in config["models"]])

    def check_health(self) -> None:
        """Raise an error if the device does not answer any more."""
        self._replica.check_health()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What the policy of scaling is told."""
        return {QUEUED_SECONDS: self._replica.queued_seconds}

    async def __del__(self) -> None:
        """Answer what was accepted, then end."""
        await self._replica.stop()
        self._registry.leave.remote(self._name)


def _application(group: Group) -> str:
    return f"{NAMESPACE}-{group.name}"


def _settings(config: ClusterConfig, layout: Layout) -> dict[str, Any]:
    """Of each replica: what it does not share with the router, and its share of the machine.

    What differs from what replicas run with restarts them.
    """
    own = config.model_dump(include={*ServerConfig.model_fields} - {"model", "host", "port"})
    alone = {"tls_certificate": None, "tls_key": None, "cors_origin": ()}
    shared: dict[str, Any] = {}
    if not layout.gpus:
        shared = {
            "threads": layout.cpus,
            "decode_threads": min(config.decode_threads, layout.cpus),
            "memory_fraction": config.memory_fraction / layout.neighbours,
        }
    return own | alone | shared


def _options(config: ClusterConfig, layout: Layout, group: Group) -> dict[str, Any]:
    counts: dict[str, Any] = {"num_replicas": group.least}
    if group.least < group.most:
        policy = AutoscalingPolicy(
            policy_function=QueuedSeconds,
            policy_kwargs={
                "least": group.least,
                "most": group.most,
                "target_s": config.scale_seconds,
                "down_after_s": config.scale_down_after,
            },
        )
        scaling = AutoscalingConfig(
            min_replicas=group.least,
            max_replicas=group.most,
            metrics_interval_s=0.5,
            look_back_period_s=1.0,
            upscale_delay_s=0,
            downscale_delay_s=0,
            policy=policy,
        )
        counts = {"autoscaling_config": scaling}
    return counts | {
        "name": _application(group),
        "user_config": {"models": [[model, _edition(model)] for model in group.models]},
        "ray_actor_options": {"num_cpus": layout.cpus, "num_gpus": layout.gpus},
        "health_check_period_s": HEALTH_EVERY_S,
        "health_check_timeout_s": HEALTH_S,
        "graceful_shutdown_timeout_s": config.drain_timeout + FAREWELL_S,
        "max_constructor_retry_count": TRIES,
        "max_surge_percent": 1 if layout.spare or _roomy(config, layout) else 0,
        "logging_config": _QUIET,
    }


def _roomy(config: ClusterConfig, layout: Layout) -> bool:
    """Whether ``start`` has made room for one more replica."""
    return config.ray_address is None and not layout.gpus


def _version(group: str, settings: Mapping[str, Any], local: bool) -> str:
    """Changes with what replicas start with. Otherwise Ray Serve takes each update for new code."""
    key = settings["api_key"]
    known = {**settings, "api_key": key and key.get_secret_value()}
    return sha256(repr((__version__, group, known, local)).encode()).hexdigest()


def _edition(model: str) -> str:
    """Changes when the model's file does."""
    file = model.partition("=")[2].partition("?")[0]
    if not file:
        return ""
    status = Path(file).stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def _last_line(text: str) -> str:
    """Of a traceback: what was wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line.partition(":")[0]]
    return (errors or lines or ["replicas cannot be started"])[-1]
