"""The cluster as one application of Ray Serve, which KubeRay's RayService deploys.

Here the router is the application's ingress, behind Ray Serve's proxies, because KubeRay watches
over these, and leads its services and its upgrades by them. That is one more hop than
``vimserve cluster`` has.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from ray import serve

from vimserve.model.catalog import resolve
from vimserve.server.cluster import ray_serve
from vimserve.server.cluster.app import create_cluster_app
from vimserve.server.cluster.groups import layout_on_demand
from vimserve.server.config.cluster import ClusterConfig
from vimserve.server.telemetry.logs import configure_logging

ROUTER = "router"
# A replica refuses what it has no room for, and says so better than Ray Serve.
UNLIMITED = 1_000_000


def application(settings: Mapping[str, Any]) -> serve.Application:
    """Build the application of these settings, the arguments in Ray Serve's configuration.

    ``VIMSERVE_*`` variables of the process that builds it count as well. Replicas need machines
    that are not there yet, so their number and, on CPUs, their threads have to be said.

    Raises:
        ValueError: for settings that cannot be.
    """
    config = ClusterConfig.from_flags({**settings})
    layout, known = layout_on_demand(config), ray_serve.registry()
    groups = [
        ray_serve.replicas(config, layout, group, known, local=False) for group in layout.groups
    ]
    deployment: Any = serve.deployment(serve.ingress()(Router))
    return deployment.options(
        name=ROUTER,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=UNLIMITED,
        graceful_shutdown_timeout_s=config.drain_timeout + ray_serve.FAREWELL_S,
        logging_config=ray_serve.QUIET,
    ).bind(config, groups)


class Router:
    """A router as Ray Serve has it.

    Args:
        config: all settings.
        groups: what has to be deployed with it. It finds replicas by the registry.
    """

    def __init__(self, config: ClusterConfig, groups: Sequence[Any]) -> None:  # noqa: ARG002
        configure_logging(config.log_level.upper(), config.log_format)
        self._config = config

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Ray Serve passes requests to."""
        specs = [resolve(name) for name in self._config.model]
        return create_cluster_app(self._config, specs, ray_serve.Hearing(), ray_serve.counted)
