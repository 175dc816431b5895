"""What Ray Serve does here: the replicas' lives, and the registry in which they are found.

Ray Serve places replicas, watches over them, replaces them, scales them and updates them one by
one. Its proxies and its router are not used, so requests pass no process of Ray's; but see
``ray_service``. Written for ray 2.60: policies of scaling that are told metrics of one's own, and
updates that start new replicas before old ones stop, are new there and may change.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import ApplicationStatus

from vimserve import __version__
from vimserve.server.cluster.groups import Group, Layout
from vimserve.server.cluster.policy import QUEUED_SECONDS, QueuedSeconds
from vimserve.server.cluster.ray_machines import LOCAL, NAMESPACE
from vimserve.server.cluster.replica import Replica
from vimserve.server.cluster.standing import Registry, Standing
from vimserve.server.config import ServerConfig
from vimserve.server.config.cluster import ClusterConfig
from vimserve.server.telemetry import observe
from vimserve.server.telemetry.logs import configure_logging

REGISTRY = "registry"
HEAR_S = 5.0  # of a question to the registry
# How often Ray Serve asks whether a replica is well, and how long that may take it to say.
HEALTH_EVERY_S, HEALTH_S = 1.0, 30.0
# Beyond what requests in progress may take until a replica has ended.
FAREWELL_S = 10.0
# A replica that cannot start is given up after so many tries.
TRIES = 3
QUIET = {"log_level": "WARNING", "enable_access_log": False}


def deploy(config: ClusterConfig, layout: Layout) -> bool:
    """Have these replicas and no others; what runs already is updated replica by replica.

    Returns:
        Whether none ran before.
    """
    serve.start(proxy_location="Disabled", logging_config=QUIET)
    known = registry()
    running = {name for name in serve.status().applications if name.startswith(NAMESPACE)}
    local = config.ray_address is None
    targets = [
        serve.RunTarget(
            replicas(config, layout, group, known, local),
            name=_application(group),
            route_prefix=None,
        )
        for group in layout.groups
    ]
    serve.run_many(targets, wait_for_applications_running=False)
    for name in running - {target.name for target in targets}:
        serve.delete(name, _blocking=False)
    return not running


def registry() -> Any:
    """The one registry of the cluster, an actor that outlives who first asked for it."""
    once = {"name": REGISTRY, "namespace": NAMESPACE, "get_if_exists": True}
    kept = {"lifetime": "detached", "max_restarts": -1, "num_cpus": 0}
    return ray.remote(Registry).options(**once, **kept).remote()


def replicas(
    config: ClusterConfig, layout: Layout, group: Group, known: Any, local: bool
) -> serve.Application:
    """The replicas of a group, to be run; if ``local``, only this machine can reach them."""
    deployment: Any = serve.deployment(Device)
    settings = _settings(config, layout)
    return deployment.options(
        **_options(config, layout, group, local),
        version=_version(group.name, settings, local),
        _internal=True,
    ).bind(group.name, settings, known, local)


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


async def counted() -> Mapping[tuple[str, str], int]:
    """Replicas by their group and what becomes of them, such as ``running``.

    Raises:
        Exception: Ray Serve cannot be asked.
    """
    known = (await asyncio.wait_for(asyncio.to_thread(serve.status), HEAR_S)).applications
    return {
        (name.removeprefix(f"{NAMESPACE}-"), state.lower()): number
        for application in known.values()
        for name, deployment in application.deployments.items()
        if name.startswith(f"{NAMESPACE}-")
        for state, number in deployment.replica_states.items()
    }


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


def _options(config: ClusterConfig, layout: Layout, group: Group, local: bool) -> dict[str, Any]:
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
        # ``start`` has made room for one more on CPUs.
        "max_surge_percent": 1 if layout.spare or (local and not layout.gpus) else 0,
        "logging_config": QUIET,
    }


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
