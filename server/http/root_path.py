"""The prefix under which a proxy shows the server."""

from collections.abc import Iterable

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class BelowPrefix:
    """ASGI middleware that takes a request's path with the proxy's prefix or without it.

    Args:
        app: the application, whose ``root_path`` is the prefix.
        prefix: begins with a slash and does not end with one.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; as ASGI has it, its path is the whole one."""
        if scope["type"] == "http":
            path = scope["path"]
            if path == self.prefix:
                # The playground's addresses are relative to a path that ends with a slash.
                return await RedirectResponse(f"{path}/")(scope, receive, send)
            if not path.startswith(f"{self.prefix}/"):
                path = self.prefix + path
            scope = {**scope, "root_path": self.prefix, "path": path}
        return await self.app(scope, receive, send)


def own_path(scope: Scope) -> str:
    """The path of a request as the routes have it, without a proxy's prefix."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def check_prefix(prefix: str, paths: Iterable[str]) -> None:
    """Refuse a prefix that cannot be told from the application's own paths.

    Raises:
        ValueError: if one of the paths begins with it.
    """
    if taken := [path for path in paths if f"{path}/".startswith(f"{prefix}/")]:
        raise ValueError(f"root-path: {prefix} begins {taken[0]}, a path of the server itself")
