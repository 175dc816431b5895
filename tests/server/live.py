"""A server of this process, on a real socket."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI

from tests.patience import PATIENCE_S, wait_until
from vimserve.server.http.server import http_server


@contextmanager
def live(
    app: FastAPI,
    path: str = "/readyz",
    certificate: tuple[Path, Path] | None = None,
    **options: Any,
) -> Iterator[httpx2.Client]:
    """``with live(app) as client``: uvicorn on a free port of the loopback, ready when entered.

    Args:
        app: the application.
        path: it is ready when this one answers 200.
        certificate: with its key, for TLS.
        options: of the client.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    server = http_server(app, *(certificate or ()))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    scheme = "https" if certificate else "http"
    url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"

    def ready() -> bool:
        answer = client.get(path)
        assert answer.json()["status"] != "failed", answer.text
        return answer.status_code == 200

    try:
        with httpx2.Client(base_url=url, timeout=PATIENCE_S, **options) as client:
            wait_until(ready)
            yield client
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
