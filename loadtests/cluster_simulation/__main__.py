"""What a cluster of many replicas would do, without having one.

``python -m vimserve.loadtests.cluster_simulation`` prints tables, ``--only loads`` one of them.

Each replica is the server's own queue, scheduler and cost curve on a device that only exists as a
cost curve, as in ``mixed_sizes --simulate``. Ingresses choose replicas with the cluster's own
router, by two choices and requests in flight, or at random. Images have the sizes of the recorded
trace and arrive at random; a load of 1 is what all replicas keep up with if their batches are full.
Nothing sleeps, and but for ``costs`` every run prints the same.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from math import ceil

from vimserve.loadtests.cluster_simulation.arrivals import daily
from vimserve.loadtests.cluster_simulation.costs import router_cost
from vimserve.loadtests.cluster_simulation.day import Part, scale
from vimserve.loadtests.cluster_simulation.policies import POLICIES
from vimserve.loadtests.cluster_simulation.runs import REPORT_S, WARM_UP_REPORTS, Run, run
from vimserve.loadtests.common.options import count
from vimserve.loadtests.mixed_sizes.simulate import DEVICES
from vimserve.loadtests.mixed_sizes.trace import TRACE, Arrival, read

LOADS = (0.5, 0.8, 0.95)
LOAD = 0.8
REPORTS_S = (0.1, 0.5, 2.0, 5.0)
# Of many replicas so many requests arrive in a second that reports cannot be older here.
REPORTS_OF_MANY_S = (0.1, 0.5, 2.0)
# Replicas and ingresses: one for every eight, which get some 400 requests a second on CPUs.
SIZES = ((8, 1), (64, 8), (512, 64))
HOUR_S = 3600.0
# Of a replica, at noon in the mean of the day: at the peak 1.6 times that.
MEAN_LOAD = 1.8
STARTS_S = (15.0, 60.0, 180.0)
STEP_S = 60.0
HEAD = f"{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"
RUN_HEAD = f"{HEAD}{'busy':>8}{'a batch':>9}{'unanswered':>12}"


def loads(sizes: Sequence[Arrival], images: int) -> Iterator[str]:
    """Eight replicas, three loads, three ways to choose."""
    yield f"{'8 replicas':<14}{'load':>6}{'requests/s':>12}  {'by':<10}{RUN_HEAD}"
    for device, load in ((device, load) for device in DEVICES for load in LOADS):
        for policy in POLICIES:
            # A GPU has as many images in as much time as matters.
            one = run(
                DEVICES[device], sizes, policy, replicas=8, load=load,
                images=images * (4 if device == "gpu" else 1),
            )  # fmt: skip
            yield f"{device:<14}{load:>6g}{one.rate:>12.0f}  {policy:<10}{_figures(one)}"


def reports(sizes: Sequence[Arrival], images: int) -> Iterator[str]:
    """What old reports cost, and ingresses that do not see what the others send."""
    yield f"{'CPUs, load 0.8':<16}{'ingresses':>10}{'reports':>12}{RUN_HEAD}"
    few = ((8, ingresses, report_s) for ingresses in (1, 4, 16) for report_s in REPORTS_S)
    many = ((*SIZES[-1], report_s) for report_s in REPORTS_OF_MANY_S)
    for number, ingresses, report_s in (*few, *many):
        one = run(
            DEVICES["cpu"], sizes, "tokens", replicas=number, load=LOAD, ingresses=ingresses,
            images=max(images, _enough(sizes, number, report_s)), report_s=report_s,
        )  # fmt: skip
        yield f"{number:<16}{ingresses:>10}{f'every {report_s:g} s':>12}{_figures(one)}"


def replicas(sizes: Sequence[Arrival], images: int) -> Iterator[str]:
    """More replicas, with as many ingresses as they need."""
    yield f"{'CPUs, load 0.8':<16}{'ingresses':>10}{'requests/s':>12}  {'by':<10}{RUN_HEAD}"
    for number, ingresses in SIZES:
        for policy in POLICIES:
            one = run(
                DEVICES["cpu"], sizes, policy, replicas=number, load=LOAD,
                images=max(images, _enough(sizes, number, REPORT_S)), ingresses=ingresses,
            )  # fmt: skip
            yield f"{number:<16}{ingresses:>10}{one.rate:>12.0f}  {policy:<10}{_figures(one)}"


def costs(sizes: Sequence[Arrival], _images: int) -> Iterator[str]:
    """What the router takes of an ingress's processor, and the registry of its own."""
    yield (
        f"{'replicas':<10}{'ingresses':>10}{'rank µs':>10}{'tell µs':>10}{'hear µs':>10}"
        f"{'of a router':>13}{'of the registry':>17}"
    )
    for number, ingresses in SIZES:
        cost = router_cost(number)
        rate = LOAD * number * DEVICES["cpu"].throughput(sizes) / ingresses
        yield (
            f"{number:<10}{ingresses:>10}"
            + "".join(f"{s * 1e6:>10.0f}" for s in (cost.rank_s, cost.tell_s, cost.hear_s))
            + f"{cost.of_a_router(rate):>13.2%}{cost.of_the_registry(ingresses):>17.2%}"
        )


def day(sizes: Sequence[Arrival], images: int) -> Iterator[str]:
    """Parts of a day, and a rate that doubles at once, with one to four replicas."""
    yield (
        f"{'1 to 4 CPUs':<20}{'starts in':>10}{'requests/s':>14}{'on average':>12}{HEAD}"
        f"{'unanswered':>12}  replicas"
    )
    minutes = images / 1000
    for part, start_s in _parts(minutes):
        one = scale(DEVICES["cpu"], sizes, part, start_s)
        rates = " to ".join(f"{rate:.0f}" for rate in one.rates)
        yield (
            f"{part.name:<20}{f'{start_s:g} s':>10}{rates:>14}{one.mean:>12.2f}"
            + "".join(f"{seconds * 1e3:>9.0f}" for seconds in one.percentiles_s)
            + f"{one.unanswered:>12.2%}  {', '.join(map(str, one.replicas))}"
        )


SECTIONS: dict[str, Callable[[Sequence[Arrival], int], Iterator[str]]] = {
    "loads": loads, "reports": reports, "replicas": replicas, "day": day, "costs": costs,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate what is asked for and print it."""
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.cluster_simulation",
        description=__doc__.partition("\n")[0],
    )
    parser.add_argument(
        "--only", choices=SECTIONS, action="append", help="this table, repeatable [all]"
    )
    parser.add_argument(
        "--images",
        type=count,
        default=20_000,
        help="of a run; a thousand stand for a minute of the day [%(default)s]",
    )
    options = parser.parse_args(arguments)
    sizes = read(TRACE)
    for name in options.only or SECTIONS:
        for line in SECTIONS[name](sizes, options.images):
            print(line, flush=True)
        print()


def _enough(sizes: Sequence[Arrival], replicas: int, report_s: float) -> int:
    """Images of a run of CPUs of which the last two seconds count."""
    return ceil(
        LOAD * replicas * DEVICES["cpu"].throughput(sizes) * (WARM_UP_REPORTS * report_s + 2)
    )


def _parts(minutes: float) -> Iterator[tuple[Part, float]]:
    def mean(at: float) -> float:
        return MEAN_LOAD * daily(at)

    for name, hour in (("night", 2), ("morning", 8), ("afternoon", 14), ("evening", 20)):
        yield Part(name, mean, hour * HOUR_S, 60 * minutes), STARTS_S[1]
    for start_s in STARTS_S:
        yield Part("twice as many", lambda at: 1.2 * (1 + (at >= STEP_S)), 0, 30 * minutes), start_s


def _figures(one: Run) -> str:
    return (
        "".join(f"{seconds * 1e3:>9.0f}" for seconds in one.percentiles_s)
        + f"{one.busy:>8.0%}{one.images_per_batch:>9.1f}{one.unanswered:>12.2%}"
    )


if __name__ == "__main__":
    main()
