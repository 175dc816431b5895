"""Ranks the replicas for a request by the work that they have; it needs no network and no clock.

A replica says of itself, twice a second or more often, what it has to do. Between two reports the
router adds what it has sent itself and takes off what the replica has done meanwhile, as far as its
speed tells. A replica counts the requests that it has received, and says so in its report; so the
router knows which of its own requests the report does not contain yet.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """What a replica says of itself.

    Attributes:
        replica: its id.
        models: tokens per second of each model that it serves, as far as it has learnt them; 0.0
            while it has not. A replica that drains serves none.
        queued_tokens: those that wait and run in its engine, of all models.
        queued_seconds: how long its device needs for them.
        taken: requests that it has received since it began. If they come from several routers, a
            router takes those of the others for its own, so it may leave out some of its own that
            are still on their way, but counts none twice.
        at: when the report was received, on the router's clock.
    """

    replica: str
    models: Mapping[str, float]
    queued_tokens: int
    queued_seconds: float
    taken: int
    at: float


# Speeds of less than so many times the mean and more than its so many-th part are taken for equal.
# Replicas that are equal learn different ones, and which seems the fastest would get all that comes
# while several are idle.
ALIKE = 2.0
# So many replicas at random are compared. The best of them is hardly worse than the best of all,
# and routers that do not know of one another's requests do not all take the same one.
COMPARED = 8
# About so many of the last requests tell how many come from other routers.
REMEMBERED = 1000


class Router:
    """Ranks replicas by when they would be done with one more request.

    If there are other routers, each request of this one stands for those that they send meanwhile,
    to the same replica for all it knows.

    Not thread-safe.

    Args:
        clock: tells the seconds in which reports are dated.
        stale_s: a replica whose last report is older goes behind all others, since it may be dead.
            A request that is missing in all reports of such a time did not arrive.
        choice: decides between replicas that would be done at the same time.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        stale_s: float = 5.0,
        choice: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._stale_s = stale_s
        self._choice = choice or random.Random()  # noqa: S311, nobody needs to be unable to guess it
        self._replicas: dict[str, _Replica] = {}
        self._of_all = self._own = 0.0
        self._usual = 1.0

    def report(self, report: Report) -> None:
        """Replace the replica's last report."""
        known = self._replicas.get(report.replica)
        if known is None or report.taken < known.report.taken:  # it is new, or has begun again
            self._replicas[report.replica] = _Replica(report, self._usual)
        else:
            self._of_all += report.taken - known.report.taken
            self._own += known.arrived(report.taken)
            if self._of_all > 2 * REMEMBERED:
                self._of_all, self._own = self._of_all / 2, self._own / 2
            known.replace(report, self._stale_s, self._routers)

    def forget(self, replica: str) -> None:
        """Rank a replica no more, until it reports again."""
        self._replicas.pop(replica, None)

    def rank(self, model: str, tokens: int) -> list[str]:
        """The replicas that serve the model, best first; none if none does.

        If there are many, ``COMPARED`` at random come first, ranked, and the others as it happens.

        The time is that for what a replica has to do, and for this request at its tokens per second
        for this model. While it has not learnt these, they are taken to be the mean of the others.

        Args:
            model: its name.
            tokens: of the request.
        """
        serving = [one for one in self._replicas.values() if model in one.report.models]
        serving, others = self._drawn(serving)
        speeds = [one.report.models[model] for one in serving]
        if learnt := sum(speed > 0 for speed in speeds):
            self._usual = sum(speeds) / learnt
        slow, fast = self._usual / ALIKE, self._usual * ALIKE
        now = self._clock()
        fresh_since, chance = now - self._stale_s, self._choice.random
        ranked = []
        for one, speed in zip(serving, speeds, strict=True):
            if not speed:
                one.rescale(self._usual, now)
            one.speed = self._usual if slow < speed < fast or not speed else speed
            seconds = one.left_s(now) + tokens / one.speed
            ranked.append((one.report.at < fresh_since, seconds, chance(), one.report.replica))
        ranked.sort()
        return [replica for *_, replica in ranked] + [one.report.replica for one in others]

    def sent(self, replica: str, tokens: int) -> None:
        """Note that a request of so many tokens was sent to a replica, after it was ranked."""
        if (known := self._replicas.get(replica)) is not None:
            known.send(tokens, self._clock(), self._routers)

    def _drawn(self, serving: list["_Replica"]) -> tuple[list["_Replica"], list["_Replica"]]:
        """``COMPARED`` of them, each as likely as any other, and the rest."""
        if len(serving) > COMPARED:
            for place in range(COMPARED):
                other = self._choice.randrange(place, len(serving))
                serving[place], serving[other] = serving[other], serving[place]
        return serving[:COMPARED], serving[COMPARED:]

    @property
    def _routers(self) -> float:
        """As if there were so many that send as much as this one; 1.0 if there is no other."""
        return self._of_all / self._own if self._own else 1.0


class _Replica:
    """What is known of a replica.

    Attributes:
        report: its last one.
        speed: tokens per second of the model that it was ranked for last.
    """

    def __init__(self, report: Report, speed: float) -> None:
        self.speed = speed
        # Seconds of the requests that were sent and that the report does not contain, in their
        # order.
        self._on_their_way: deque[float] = deque()
        # When reports came, and how many requests each of them did not contain. The first came
        # before the time that the others span.
        self._missing: deque[tuple[float, int]] = deque()
        self._until = 0.0
        self._count(report, 1.0)

    def left_s(self, now: float) -> float:
        """Seconds until it has done what it has to do."""
        return max(self._until - now, 0.0)

    def send(self, tokens: int, now: float, routers: float) -> None:
        """Add a request, and those of the other routers that it stands for."""
        seconds = tokens / self.speed
        self._on_their_way.append(seconds)
        self._until = max(self._until, now) + routers * seconds

    def rescale(self, speed: float, now: float) -> None:
        """Take its speed for another one than before, since it has not learnt its own."""
        if speed != self.speed:
            factor = self.speed / speed
            self._until = now + factor * self.left_s(now)
            self._on_their_way = deque(factor * seconds for seconds in self._on_their_way)

    def arrived(self, taken: int) -> int:
        """How many of those on their way have arrived if it has taken so many in all."""
        return min(taken - self.report.taken, len(self._on_their_way))

    def replace(self, report: Report, patience_s: float, routers: float) -> None:
        """Take a newer report, and give up requests that all reports of ``patience_s`` missed."""
        self._drop(self.arrived(report.taken))
        self._missing.append((report.at, len(self._on_their_way)))
        before = report.at - patience_s
        while len(self._missing) > 1 and self._missing[1][0] <= before:
            self._missing.popleft()
        if self._missing[0][0] <= before:
            lost = min(count for _, count in self._missing)
            self._drop(lost)
            self._missing = deque((at, count - lost) for at, count in self._missing)
        self._count(report, routers)

    def _count(self, report: Report, routers: float) -> None:
        self.report = report
        # It gives no seconds before it has learnt them.
        queued_s = report.queued_seconds or report.queued_tokens / self.speed
        self._until = report.at + queued_s + routers * sum(self._on_their_way)

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self._on_their_way.popleft()
