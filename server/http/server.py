"""uvicorn, made to end what never ends by itself: slow clients, and its own life."""

import asyncio
import fcntl
import logging
import os
import socket
import sys
import termios
from http import HTTPStatus
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vimserve.server.errors import problem
from vimserve.server.http.drain import FAREWELL_S, Drain
from vimserve.server.http.problems import problem_response
from vimserve.server.telemetry import request_id

# What a client gets to send the whole head of a request, or to read anything of an answer.
CLIENT_TIMEOUT_S = 10.0
MAX_HEAD_BYTES = 65_536
# uvicorn reads on while requests wait for those before them on the same connection.
MAX_PIPELINED = 100


class Protocol(HttpToolsProtocol):
    """One connection; a client that stalls loses it.

    uvicorn only bounds the idle time between two requests. Here the head of a request must be
    complete within ``CLIENT_TIMEOUT_S`` after the connection was made or the last answer given,
    whatever trickles in meanwhile, and an answer that a client does not read ends likewise. Nor
    does uvicorn bound the size of a head, and the number of requests sent ahead.
    """

    _timer: asyncio.TimerHandle | None = None
    _unsent = 0
    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left, or was made to."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The client sent something."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, f"the head of the request has more than {MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("the parser makes a 400 of it")
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """From here on the application has its own timeouts."""
        self._in_head = False
        if not self.flow.write_paused:
            self._stop_timer()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """The next request may come; the rest of this one's body may never end."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._start_timer()

    def pause_writing(self) -> None:
        """The client reads more slowly than the server writes."""
        super().pause_writing()
        self._start_timer()

    def resume_writing(self) -> None:
        """The client has caught up."""
        if not self.cycle.response_complete:
            self._stop_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, like everything else with a problem."""
        self._refuse(400, msg)

    def _refuse(self, status: int, detail: str) -> None:
        name = request_id.accept(None)
        answer = problem_response(
            problem(status, detail) | {"request_id": name},
            {request_id.HEADER: name, "Connection": "close"},
        )
        head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        head += [b"%s: %s" % header for header in answer.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(answer.body)]))
        self.transport.close()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._unsent = self._count_unsent()
        self._timer = self.loop.call_later(CLIENT_TIMEOUT_S, self._time_is_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _time_is_up(self) -> None:
        if self._count_unsent() < self._unsent:
            self._start_timer()
        else:
            self.transport.abort()

    def _count_unsent(self) -> int:
        """Bytes that the client has not read, the kernel's megabytes included."""
        number = self.transport.get_extra_info("socket").fileno()
        queued = fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)


class Server(uvicorn.Server):
    """Stops in the order that load balancers need.

    After the first signal it still listens: /readyz says that it is stopping and new requests get
    503, while those under way are answered. Only then it closes the door. A second signal ends it
    at once.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Not uvicorn's, which would raise the signal again in the end."""
        if self.should_exit:
            logging.shutdown()
            os._exit(128 + sig)
        self._drain.begin()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is under way, then close."""
        await self._drain.finish()
        await super().shutdown(sockets)


def http_server(
    app: FastAPI, certificate: Path | None = None, private_key: Path | None = None
) -> Server:
    """A server of an application of ours, not yet running; with a certificate, for HTTPS.

    Raises:
        OSError: if the certificate or its key cannot be used.
    """
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=FAREWELL_S,
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
    )
    try:
        config.load()
    except OSError as error:
        raise OSError(
            f"the certificate {certificate} and the key {private_key} cannot be used: "
            f"{error.strerror or error}"
        ) from error
    return Server(config, app.state.drain)
