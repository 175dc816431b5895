"""``vimserve serve``: the process around the application."""

import logging
import signal
import socket
import sys

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
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    if config.log_level != "debug":
        logging.getLogger("uvicorn").setLevel(logging.WARNING)

    def give_up() -> None:
        server.should_exit = True

    app = create_app(config, specs, on_failure=give_up)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(config.request_timeout) + 1,
        )
    )
    # uvicorn raises the signal again once it has shut down in good order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    host, port = listener.getsockname()[:2]
    logger.info("loading %s", ", ".join(spec.name for spec in specs))
    logger.info("listening on http://%s:%d, try /docs", f"[{host}]" if ":" in host else host, port)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return 130
    if app.state.engine.failure is not None:
        raise ValueError(app.state.engine.failure) from app.state.engine.failure
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise OSError(f"cannot listen on {host}:{port}: {reason}; choose another --port") from error
