"""A hard day of a cluster: it grows, loses a replica, gets new weights and shrinks, under load."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vimserve.loadtests.cluster.day import LOST, Day, Part
from vimserve.loadtests.cluster.overhead import CLUSTER
from vimserve.loadtests.common.checks import Scores
from vimserve.loadtests.common.client import open_session
from vimserve.loadtests.common.mix import Mix
from vimserve.loadtests.common.sender import Sender
from vimserve.loadtests.common.server import ServerProcess, serving
from vimserve.model import catalog

TIMEOUT_MS, MISSING_S = 60_000, 60.0
SCALING = ("--replicas", "1-2", "--scale-seconds", "0.2", "--scale-down-after", "5")
ENDS = ("answered", "refused", "hung up", "lost", "wrong")


def live_through(seed: int, clients: int) -> bool:
    """Print what happened and how all requests ended; False if one ended as it must not.

    What is right is what a single server answers.

    Raises:
        RuntimeError: a server does not start.
        TimeoutError: an event does not happen.
    """
    mix = Mix(seed, TIMEOUT_MS)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "demo.safetensors")
        weights.write_bytes(Path(str(catalog.resolve("demo").source)).read_bytes())
        flags = ["--model", f"demo={weights}?resolution=256&fit=contain"]
        with serving(flags) as alone:
            right = asyncio.run(_references(alone, mix))
        with serving([*flags, *SCALING], CLUSTER) as server:
            day = asyncio.run(_live(server, weights, mix, right, clients))
    print(f"\n{'':<24}{'requests':>10}" + "".join(f"{end:>10}" for end in ENDS))
    for part in day:
        counts = "".join(f"{part.counts[end]:>10}" for end in ENDS)
        print(f"{part.event:<24}{len(part.outcomes):>10}{counts}")
    ends = Counter(one.end for part in day for one in part.outcomes)
    print(", ".join(f"{end}: {number}" for end, number in ends.most_common()))
    return _is_well(day, clients)


async def _references(alone: ServerProcess, mix: Mix) -> Sequence[Scores]:
    async with open_session(alone.url) as session:
        return (await Sender.of(session, mix, MISSING_S)).known[0]


async def _live(
    server: ServerProcess, weights: Path, mix: Mix, right: Sequence[Scores], clients: int
) -> Sequence[Part]:
    async with open_session(server.url) as session:
        sender = Sender(session, len(right[0]), mix, right, MISSING_S)
        day = Day(server, session, sender, mix, weights)
        async with asyncio.TaskGroup() as group:
            events = group.create_task(_events(day))
            await asyncio.sleep(0)  # the first event has begun
            for _ in range(clients):
                group.create_task(day.client())
            await events
            day.over.set()
    return day.parts


async def _events(day: Day) -> None:
    await day.grow()
    await day.lose_one()
    await day.renew()
    await day.shrink()


def _is_well(day: Sequence[Part], clients: int) -> bool:
    """Whether nothing was wrong, and nothing lost but what a dead replica had."""
    for part in day:
        wrong = {one.end: one for one in part.outcomes if one.wrong and one.slug != LOST}
        for one in wrong.values():
            print(f"{part.event}, {one.kind}: {one.wrong}")
    lost = [part.counts["lost"] for part in day]
    return not any(part.counts["wrong"] for part in day) and max(lost) == sum(lost) <= clients
