"""``vimserve cluster`` whose router can be exchanged while its replicas run.

After ``POST /by/requests`` two choices by requests in flight rank the replicas, as by default in
Ray Serve; after ``POST /by/tokens`` the cluster's own router, which begins anew.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vimserve.model.spec import ModelSpec
from vimserve.server.cluster.app import Hear, create_cluster_app
from vimserve.server.cluster.directory import Directory
from vimserve.server.cluster.own import Counted
from vimserve.server.cluster.routing import Router
from vimserve.server.commands.cluster import cluster
from vimserve.server.config.cluster import ClusterConfig

COMMAND = ("vimserve.loadtests.cluster.routers",)
PATH = "/by/"

# Where the present request was sent; the last of these has it.
_sent: ContextVar[list[str]] = ContextVar("sent")


class ByRequests(Router):
    """Ranks replicas by the requests that they have, which it knows at once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._in_flight: Counter[str] = Counter()

    def rank(self, model: str, tokens: int) -> list[str]:
        """Two of them at random, the one with fewer requests first, and then the others."""
        names = super().rank(model, tokens)
        random.shuffle(names)
        return sorted(names[:2], key=self._in_flight.__getitem__) + names[2:]

    def sent(self, replica: str, tokens: int) -> None:
        """Note that a request was sent to a replica, and that the one before has it no more."""
        super().sent(replica, tokens)
        sent = _sent.get()
        self.ended(sent)
        sent.append(replica)
        self._in_flight[replica] += 1

    def ended(self, sent: Sequence[str]) -> None:
        """Note that a request has ended that was sent to these replicas."""
        if sent:
            self._in_flight[sent[-1]] -= 1


ROUTERS: dict[str, type[Router]] = {"tokens": Router, "requests": ByRequests}


class Exchange:
    """ASGI middleware that exchanges the router, and tells it which requests have ended."""

    def __init__(self, app: ASGIApp, directory: Directory) -> None:
        self.app = app
        self._directory = directory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, unless it is meant for this."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"].startswith(PATH):
            self._directory.router = ROUTERS[scope["path"].removeprefix(PATH)](time.monotonic)
            await Response(status_code=204)(scope, receive, send)
        else:
            await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent: list[str] = []
        before = _sent.set(sent)
        try:
            await self.app(scope, receive, send)
        finally:
            _sent.reset(before)
            if isinstance(router := self._directory.router, ByRequests):
                router.ended(sent)


def create(
    config: ClusterConfig, specs: Sequence[ModelSpec], hear: Hear, counted: Counted
) -> FastAPI:
    """The application of a cluster, with exchangeable routers."""
    app = create_cluster_app(config, specs, hear, counted)
    app.add_middleware(Exchange, directory=app.state.directory)
    return app


def main() -> int:
    """Serve until a signal arrives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--replicas", required=True)
    parser.add_argument("--threads", required=True, type=int)
    given = parser.parse_args()
    return cluster(
        ClusterConfig(
            model=(given.model,),
            replicas=given.replicas,
            threads=given.threads,
            host="127.0.0.1",
            port=0,
        ),
        create,
    )


if __name__ == "__main__":
    raise SystemExit(main())
