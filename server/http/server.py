"""uvicorn, with limits for slow clients and a graceful shutdown."""

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
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vimserve.server.errors import problem
from vimserve.server.http.drain import FAREWELL_S, Drain
from vimserve.server.http.problems import problem_response
from vimserve.server.http.uploads import CHUNKS
from vimserve.server.telemetry import request_id

# Time that a client has to send the head of a request, or to read some bytes of an answer.
CLIENT_TIMEOUT_S = 10.0
MAX_HEAD_BYTES = 65_536
# uvicorn puts no limit on requests that wait for earlier ones on the same connection.
MAX_PIPELINED = 100


class Protocol(HttpToolsProtocol):
    """One connection, which is cut if the client stalls.

    uvicorn only limits the idle time between two requests. This class also limits:

    - the time for the head of a request: it must be complete within ``CLIENT_TIMEOUT_S`` after
      the connection was made or the last answer was sent;
    - the time in which the client reads nothing of an answer, to ``CLIENT_TIMEOUT_S``;
    - the size of a head, to ``MAX_HEAD_BYTES``;
    - the requests that wait on the connection, to ``MAX_PIPELINED``.

    It tells the application how many chunks of a body have arrived, in ``scope[CHUNKS]``.
    """

    _timer: asyncio.TimerHandle | None = None
    _unsent = 0
    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first head."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the bytes; refuse a head that is too large."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, f"the head of the request has more than {MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """Begin a request, unless too many wait already."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many pipelined requests")  # uvicorn answers it with 400
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the timer: from here on the application's timeouts apply."""
        self._in_head = False
        if not self.flow.write_paused:
            self._stop_timer()
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Count the chunk."""
        scope = cast("dict[str, Any]", self.scope)
        scope[CHUNKS] = scope.get(CHUNKS, 0) + 1

    def on_response_complete(self) -> None:
        """Start the timer for the next head; it also ends a body that nobody reads."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._start_timer()

    def pause_writing(self) -> None:
        """Start the timer, because the client reads more slowly than the server writes."""
        super().pause_writing()
        self._start_timer()

    def resume_writing(self) -> None:
        """Stop the timer, because the client has caught up."""
        if not self.cycle.response_complete:
            self._stop_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP with a problem, like any other error."""
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
        """Bytes that the client has not read, including those in the kernel's send buffer."""
        number = self.transport.get_extra_info("socket").fileno()
        queued = fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)


def _nothing() -> None:
    pass


class Server(uvicorn.Server):
    """Stops in the order that load balancers need.

    After the first signal it still listens: /readyz says that it is stopping, new requests get
    503, and those in progress are answered. Then it stops listening. A second signal ends the
    process at once.

    Attributes:
        meanwhile: what else ends while requests in progress are answered; it may block.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain
        self.meanwhile = _nothing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin to stop. uvicorn's own handler would raise the signal again at the end."""
        if self.should_exit:
            logging.shutdown()
            os._exit(128 + sig)
        self._drain.begin()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer the requests in progress, then close."""
        await asyncio.gather(self._drain.finish(), asyncio.to_thread(self.meanwhile))
        await super().shutdown(sockets)


def http_server(
    app: FastAPI, certificate: Path | None = None, private_key: Path | None = None
) -> Server:
    """A server for ``app``, not yet running; with a certificate it serves HTTPS.

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
