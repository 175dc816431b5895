"""Which replicas there shall be, and what of the machines each of them gets."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vimserve.server.cluster.standing import ALL
from vimserve.server.config.cluster import ClusterConfig

_COUNT = re.compile(r"([1-9][0-9]{0,5})(?:-([1-9][0-9]{0,5}))?", re.ASCII)


@dataclass(frozen=True)
class Machine:
    """What replicas may use of a machine."""

    cpus: int
    gpus: int = 0


@dataclass(frozen=True)
class Group:
    """Replicas that are alike.

    Attributes:
        name: of its model, or ``ALL``.
        models: as ``--model`` names them; each of its replicas serves all of them.
        least: replicas that there are at any rate.
        most: replicas that there are under load.
    """

    name: str
    models: tuple[str, ...]
    least: int
    most: int


@dataclass(frozen=True)
class Layout:
    """All groups, and what each of their replicas gets.

    Attributes:
        groups: at least one.
        cpus: of each replica: its share, and the threads of its forward passes.
        gpus: of each replica, 0 or 1.
        neighbours: most replicas that share the memory of a machine.
        spare: whether one more replica fits than there may be.
    """

    groups: tuple[Group, ...]
    cpus: int
    gpus: int
    neighbours: int
    spare: bool


def layout_of(config: ClusterConfig, machines: Sequence[Machine]) -> Layout:
    """The replicas that the settings ask for, on these machines.

    Raises:
        ValueError: there is no such model, no such number, or too little of the machines.
    """
    gpu = config.device.startswith("cuda")
    usual = _automatic(config, machines, gpu)
    groups = (*_groups(config, usual),)
    most = sum(group.most for group in groups)
    if gpu:
        _check_gpus(most, sum(machine.gpus for machine in machines))
        with_gpus = [machine for machine in machines if machine.gpus]
        cpus = config.threads or max(1, min(one.cpus // one.gpus for one in with_gpus))
        places = [machine.gpus for machine in with_gpus]
    else:
        cpus = config.threads or _share(most, machines)
        places = [machine.cpus // cpus for machine in machines]
        _check_cpus(most, cpus, sum(places), machines)
    neighbours = min(max(places), most)
    return Layout(groups, cpus, int(gpu), neighbours, spare=sum(places) > most)


def layout_on_demand(config: ClusterConfig) -> Layout:
    """The replicas that the settings ask for, on machines that come when replicas need them.

    Raises:
        ValueError: there is no such model or number, or what the machines would tell is not said.
    """
    gpu = config.device.startswith("cuda")
    if config.replicas == "auto" and not config.placement:
        raise ValueError("replicas: say how many, such as 2 or 1-4; there is no machine to tell")
    if config.threads is None and not gpu:
        raise ValueError("threads: say how many CPUs a replica has; there is no machine to tell")
    return Layout((*_groups(config, 1),), config.threads or 1, int(gpu), neighbours=1, spare=False)


def name_of(model: str) -> str:
    """The name of a model that ``--model`` gives as a name or as NAME=FILE."""
    return model.partition("=")[0]


def _groups(config: ClusterConfig, usual: int) -> Iterator[Group]:
    if not config.placement:
        yield Group(ALL, config.model, *_count("replicas", config.replicas, usual))
        return
    models = {name_of(model): model for model in config.model}
    for item in config.placement:
        name, assigned, count = item.partition("=")
        if not assigned:
            raise ValueError(f"placement: write MODEL=NUMBER, such as {name}=2, not {item!r}")
        if name not in models:
            raise ValueError(
                f"placement: there is no model {name!r}, or it is named twice; --model has "
                f"{', '.join(map(name_of, config.model))}"
            )
        yield Group(name, (models.pop(name),), *_count("placement", count, 1))
    if models:
        raise ValueError(f"placement: nothing would serve {', '.join(models)}; give each a number")


def _count(setting: str, text: str, usual: int) -> tuple[int, int]:
    """The least and the most replicas."""
    if text == "auto":
        return usual, usual
    found = _COUNT.fullmatch(text)
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if least > most:
        raise ValueError(
            f"{setting}: a number of replicas is N, LEAST-MOST or auto, such as 2 or 1-4, "
            f"not {text!r}"
        )
    return least, most


def _automatic(config: ClusterConfig, machines: Sequence[Machine], gpu: bool) -> int:
    if gpu:
        return max(sum(machine.gpus for machine in machines), 1)
    if config.threads is None:
        return len(machines)
    return max(sum(machine.cpus // config.threads for machine in machines), 1)


def _share(most: int, machines: Sequence[Machine]) -> int:
    """The most CPUs that each of the replicas can have, at least 1."""
    largest = max(machine.cpus for machine in machines)
    shares = range(largest, 1, -1)
    fits = (n for n in shares if sum(machine.cpus // n for machine in machines) >= most)
    return next(fits, 1)


def _check_gpus(most: int, there: int) -> None:
    if most > there:
        raise ValueError(
            f"{most} replicas need a GPU each, but there are {there} of them: ask for fewer "
            "replicas, or for --device cpu"
        )


def _check_cpus(most: int, cpus: int, places: int, machines: Sequence[Machine]) -> None:
    if most > places:
        there = ", ".join(str(machine.cpus) for machine in machines)
        raise ValueError(
            f"{most} replicas with {cpus} CPU threads each do not fit; the machines have {there} "
            f"CPUs, enough for {places}: ask for fewer replicas or --threads"
        )
