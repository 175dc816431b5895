"""What Ray Serve's controller asks how many replicas there should be.

Its process imports this module, and nothing that is slow to import or large.
"""

import time
from typing import Any

from vimserve.server.cluster.scaling import Scaling

# The name under which each replica tells its seconds of queued work.
QUEUED_SECONDS = "queued_seconds"


class QueuedSeconds:
    """A policy of scaling, as Ray Serve has them; the arguments are those of ``Scaling``."""

    def __init__(self, least: int, most: int, target_s: float, down_after_s: float) -> None:
        self._scaling = Scaling(least, most, target_s, down_after_s)

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """The number of replicas, and no state: this object keeps it."""
        # What each has told last. Ray's averages hide that a replica has been idle in between.
        told = (context.raw_metrics or {}).get(QUEUED_SECONDS, {})
        seconds = [told[one][-1].value for one in context.running_replicas if told.get(one)]
        return self._scaling.wanted(seconds, time.monotonic()), {}
