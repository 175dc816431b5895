"""``vimserve serve``: the process around the application."""

import logging
import os
import signal
import socket

import torch
import uvicorn

from model.catalog import resolve
from server.app import create_app
from server.config import ServerConfig

logger = logging.getLogger(__name__)


def serve(config: ServerConfig) -> int:
    """Serve until a signal ends it; requests that were accepted are answered first.

    Raises:
        ValueError: for an unknown model, a checkpoint that cannot be used, an unusable device.
        OSError: if the port cannot be had.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    specs = [resolve(name) for name in config.model]
    # Taken before the models load, so that a port in use is known at once.
    listener = _listen(config.host, config.port)
    _configure_logging(config.log_level.upper())

    def leave(*_: object) -> None:
        server.should_exit = True

    app = create_app(config, specs, on_failure=leave)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(config.request_timeout) + 1,
        )
    )
    # uvicorn raises the signal again once it has shut down in good order, and that is no failure.
    signal.signal(signal.SIGTERM, leave)
    host, port = listener.getsockname()[:2]
    logger.info("loading %s", ", ".join(spec.name for spec in specs))
    logger.info("listening on http://%s:%d, try /docs", f"[{host}]" if ":" in host else host, port)
    status = 0
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        status = 130
    engine = app.state.engine
    if engine.failure is not None:
        raise ValueError(engine.failure) from engine.failure
    if engine.alive:
        # A model still loads, and its thread would crash if the interpreter went first.
        logging.shutdown()
        os._exit(status)
    return status


def _configure_logging(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # Not the root's: libraries that have handlers of their own would say everything twice.
    for name, least in (("server", level), ("model", level), ("uvicorn", "WARNING")):
        named = logging.getLogger(name)
        named.addHandler(handler)
        named.setLevel(least)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise OSError(f"cannot listen on {host}:{port}: {reason}; choose another --port") from error
