"""Says how many replicas there should be; it needs no network and no clock."""

import math
import statistics
from collections import deque
from collections.abc import Sequence

# More replicas than twice those that run are not asked for at once: what waits while they start
# says too much, because it waits for all of them.
FASTEST = 2


class Scaling:
    """Keeps the seconds of queued work per replica below a target.

    Up at once: if replicas have more than ``target_s`` on average, there should be as many as would
    have ``target_s`` each. A short queue does not tell how many are too many, as it is short at any
    load below the capacity. So going down follows how many replicas have work at all: once no
    average was above the target for ``down_after_s``, there should be so many that ``most_busy`` of
    them have work, if that is fewer than now. That share is well below the one at which queues grow
    to the target, so going down is not followed by going up.

    Args:
        least: replicas that there are at any rate, at least 1.
        most: replicas that there are at most.
        target_s: seconds of queued work per replica above which there should be more.
        down_after_s: for how long there must have been too many.
        most_busy: the share of the replicas that may have work after going down.

    Raises:
        ValueError: if ``least`` is below 1 or above ``most``, ``target_s`` is not above 0,
            ``down_after_s`` is below 0, or ``most_busy`` is not above 0 and at most 1.
    """

    def __init__(
        self,
        least: int,
        most: int,
        target_s: float,
        down_after_s: float = 300.0,
        most_busy: float = 0.7,
    ) -> None:
        if not 1 <= least <= most:
            raise ValueError(
                f"replicas must be from at least 1 to as many or more, not {least} to {most}"
            )
        if not target_s > 0:
            raise ValueError(f"seconds of queued work must be above 0, not {target_s:g}")
        if not down_after_s >= 0:
            raise ValueError(f"the delay before going down must be at least 0 s: {down_after_s:g}")
        if not 0 < most_busy <= 1:
            raise ValueError(f"the busy share must be above 0 and at most 1, not {most_busy:g}")
        self._least = least
        self._most = most
        self._target_s = target_s
        self._down_after_s = down_after_s
        self._most_busy = most_busy
        # 0 until it is asked while some run: those are not too many before that has been seen.
        self._wanted = 0
        # When it was asked and how many had work, since there last were too few or too many. The
        # first time is before those that count.
        self._busy: deque[tuple[float, int]] = deque()

    def wanted(self, queued_seconds: Sequence[float], now: float) -> int:
        """How many replicas there should be.

        Args:
            queued_seconds: what each replica that runs has to do, including what it is at.
            now: the present time in seconds.
        """
        running, total = len(queued_seconds), sum(queued_seconds)
        if not running:
            return self._wanted or self._least
        wanted = self._wanted or min(max(running, self._least), self._most)
        if total > self._target_s * running:
            enough = min(math.ceil(total / self._target_s), FASTEST * running, self._most)
            self._wanted = max(wanted, enough)
            self._busy.clear()
        else:
            self._busy.append((now, sum(seconds > 0 for seconds in queued_seconds)))
            self._wanted = self._down(wanted, now)
        return self._wanted

    def _down(self, wanted: int, now: float) -> int:
        """As many as are enough, if they are fewer than ``wanted`` and that was long enough so."""
        before = now - self._down_after_s
        while len(self._busy) > 1 and self._busy[1][0] <= before:
            self._busy.popleft()
        if self._busy[0][0] > before:
            return wanted
        busy = statistics.fmean(busy for _, busy in self._busy)
        enough = max(math.ceil(busy / self._most_busy), self._least)
        if enough < wanted:
            self._busy.clear()
        return min(enough, wanted)
