"""Passes requests on to replicas by HTTP."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp
from starlette.requests import ClientDisconnect
from starlette.types import Scope
from yarl import URL

from vimserve.server.cluster.body import Body
from vimserve.server.cluster.errors import ReplicaLost, ReplicaSilent
from vimserve.server.cluster.replica import WAITED
from vimserve.server.telemetry import request_id

# Shorter than what a server keeps a connection for that nobody uses, so that none is used which it
# is just closing.
KEPT_S = 3.0
CONNECT_S = 2.0
# A connection's own headers (RFC 9110, section 7.6.1) and what the other connection says anew.
_HOP = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade expect".split()
)
# What the router itself says in a request and in an answer.
_ASKED = _HOP | {request_id.HEADER.lower().encode(), WAITED.lower().encode()}
_ANSWERED = _HOP | {request_id.HEADER.lower().encode(), b"date"}

Headers = list[tuple[bytes, bytes]]


class Unreachable(Exception):  # noqa: N818, it says what happened
    """No connection to the replica, so it has not got the request."""


@dataclass(frozen=True)
class Answer:
    """What a replica has answered."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """The value of a header, whose name is in small letters."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def refused(self) -> bool:
        """Whether this replica has done nothing for the request, which another one may answer."""
        return self.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

    @property
    def retry_after_s(self) -> int:
        """When to try again."""
        value = self.header(b"retry-after") or b""
        return int(value) if value.isdigit() else 0


class Upstream:
    """Connections to the servers of replicas; they belong to one event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Upstream":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            max_field_size=65_536,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None  # noqa: S101
        await self._session.close()

    async def ask(
        self, address: str, scope: Scope, body: Body, waited_s: float, timeout_s: float
    ) -> Answer:
        """Pass a request on while its body arrives.

        Args:
            address: HOST:PORT of the replica.
            scope: of the request.
            body: of the request.
            waited_s: for which the request has been here.
            timeout_s: seconds until it is given up.

        Raises:
            Unreachable: the replica has not got it.
            ReplicaLost: the replica died.
            ReplicaSilent: the time is over.
            ClientDisconnect: the client hung up.
        """
        asking = asyncio.ensure_future(self._ask(address, scope, body, waited_s))
        leaving = asyncio.ensure_future(body.departure())
        try:
            await asyncio.wait(
                {asking, leaving}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if asking.done():
                return asking.result()
            if leaving.done():
                raise ClientDisconnect
            raise ReplicaSilent(
                f"no answer within {timeout_s:g} s from the replica that has the request",
                limit=timeout_s,
                value=timeout_s,
            )
        finally:
            for task in (asking, leaving):
                task.cancel()
            await asyncio.gather(asking, leaving, return_exceptions=True)

    async def get(self, address: str, path: str, headers: Headers, timeout_s: float) -> Answer:
        """What a replica answers to a GET.

        Raises:
            Unreachable, ReplicaLost: it does not.
        """
        scope = {"method": "GET", "raw_path": path.encode(), "headers": headers}
        return await asyncio.wait_for(self._ask(address, scope, None, 0.0), timeout_s)

    async def reaches(self, address: str) -> bool:
        """Whether something still listens at the address of a replica."""
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(host, int(port))
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    async def _ask(self, address: str, scope: Scope, body: Body | None, waited_s: float) -> Answer:
        assert self._session is not None  # noqa: S101
        try:
            async with self._session.request(
                scope["method"],
                _url(address, scope),
                headers=_headers(scope, waited_s),
                data=None if body is None or body.empty else body.stream(),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_S),
            ) as response:
                content = await response.read()
                if body is not None and not body.complete:
                    response.close()  # it has answered before it had the body
                return Answer(response.status, _without(response.raw_headers, _ANSWERED), content)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(str(error)) from error
        except aiohttp.ClientError as error:
            if body is not None and body.gone:  # that is what cut the connection
                raise ClientDisconnect from error
            raise ReplicaLost(
                "the replica that worked on the request has died; send the request again",
                value=type(error).__name__,
            ) from error


def _url(address: str, scope: Scope) -> URL:
    path: bytes = scope["raw_path"]
    if query := scope.get("query_string", b""):
        path += b"?" + query
    # As it came, except for bytes that no address may have.
    target = quote(path, safe="".join(map(chr, range(0x21, 0x7F))))
    return URL(f"http://{address}{target}", encoded=True)


def _headers(scope: Scope, waited_s: float) -> list[tuple[str, str]]:
    headers = [
        (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
        for name, value in _without(scope["headers"], _ASKED)
    ]
    headers.append((WAITED, str(int(waited_s * 1000))))
    if name := request_id.current.get():
        headers.append((request_id.HEADER, name))
    if scope.get("scheme") == "https" and all(k.lower() != "x-forwarded-proto" for k, _ in headers):
        headers.append(("X-Forwarded-Proto", "https"))
    return headers


def _without(headers: Iterable[Any], names: frozenset[bytes]) -> Headers:
    pairs = [(bytes(name), bytes(value)) for name, value in headers]
    named = {
        one.strip().lower()
        for name, value in pairs
        if name.lower() == b"connection"
        for one in value.split(b",")
    }
    return [(name, value) for name, value in pairs if name.lower() not in names | named]
