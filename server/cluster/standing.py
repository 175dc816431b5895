"""What replicas say of themselves, and where they say it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# How often a replica speaks, and after how long without a word it counts as gone.
EVERY_S, KEPT_S = 0.25, 10.0
# The group of replicas that serve all models; others are named by their model.
ALL = "all"


@dataclass(frozen=True)
class Standing:
    """How a replica is.

    Attributes:
        replica: its id.
        group: the name of its group.
        address: HOST:PORT of its server.
        jobs: what the ids of its jobs begin with.
        beat: counts its words, so that an old one is not taken for a new one.
        models: tokens per second of each model that is ready; none once it drains.
        queued_tokens: that wait and run.
        queued_seconds: until they have run.
        taken: requests that were sent to it.
        draining: whether it takes no more requests.
        identities: of the weights of each model that is loaded; see ``model.identity``.
    """

    replica: str
    group: str
    address: str
    jobs: str
    beat: int
    models: Mapping[str, float]
    queued_tokens: int
    queued_seconds: float
    taken: int
    draining: bool = False
    identities: Mapping[str, str] = field(default_factory=dict)


class Registry:
    """Where replicas say how they are and routers hear it. It may lose all that it knows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, tuple[float, Standing]] = {}

    def publish(self, standing: Standing) -> None:
        """Replace what the replica said before."""
        self._heard[standing.replica] = self._clock(), standing

    def leave(self, replica: str) -> None:
        """Forget a replica that has ended."""
        self._heard.pop(replica, None)

    def standings(self) -> list[Standing]:
        """Of all replicas that have said something lately."""
        since = self._clock() - KEPT_S
        self._heard = {name: one for name, one in self._heard.items() if one[0] > since}
        return [standing for _, standing in self._heard.values()]
