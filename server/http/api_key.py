"""API keys, which all paths but a few open ones require."""

import hmac
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vimserve.model.text_files import read_text
from vimserve.server.config import ServerConfig
from vimserve.server.errors import Unauthorized
from vimserve.server.http.problems import error_response
from vimserve.server.http.root_path import own_path
from vimserve.server.telemetry.metrics import Metrics

LEAST_LENGTH = 16


def read_keys(config: ServerConfig) -> list[str]:
    """The accepted keys: ``api_key`` and the lines of ``api_key_file``, if they are set.

    Raises:
        ValueError: if the file cannot be read or has no key, or as ``check_key``.
    """
    keys = [] if config.api_key is None else [config.api_key.get_secret_value()]
    if config.api_key_file is not None:
        keys += _lines(config.api_key_file)
    for key in keys:
        check_key(key)
    return keys


def check_key(key: str) -> None:
    """Refuse what is no key.

    Raises:
        ValueError: if it is too short or has characters that a header cannot carry.
    """
    if len(key) < LEAST_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(
            f"an API key must have at least {LEAST_LENGTH} characters, all of them printable "
            f"ASCII without spaces; replace the key of {len(key)} characters"
        )


def _lines(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in read_text(file).splitlines()]
    except (OSError, ValueError) as error:
        raise ValueError(f"api-key-file: {error}") from error
    keys = [line for line in lines if line]
    if not keys:
        raise ValueError(f"api-key-file: {file} has no key in it")
    return keys


class RequireKey:
    """ASGI middleware that answers 401 to requests without an accepted key as bearer token.

    Args:
        app: the application.
        keys: the accepted ones.
        metrics: counts the refusals.
        open_paths: what anybody may read, but not post to.
    """

    def __init__(
        self, app: ASGIApp, keys: Sequence[str], metrics: Metrics, open_paths: Collection[str]
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.open_paths = open_paths
        self._digests = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it before its body is read."""
        if scope["type"] != "http" or (
            scope["method"] in ("GET", "HEAD") and own_path(scope) in self.open_paths
        ):
            return await self.app(scope, receive, send)
        scheme, _, given = Headers(scope=scope).get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._accepts(given.strip()):
            return await self.app(scope, receive, send)
        error = Unauthorized(
            "this server requires an API key: send the header Authorization: Bearer KEY"
            if scheme.lower() != "bearer"
            else "this server does not accept the API key",
            parameter="Authorization",
        )
        self.metrics.rejected.labels(error.slug).inc()
        challenge = {"WWW-Authenticate": 'Bearer realm="vimserve"'}
        answer = error_response(scope, error.problem(), challenge)
        return await answer(scope, receive, send)

    def _accepts(self, given: str) -> bool:
        # Compare with every key in constant time, so that the time tells nothing about the keys.
        digest = _digest(given)
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
