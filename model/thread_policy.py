"""Chooses a number of threads by trying others as passes run; it has no clock and no threads.

If another process keeps a CPU busy, every parallel region waits for the thread that shares that CPU
with it, some three hundred times a pass. Fewer threads may then be faster, which can only be
measured. The blocks of a model take equal time, so one pass compares two numbers of threads: its
first blocks run on the present number, the others on the one on trial. They do not take turns block
by block, because a scheduler favours a thread that has slept: one that shares its CPU would seem
faster than it is if it slept through every other block.
"""

from dataclasses import dataclass

# A trial ends as soon as it has lost or gained so much time, and such a share of what the present
# number would have taken ...
CLEAR_S, CLEAR_LOSS, CLEAR_GAIN = 0.01, 0.1, 0.25
# ... or once it has compared so much time and so many blocks. Then the other number must be better
# by a margin, so that equally good ones do not alternate.
ENOUGH_S, ENOUGH_BLOCKS, MARGIN = 0.1, 8, 0.03
# Trials that change nothing become rarer; after a change the next one comes soon. What a trial
# loses is at most one part in so many of the time until the next.
LEAST_WAIT_S, MOST_WAIT_S, WAIT_PER_LOSS = 1.0, 10.0, 20
# The calling thread computes for a share of the time; for the rest it waits, for other threads or
# for a CPU. If this share, averaged over some time, differs so much from what it was after the last
# trial, the CPUs have other users now, and the next trial comes sooner by a factor.
OTHER_SHARE, AVERAGED_S, WAIT_IF_CHANGED = 0.25, 0.2, 4


@dataclass
class Trial:
    """Blocks that ran on another number of threads.

    Attributes:
        threads: that number.
        seconds: what the blocks took.
        busy_s: of these, what the calling thread computed.
        expected_s: what the blocks would have taken on the present number.
    """

    threads: int
    blocks: int = 0
    seconds: float = 0.0
    busy_s: float = 0.0
    expected_s: float = 0.0

    def won(self) -> bool | None:
        """Whether this number is better than the present one; None if more blocks must tell."""
        gain_s = self.expected_s - self.seconds
        if gain_s > max(CLEAR_S, CLEAR_GAIN * self.expected_s):
            return True
        if -gain_s > max(CLEAR_S, CLEAR_LOSS * self.expected_s):
            return False
        if self.expected_s >= ENOUGH_S and self.blocks >= ENOUGH_BLOCKS:
            return gain_s > MARGIN * self.expected_s
        return None


class ThreadPolicy:
    """How many threads the passes of one size shall use, between 1 and ``most``.

    For every pass call ``begin``, then ``end_block`` after each of its blocks.

    Args:
        most: threads that may be used.
        threads: the number to begin with.
        now: seconds of a clock that never goes back.

    Attributes:
        threads: the number that is thought best.
    """

    def __init__(self, most: int, threads: int, now: float) -> None:
        self.most = most
        self.threads = threads
        self._step = 0
        self._trial: Trial | None = None
        self._wait_s = LEAST_WAIT_S
        self._may_try, self._must_try = now, now + LEAST_WAIT_S
        self._share = self._share_at_trial = 1.0

    def begin(self, now: float, blocks: int) -> None:
        """Begin a pass of so many equal blocks, the first of them on ``threads`` threads."""
        self._now = now
        self._blocks = blocks
        self._done = 0
        self._done_s = 0.0
        self._on_trial = False

    def end_block(self, seconds: float, busy_s: float) -> int:
        """The number of threads for the next block.

        Args:
            seconds: that the block took.
            busy_s: processor time that the calling thread used in it.
        """
        self._now += seconds
        if self._on_trial:
            self._compare(seconds, busy_s)
        else:
            self._done += 1
            self._done_s += seconds
            self._share += min(1.0, seconds / AVERAGED_S) * (busy_s / seconds - self._share)
            if self._done >= self._blocks / 2 or self._done_s >= ENOUGH_S:
                self._try()
        return self._trial.threads if self._trial and self._on_trial else self.threads

    def _try(self) -> None:
        """Run the next blocks on another number if a trial goes on or is due."""
        users_changed = abs(self._share - self._share_at_trial) > OTHER_SHARE
        due = self._now >= (self._may_try if users_changed else self._must_try)
        if self._trial is None and due and self.most > 1:
            self._trial = Trial(self._candidate())
        self._on_trial = self._trial is not None

    def _candidate(self) -> int:
        """One thread less or more, or half or twice as many, in turn."""
        now = self.threads
        steps = dict.fromkeys((now - 1, now + 1, now // 2, min(2 * now, self.most)))
        possible = [threads for threads in steps if 1 <= threads <= self.most and threads != now]
        return possible[self._step % len(possible)]

    def _compare(self, seconds: float, busy_s: float) -> None:
        """Count a block of the trial, and end the trial if its result is clear."""
        trial = self._trial
        assert trial is not None
        trial.blocks += 1
        trial.seconds += seconds
        trial.busy_s += busy_s
        trial.expected_s += self._done_s / self._done
        won = trial.won()
        if won is None:
            return
        if won:
            self.threads = trial.threads
            self._wait_s = LEAST_WAIT_S
            self._share = trial.busy_s / trial.seconds
        else:
            self._step += 1
            self._wait_s = min(2 * self._wait_s, MOST_WAIT_S)
        loss_s = max(0.0, trial.seconds - trial.expected_s)
        rest_s = max(LEAST_WAIT_S, WAIT_PER_LOSS * loss_s, self._wait_s / WAIT_IF_CHANGED)
        self._may_try = self._now + rest_s
        self._must_try = self._now + max(rest_s, self._wait_s)
        self._share_at_trial = self._share
        self._trial, self._on_trial = None, False
