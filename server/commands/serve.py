"""``vimserve serve``: the server's process."""

import logging
import os
import signal
import socket

from vimserve.model.catalog import resolve
from vimserve.model.threads import use_threads
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.http.server import http_server
from vimserve.server.telemetry.logs import configure_logging

logger = logging.getLogger(__name__)


def serve(config: ServerConfig) -> int:
    """Serve until a signal arrives, then answer the accepted requests and return.

    Raises:
        ValueError: for an unknown model, a checkpoint that cannot be used, an unusable device.
        OSError: if the port or the TLS certificate cannot be used.
    """
    use_threads(config.threads)
    specs = [resolve(name) for name in config.model]
    # Listen before the models load, so that a port in use is reported at once.
    listener = listen(config.host, config.port)
    configure_logging(config.log_level.upper(), config.log_format)

    def leave() -> None:
        server.should_exit = True

    app = create_app(config, specs, on_failure=leave)
    server = http_server(app, config.tls_certificate, config.tls_key)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)  # before uvicorn does the same
    logger.info("loading %s", ", ".join(spec.name for spec in specs))
    announce(config, listener)
    server.run(sockets=[listener])
    engine = app.state.engine
    if engine.failure is not None:
        raise ValueError(engine.failure) from engine.failure
    if engine.alive:
        # A model still loads or hangs. Its thread would crash while the interpreter shuts down.
        logging.shutdown()
        os._exit(0)
    return 0


def announce(config: ServerConfig, listener: socket.socket) -> None:
    """Tell the log where the server is."""
    host, port = listener.getsockname()[:2]
    scheme = "http" if config.tls_certificate is None else "https"
    shown = f"[{host}]" if ":" in host else host
    hint = "open it in a browser" if config.playground else "try /docs"
    logger.info("listening on %s://%s:%d, %s", scheme, shown, port, hint)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise OSError(f"cannot listen on {host}:{port}: {reason}; choose another --port") from error
