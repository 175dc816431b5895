"""What a router knows of the replicas: where they are, how they are, and which comes first."""

import logging
import time
from collections.abc import Callable, Collection, Sequence

from vimserve.server.cluster.metrics import ClusterMetrics
from vimserve.server.cluster.routing import Report, Router
from vimserve.server.cluster.standing import ALL, KEPT_S, Standing

logger = logging.getLogger(__name__)


class Directory:
    """The replicas that have spoken lately.

    Args:
        metrics: counts who comes and goes.
        clock: tells the seconds.

    Attributes:
        router: ranks the replicas.
    """

    def __init__(
        self, metrics: ClusterMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self.router = Router(clock)
        self._known: dict[str, Standing] = {}
        self._heard: dict[str, float] = {}
        # Of those that died, so that what they said before is not taken for a word of theirs.
        self._last_beats: dict[str, int] = {}
        # The last word of one that has died may be newer than what was heard; a second one is not.
        self._doubted: set[str] = set()

    def hear(self, standings: Sequence[Standing]) -> None:
        """Take what replicas have said last."""
        now = self._clock()
        for one in standings:
            before = self._known.get(one.replica)
            latest = before.beat if before else self._last_beats.get(one.replica, -1)
            if one.beat <= latest:
                continue
            if one.replica in self._doubted:
                self._doubted.remove(one.replica)
                self._last_beats[one.replica] = one.beat
                continue
            if before is None:
                self._metrics.changes.labels(one.group, "joined").inc()
                logger.info("replica %s has joined, at %s", one.replica, one.address)
            elif one.draining and not before.draining:
                self._metrics.changes.labels(one.group, "draining").inc()
                logger.info("replica %s drains", one.replica)
            self._known[one.replica], self._heard[one.replica] = one, now
            self.router.report(
                Report(
                    one.replica,
                    one.models,
                    one.queued_tokens,
                    one.queued_seconds,
                    one.taken,
                    now,
                )
            )
        named = {one.replica for one in standings}
        for name, one in [*self._known.items()]:
            if one.draining and name not in named:
                self._forget(name, "left")
            elif self._heard[name] < now - KEPT_S:
                self._forget(name, "left" if one.draining else "silent")

    def lost(self, replica: str) -> None:
        """The replica does not answer: it has ended or died."""
        if replica in self._known:
            self._doubted.add(replica)
            self._forget(replica, "left" if self._known[replica].draining else "lost")

    def rank(self, model: str | None, tokens: int) -> list[Standing]:
        """The replicas that can answer, best first; those of any model if none is named."""
        if model is not None:
            return [self._known[name] for name in self.router.rank(model, tokens)]
        return sorted(self.ready, key=lambda one: one.queued_seconds)

    def sent(self, replica: str, tokens: int) -> None:
        """A request was sent there."""
        self.router.sent(replica, tokens)

    @property
    def all(self) -> Collection[Standing]:
        """All replicas, draining ones too."""
        return self._known.values()

    @property
    def ready(self) -> list[Standing]:
        """Those that take requests."""
        return [one for one in self._known.values() if not one.draining]

    def with_job(self, job: str) -> Standing | None:
        """The replica that has the job of this id."""
        return next((one for one in self.all if job.startswith(f"{one.jobs}-")), None)

    def placed(self, model: str | None) -> list[Standing]:
        """Those that have the model, unless a client has unloaded it."""
        return [one for one in self.ready if one.group in (ALL, model)]

    def _forget(self, replica: str, change: str) -> None:
        gone = self._known.pop(replica)
        del self._heard[replica]
        self._last_beats[replica] = gone.beat
        self.router.forget(replica)
        self._metrics.changes.labels(gone.group, change).inc()
        logger.log(
            logging.INFO if change == "left" else logging.WARNING,
            "replica %s is gone: %s",
            replica,
            change,
        )
