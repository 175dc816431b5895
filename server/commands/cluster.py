"""``vimserve cluster``: one address, and replicas of the server behind it."""

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Self

import torch

from vimserve.model.catalog import resolve
from vimserve.model.cpus import usable_cpus
from vimserve.server.cluster import ray_environment
from vimserve.server.cluster.groups import Machine, layout_of
from vimserve.server.commands.serve import announce, listen
from vimserve.server.config.cluster import ClusterConfig
from vimserve.server.http.server import Server, http_server
from vimserve.server.telemetry.logs import configure_logging

if TYPE_CHECKING:
    from fastapi import FastAPI

    from vimserve.model.spec import ModelSpec
    from vimserve.server.cluster.app import Hear  # it needs the extra
    from vimserve.server.cluster.own import Counted

    Create = Callable[[ClusterConfig, Sequence[ModelSpec], Hear, Counted], FastAPI]

# How often it is looked whether replicas can be started.
LOOK_S = 1.0

logger = logging.getLogger(__name__)


def cluster(config: ClusterConfig, create: "Create | None" = None) -> int:
    """Serve until a signal arrives, then answer what was accepted, stop the replicas and return.

    Args:
        config: all settings.
        create: builds the application at the address; by default ``create_cluster_app``.

    Raises:
        ValueError: for settings that cannot be, or replicas that cannot be started.
        OSError: if the port or the TLS certificate cannot be used, or no cluster answers.
    """
    specs = [resolve(name) for name in config.model]
    here = Machine(usable_cpus(), torch.cuda.device_count())
    if config.ray_address is None:
        layout = layout_of(config, [here])
        ray_environment.of_this_machine()
    try:
        from vimserve.server.cluster import ray_machines, ray_serve
        from vimserve.server.cluster.app import create_cluster_app
    except ImportError as error:
        raise ValueError(
            f"a cluster needs the extra ray: pip install 'vimserve[ray]' ({error})"
        ) from error

    with listen(config.host, config.port) as listener:
        if config.ray_address is None:
            ray_machines.start(layout, here)
        else:
            layout = layout_of(config, ray_machines.connect(config.ray_address))
        configure_logging(config.log_level.upper(), config.log_format)
        try:
            began = ray_serve.deploy(config, layout)
            build = create or create_cluster_app
            app = build(config, specs, ray_serve.Hearing(), ray_serve.counted)
            server = http_server(app, config.tls_certificate, config.tls_key)
            if began:
                server.meanwhile = partial(ray_serve.remove, layout)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, server.handle_exit)  # before uvicorn does the same
            renew = partial(ray_serve.deploy, config, layout)
            with Watch(partial(ray_serve.failure, layout), renew, server) as watch:
                signal.signal(signal.SIGHUP, watch.renew)
                announce(config, listener)
                server.run(sockets=[listener])
            if watch.failure is not None:
                raise ValueError(watch.failure)
        finally:
            ray_machines.end()
    return 0


class Watch(threading.Thread):
    """Looks again and again whether replicas can be started; if not, the server ends.

    Args:
        look: says why not.
        renew: updates the replicas where their models' files have changed.
        server: the server.

    Attributes:
        failure: why the server has ended, if it could not go on.
    """

    def __init__(
        self, look: Callable[[], str | None], renew: Callable[[], object], server: Server
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self.failure: str | None = None
        self._look = look
        self._renew = renew
        self._asked = threading.Event()
        self._server = server
        self._ended = threading.Event()

    def run(self) -> None:
        """Look until the server ends."""
        while not self._server.should_exit and not self._ended.wait(LOOK_S):
            try:
                if self._asked.is_set():
                    self._asked.clear()
                    self._renew()
                self.failure = self._look()
            except Exception as error:  # what runs goes on
                logger.error("Ray does not do what it is asked to: %s", error)
            if self.failure is not None:
                self._server.should_exit = True

    def renew(self, _number: int, _frame: FrameType | None) -> None:
        """Update the replicas soon; a handler of signals."""
        self._asked.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()
