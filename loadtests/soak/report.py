"""The figures of a soak, and which of them are failures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vimserve.loadtests.common.checks import Outcome
from vimserve.loadtests.common.process import Usage
from vimserve.loadtests.soak.watch import Snapshot, busy_shares, growth_per_minute, saturated

SIDES = (256, 512, 1024)
# In a shorter run the memory may still grow because the queue fills for the first time.
JUDGED_AFTER_S = 120.0
MOST_GROWTH_MB = 50.0
# Pools may start a thread late, and a connection may not have closed yet.
MORE_THREADS, MORE_DESCRIPTORS = 4, 2
WRONG_NAMED = 10


@dataclass(frozen=True)
class Latency:
    """Of all answers of one class of sizes, in seconds from when their requests were to be sent."""

    answered: int
    p50: float
    p95: float
    p99: float
    longest: float


@dataclass
class Report:
    """What happened in a soak.

    Attributes:
        rate: requests sent a second.
        late_s: how long after its deadline an answer is a failure.
        capacity: answers a second to clients in a closed loop; None if that was not measured.
        sent: how many requests were sent.
        ends: how many requests ended in which way, by kind.
        latency: by class of sizes.
        longest_lag_s: by how much, at most, a request was sent too late.
        before: what the server's process held before the load; None if that is not known.
        after: the same after the load.
        growth_mb_per_minute: of the resident memory over the last half of the load.
        busy: the device's share of the time while images waited, on the average and in the idlest
            5 s.
        snapshots: of the server during the load.
        failures: what should have been otherwise, in words.
    """

    rate: float
    late_s: float = 1.0
    capacity: float | None = None
    sent: int = 0
    ends: dict[str, dict[str, int]] = field(default_factory=dict)
    latency: dict[str, Latency] = field(default_factory=dict)
    longest_lag_s: float = 0
    before: Usage | None = None
    after: Usage | None = None
    growth_mb_per_minute: float | None = None
    busy: tuple[float, float] | None = None
    snapshots: list[Snapshot] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Count how the requests ended, work out the latencies, and judge both."""
        ends: dict[str, Counter[str]] = {}
        for outcome in outcomes:
            ends.setdefault(outcome.kind, Counter())[outcome.end] += 1
        self.ends = {kind: dict(counts) for kind, counts in ends.items()}
        self.longest_lag_s = max((outcome.lag_s for outcome in outcomes), default=0)
        counted = sum(sum(counts.values()) for counts in ends.values())
        if counted != self.sent:
            self.failures.append(f"{self.sent} were sent, {counted} ended")
        self.add_wrong(outcomes)
        accepted = [outcome for outcome in outcomes if outcome.status == 200]
        if not accepted:
            self.failures.append("not one request was answered")
        late = [o for o in accepted if o.late_s > self.late_s]
        if late:
            worst = max(late, key=lambda outcome: outcome.late_s)
            self.failures.append(
                f"{len(late)} answers came late, one {worst.late_s:.2f} s after its deadline of "
                f"{worst.timeout_s:g} s"
            )
        lower = 0
        for upper in (*SIDES, None):
            inside = [o for o in accepted if lower < o.side <= (upper or o.side)]
            if inside:
                times = [outcome.latency_s for outcome in inside]
                quantiles = np.percentile(times, (50, 95, 99, 100)).tolist()
                name = f"to {upper}" if upper else f"over {lower}"
                self.latency[name] = Latency(len(inside), *quantiles)
            lower = upper or lower

    def add_wrong(self, outcomes: Sequence[Outcome]) -> None:
        """Add what was wrong with requests to the failures, each thing once."""
        wrong = Counter(f"{o.kind}: {o.wrong}" for o in outcomes if o.wrong)
        for what, count in wrong.most_common(WRONG_NAMED):
            self.failures.append(f"{count} × {what}")
        if len(wrong) > WRONG_NAMED:
            self.failures.append(f"and {len(wrong) - WRONG_NAMED} other kinds of fault")

    def add_snapshots(self, snapshots: list[Snapshot]) -> None:
        """Judge how the memory grew, and work out how busy the device was."""
        self.snapshots = snapshots
        self.growth_mb_per_minute = growth_per_minute(snapshots)
        self.busy = busy_shares(saturated(snapshots))
        seconds = snapshots[-1].time_s - snapshots[0].time_s if snapshots else 0
        if self.growth_mb_per_minute is not None and seconds >= JUDGED_AFTER_S:
            growth = self.growth_mb_per_minute * seconds / 2 / 60
            if growth > MOST_GROWTH_MB:
                self.failures.append(
                    f"the memory grew by {growth:.0f} MB in the last {seconds / 2:.0f} s, the "
                    f"limit is {MOST_GROWTH_MB:.0f}"
                )

    def add_usage(self, before: Usage, after: Usage) -> None:
        """Compare what the process held before the load with what it holds after it."""
        self.before, self.after = before, after
        for name, start, end, more in (
            ("threads", before.threads, after.threads, MORE_THREADS),
            ("descriptors", before.file_descriptors, after.file_descriptors, MORE_DESCRIPTORS),
        ):
            if end > start + more:
                self.failures.append(f"{name}: {start} before, {end} after")

    def table(self) -> str:
        """The figures and the failures, for a person to read."""
        capacity = "" if self.capacity is None else f"capacity {self.capacity:.1f}/s, "
        lines = [f"{capacity}{self.rate:.1f} requests/s, {self.sent} sent, at most "
                 f"{self.longest_lag_s * 1e3:.0f} ms late"]  # fmt: skip
        for kind, counts in self.ends.items():
            told = ", ".join(f"{count} {end}" for end, count in sorted(counts.items()))
            lines.append(f"  {kind:<16}{told}")
        lines.append(f"{'longest side':<18}{'answers':>8}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}")
        for name, figures in self.latency.items():
            times = (figures.p50, figures.p95, figures.p99, figures.longest)
            lines.append(
                f"  {name:<16}{figures.answered:>8}" + "".join(f"{t * 1e3:>6.0f} ms" for t in times)
            )
        if self.before and self.after:
            growth = self.growth_mb_per_minute
            slope = "" if growth is None else f", {growth:+.1f} MB/min over the last half"
            lines += [
                f"memory       {self.before.resident_bytes / 1e6:.0f} MB before, "
                f"{self.after.resident_bytes / 1e6:.0f} after{slope}",
                f"descriptors  {self.before.file_descriptors} before, "
                f"{self.after.file_descriptors} after",
                f"threads      {self.before.threads} before, {self.after.threads} after",
            ]
        if self.busy:
            mean, lowest = self.busy
            lines.append(f"device       busy {mean:.1%} under load, {lowest:.1%} in the idlest 5 s")
        lines += [f"FAILED: {failure}" for failure in self.failures]
        return "\n".join(lines)
