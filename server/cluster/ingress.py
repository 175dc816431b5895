"""The router in front of the replicas, an ASGI application at the one address of a cluster.

It passes requests on by HTTP, unchanged, to a replica that it chooses by the head of the image, and
passes answers back. So a replica answers as the single server does, for it is that.
"""

import time
from collections.abc import Collection, Sequence

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from vimserve.model.spec import ModelSpec
from vimserve.server.cluster import merge
from vimserve.server.cluster.body import Body
from vimserve.server.cluster.demand import Demands, size_in
from vimserve.server.cluster.directory import Directory
from vimserve.server.cluster.errors import ReplicaLost
from vimserve.server.cluster.metrics import ClusterMetrics
from vimserve.server.cluster.own import Answers
from vimserve.server.cluster.standing import ALL, Standing
from vimserve.server.cluster.upstream import Answer, Unreachable, Upstream
from vimserve.server.config import ServerConfig
from vimserve.server.errors import NotReady, UnknownModel
from vimserve.server.http.drain import Drain
from vimserve.server.http.root_path import own_path
from vimserve.server.http.uploads import declared_bytes

# The head of an image is in the first bytes; whoever sends them slowly is routed without it.
HEAD_BYTES, HEAD_S = 262_144, 0.1
# A replica says itself when a request's time is over; so much later it counts as hung.
GRACE_S = 10.0
_CHANGES = ("load", "unload")


class Ingress:
    """Chooses a replica for each request; another one if that refuses.

    Args:
        specs: all models, the default one first.
        config: the settings of every replica.
        own: what the router answers itself, by path.
        directory: knows the replicas.
        upstream: connects to them.
        metrics: counts the decisions.
        drain: lets the server wait for requests when it stops.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        config: ServerConfig,
        own: Answers,
        directory: Directory,
        upstream: Upstream,
        metrics: ClusterMetrics,
        drain: Drain,
    ) -> None:
        self._names = [spec.name for spec in specs]
        self._config = config
        self._own = own
        self._demands = Demands(specs, config)
        self._directory = directory
        self._upstream = upstream
        self._metrics = metrics
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Raises:
            ServerError: no replica answers it.
            ClientDisconnect: the client hung up.
        """
        path = own_path(scope)
        # With a query, such as ?probe=true, a replica says how it is.
        if scope["method"] == "GET" and path in self._own and not scope["query_string"]:
            response = await self._own[path](Request(scope))
            await response(scope, receive, send)
            return
        if scope["method"] == "POST":
            with self._drain.request():
                answer = await self._answer(scope, receive)
        else:
            answer = await self._answer(scope, receive)
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": answer.headers,
            }
        )
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        arrived = time.monotonic()
        request, body, path = Request(scope), Body(receive), own_path(scope)
        if path in merge.LISTS:
            return await self._of_all(scope, body, merge.LISTS[path], self._groups())
        model = self._demands.model(path, request.query_params)
        if model in self._names:
            request.state.model = model
        if path.startswith("/v2/models/") and path.endswith("/stats"):
            having = [one for one in self._directory.ready if model in (None, *one.models)]
            return await self._of_all(scope, body, merge.statistics, having)
        if path.startswith("/v2/repository/models/") and path.endswith(_CHANGES):
            having = self._directory.placed(model) or self._directory.ready
            return await self._of_all(scope, body, None, having)
        if path.startswith("/v1/jobs/"):
            job = path.removeprefix("/v1/jobs/").partition("/")[0]
            if (holder := self._directory.with_job(job)) is not None:
                return await self._ask(holder, scope, body, arrived)
        if scope["method"] != "POST":
            return await self._first(self._rank(model, 0), scope, body, arrived)
        tokens = await self._tokens(request, body, model)
        self._metrics.decision_seconds.observe(time.monotonic() - arrived)
        return await self._first(self._rank(model, tokens), scope, body, arrived, tokens)

    async def _tokens(self, request: Request, body: Body, model: str | None) -> int:
        kind, limit = request.headers.get("content-type", ""), self._config.max_pixels
        found = []

        def enough(head: bytes) -> bool:
            found.append(size_in(head, kind, limit))
            return found[-1] is not None

        await body.head(enough, HEAD_BYTES, HEAD_S)
        size = found[-1] if found else None
        query = QueryParams(request.scope["query_string"])
        return self._demands.tokens(model, query, size, declared_bytes(request))

    def _rank(self, model: str | None, tokens: int) -> list[Standing]:
        """The replicas to ask, in this order.

        Raises:
            NotReady: there is none.
            UnknownModel: there is no such model.
        """
        if not self._directory.ready:
            raise NotReady("the server is loading", limit="ready", value="loading")
        if model in self._names:
            # If clients have unloaded it, those that had it say so.
            ranked = self._directory.rank(model, tokens) or self._directory.placed(model)
            if not ranked:
                raise NotReady(
                    f"no replica is ready for model {model!r}", limit="ready", value="loading"
                )
            return ranked
        if model is not None and len(self._groups()) > 1:  # each knows only its own
            raise UnknownModel(
                f"no model {model!r} is served; choose one of {', '.join(self._names)}",
                parameter="model",
                limit=self._names,
                value=model,
            )
        return self._directory.rank(None, tokens)

    def _groups(self) -> list[Standing]:
        """A replica of each group, in the order of their models."""
        by_group = {one.group: one for one in self._directory.ready}
        return [by_group[name] for name in (ALL, *self._names) if name in by_group]

    async def _first(
        self,
        replicas: Sequence[Standing],
        scope: Scope,
        body: Body,
        arrived: float,
        tokens: int = 0,
    ) -> Answer:
        """The answer of the first replica that does not refuse the request."""
        refusals: list[Answer] = []
        for one in replicas:
            if scope["method"] == "POST":
                self._directory.sent(one.replica, tokens)
            self._metrics.routed.labels(one.replica, "next" if refusals else "first").inc()
            self._metrics.routed_tokens.labels(one.replica).inc(tokens)
            try:
                answer = await self._ask(one, scope, body, arrived)
            except Unreachable:
                self._directory.lost(one.replica)
                continue
            if not answer.refused:
                return answer
            refusals.append(answer)
        if not refusals:
            raise NotReady("no replica can be reached", limit="ready", value="loading")
        # What has the best chance: first of those that are full, not of those that stop.
        return min(refusals, key=lambda refusal: (refusal.status, refusal.retry_after_s))

    async def _ask(self, one: Standing, scope: Scope, body: Body, arrived: float) -> Answer:
        waited_s = time.monotonic() - arrived
        try:
            return await self._upstream.ask(
                one.address, scope, body, waited_s, self._longest_s(scope) - waited_s
            )
        except ReplicaLost:
            # It may only have cut this connection, such as after an answer in the middle of a body.
            if not await self._upstream.reaches(one.address):
                self._directory.lost(one.replica)
            raise

    def _longest_s(self, scope: Scope) -> float:
        """Seconds after which a replica must have answered."""
        given = Request(scope).headers.get("x-request-timeout-ms", "")
        timeout_s = int(given[:9]) / 1000 if given.isdecimal() else 0.0
        usual = max(self._config.request_timeout, self._config.job_timeout)
        return (timeout_s or usual) + GRACE_S

    async def _of_all(
        self,
        scope: Scope,
        body: Body,
        whole: merge.Merge | None,
        replicas: Collection[Standing],
    ) -> Answer:
        """One answer of several replicas, or the first that is an error.

        They are asked one after another, so that never all of them are busy with it.
        """
        if not replicas:
            raise NotReady("the server is loading", limit="ready", value="loading")
        answers: list[Answer] = []
        for one in replicas:
            try:
                answer = await self._ask(one, scope, body, time.monotonic())
            except Unreachable:
                self._directory.lost(one.replica)
                continue
            except ReplicaLost:
                continue
            if answer.status >= 400:
                return answer
            answers.append(answer)
        if not answers:
            raise NotReady("no replica can be reached", limit="ready", value="loading")
        last = answers[-1]
        if whole is None or len(answers) == 1:
            return last
        content = merge.merged(whole, [answer.body for answer in answers])
        length = (b"content-length", str(len(content)).encode())
        headers = [pair for pair in last.headers if pair[0].lower() != b"content-length"]
        return Answer(last.status, [*headers, length], content)
